"""The greedy loop, its criteria and structures, on small nets of random weights."""

import dataclasses

import pytest
import torch
from torch import nn

from stages.lib import macs, models, surgery, training
from stages.lib.data import Split
from stages.lib.errors import StageError
from stages.papers.discriminant_information_pruning import criteria, information, maps, structure
from stages.papers.discriminant_information_pruning import greedy as loop
from stages.papers.discriminant_information_pruning.division import divided
from stages.papers.discriminant_information_pruning.greedy import greedy
from stages.papers.discriminant_information_pruning.prune import Interlude, Precision, PruneParams

CPU = torch.device("cpu")
CLASSES = 4


def params(**changes) -> PruneParams:
    settings = PruneParams(
        budget=0.5, layers="accuracy", delta=0.08, most=0.9, hook="output", ridge="relative", rho=0.1, batches=2, batch=40,
        limit=160, holdout=40, interlude=Interlude(2, 0, 0.02, 40, 5e-4), precision=Precision([2, 3, 4], 3),
    )  # fmt: skip
    return dataclasses.replace(settings, **changes)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """As in the stages; small products are slower with more."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def split() -> Split:
    generator = torch.Generator().manual_seed(0)
    patterns = torch.randn(CLASSES, 1, 8, 8, generator=generator)
    labels = torch.arange(240) % CLASSES
    images = patterns[labels] + torch.randn(240, 1, 8, 8, generator=generator)
    return Split(images, labels, tuple("abcd"), (0.0,), (1.0,), "sample", "train")


@pytest.fixture(scope="module")
def net(split) -> nn.Module:
    torch.manual_seed(0)
    model = models.preresnet([2, 2], [8, 12], CLASSES, in_channels=1, image=8)
    images, _ = divided(split, 160, 40)
    training.train(model, images, epochs=2, lr=0.05, batch=40, seed=0)
    return model.eval()


def budget(net, share: float = 0.5) -> int:
    return structure.budget_of(net.record(), share)


# --- the loop ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("score", criteria.NAMES)
def test_every_score_meets_the_budget_within_one_channel(net, split, score):
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    thin, record = greedy(net, split, budget(net), score, params(), 3, CPU)
    found = macs.total(thin.record()).macs
    last = record["steps"][-1]
    assert found == last["macs"] <= budget(net) < found + last["saved"]
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert record["surgery_gap"] < 1e-5
    again, twice = greedy(net, split, budget(net), score, params(), 3, CPU)
    assert twice == record
    assert all(torch.equal(a, b) for a, b in zip(thin.state_dict().values(), again.state_dict().values()))


def test_every_step_lowers_macs_and_only_narrows(net, split):
    record = greedy(net, split, budget(net, 0.3), "di", params(), 0, CPU)[1]
    assert all(step["saved"] > 0 for step in record["steps"])
    widths = {layer["site"]: layer["channels"] for layer in record["layers"]}
    for step in record["steps"]:
        assert step["kept"] < widths[step["site"]]
        widths[step["site"]] = step["kept"]
    assert widths == {layer["site"]: len(layer["kept"]) for layer in record["layers"]}
    assert 0 < min(record["information_share"].values()) <= max(record["information_share"].values()) < 1


def start(net, split, **changes) -> loop.Pruning:
    settings = params(**changes)
    images, _ = divided(split, settings.limit, settings.holdout)
    batches = information.balanced_batches(images, settings.batches, settings.batch, 0)
    kept = {s.name: torch.arange(surgery.channels(net, s)) for s in net.sites()}
    chosen = criteria.criterion("di", net, batches, settings, 0)
    chosen.refresh(net, kept)
    return loop.Pruning(net, kept, budget(net, 0.1), settings, chosen, None, [])


@pytest.mark.parametrize("delta", [0.02, 0.05, 0.1])
def test_candidates_of_a_step_cost_the_same_within_a_channel(net, split, delta):
    run = start(net, split, delta=delta)
    for candidate in loop.candidates(run, run.macs):
        narrower = len(candidate.kept) - 1
        each = candidate.macs - structure.cost(net.record(), run.widths | {candidate.site.name: narrower})
        saved = run.macs - candidate.macs
        assert saved == run.macs - structure.cost(net.record(), run.widths | {candidate.site.name: len(candidate.kept)})
        assert delta * run.macs - 1e-6 <= saved <= delta * run.macs + each


def test_the_winner_is_the_most_accurate_candidate(net, split):
    run = start(net, split)
    _, held_out = divided(split, 160, 40)
    found = loop.candidates(run, run.macs)
    loop._by_accuracy(run, found, held_out)
    for candidate in found:
        masked = surgery.mask(net, run.kept | {candidate.site.name: candidate.kept})
        assert candidate.worth == training.evaluate(masked, held_out)


def test_layers_beyond_the_limit_are_left_alone(net, split):
    run = start(net, split, most=0.4)
    first = net.sites()[0].name
    run.kept[first] = run.kept[first][:4]
    assert first not in [candidate.site.name for candidate in loop.candidates(run, run.macs)]
    with pytest.raises(StageError, match="no structure meets it"):
        greedy(net, split, budget(net, 0.3), "l1", params(most=0.4), 0, CPU)


def test_masks_survive_training_between_steps(net, split):
    settings = params(interlude=Interlude(1, 1, 0.05, 40, 5e-4))
    thin, record = greedy(net, split, budget(net, 0.6), "di", settings, 0, CPU)
    kept = [torch.tensor(layer["kept"]) for layer in record["layers"]]
    assert [len(index) for index in kept] == [surgery.channels(thin, site) for site in thin.sites()]
    assert record["surgery_gap"] < 1e-4  # columns that momentum had revived would show here
    assert not torch.equal(thin.fc.weight, net.fc.weight)


def test_layers_chosen_by_information_lose_the_least_of_it(net, split):
    settings = params(layers="information")
    thin, record = greedy(net, split, budget(net), "di", settings, 0, CPU)
    assert macs.total(thin.record()).macs <= budget(net)
    first = record["steps"][0]
    run = start(net, split)
    whole, worth = run.criterion.layers, []
    for candidate in loop.candidates(run, run.macs):
        name, lost = candidate.site.name, 0.0
        for batch in run.criterion.batches:
            features = maps.site_maps(net, batch.x, "output")[name]
            full = information.of_maps(features, batch.y, CLASSES, settings)
            some = loop.information.discriminant.analyse(features[:, candidate.kept], batch.y, CLASSES, full.rho)
            lost += full.value - some.value
        worth.append((-lost / whole.value(name) / (run.macs - candidate.macs), name))
    assert max(worth)[1] == first["site"]
    assert max(worth)[0] == pytest.approx(first["worth"], rel=1e-6)
    assert greedy(net, split, budget(net), "l1", settings, 0, CPU)[1]["steps"]


def test_plain_and_bottleneck_nets_are_pruned_too(split):
    torch.manual_seed(1)
    for model in (
        models.vgg([8, 8, "M", 12, 12], CLASSES, in_channels=1, image=8),
        models.preresnet([1, 1], [4, 6], CLASSES, in_channels=1, image=8, bottleneck=True),
    ):
        for score in ("di_exact", "dcp", "leverage"):
            thin, record = greedy(model.eval(), split, budget(model, 0.6), score, params(hook="activation"), 0, CPU)
            assert macs.total(thin.record()).macs <= budget(model, 0.6)
            assert record["surgery_gap"] < 1e-5


# --- scores -----------------------------------------------------------------------------------------------------------


def test_di_of_the_masked_net_is_that_of_the_kept_channels(net, split):
    run = start(net, split)
    site = net.sites()[1].name
    run.kept[site] = run.kept[site][[1, 3, 4]]
    masked = surgery.mask(net, run.kept)
    found = information.of_sites(masked, run.kept, run.criterion.batches, run.params)
    thin = surgery.cut(masked, run.kept).eval()
    whole = {name: torch.arange(len(index)) for name, index in run.kept.items()}
    small = information.of_sites(thin, whole, run.criterion.batches, run.params)
    for name in run.kept:
        assert torch.allclose(found.scores(name, exact=False), small.scores(name, exact=False), rtol=1e-3)


def test_hooks_see_the_convolution_or_what_its_bn_and_relu_make_of_it(net, split):
    x = split.x[:10]
    site = net.sites()[2]
    raw, active = (maps.site_maps(net, x, hook)[site.name] for hook in maps.HOOKS)
    assert torch.allclose(net.get_submodule(site.norm)(raw).relu(), active, atol=1e-6)


def test_batches_are_balanced_disjoint_and_the_repetitions_own(split):
    numbered = dataclasses.replace(split, x=torch.arange(240.0).view(-1, 1, 1, 1))
    batches = information.balanced_batches(numbered, 3, 80, 7)
    assert sorted(torch.cat([b.x for b in batches]).flatten().tolist()) == list(range(240))
    assert all(b.y.bincount().tolist() == [20] * CLASSES for b in batches)
    again, other = (information.balanced_batches(numbered, 3, 80, seed) for seed in (7, 8))
    assert torch.equal(batches[0].x, again[0].x)
    assert not torch.equal(batches[0].x, other[0].x)
    with pytest.raises(StageError, match="lower batch"):
        information.balanced_batches(numbered, 4, 80, 7)


def test_leverage_scores_are_row_norms_of_the_leading_vectors():
    filters = torch.randn(6, 3, 2, 2)
    scores = criteria.leverage_scores(filters, 4)
    assert float(scores.sum()) == pytest.approx(4)
    assert ((scores >= 0) & (scores <= 1 + 1e-9)).all()
    flat = filters.double().flatten(1)
    values, vectors = torch.linalg.eigh(flat @ flat.T)
    assert torch.allclose(scores, vectors[:, values.argsort(descending=True)[:4]].square().sum(1))


def test_baseline_scores_are_what_they_say(net, split):
    site, batches = net.sites()[0], start(net, split).criterion.batches
    active = torch.tensor([0, 2, 5, 7])
    for name, expected in (
        ("l1", net.get_submodule(site.producer).weight[active].abs().flatten(1).sum(1)),
        ("bn_scale", net.get_submodule(site.norm).weight[active].abs()),
    ):
        chosen = criteria.criterion(name, net, batches, params(), 0)
        chosen.refresh(net, {})
        assert chosen.best(site, active, 2).tolist() == sorted(active[expected.argsort(descending=True)[:2]].tolist())
    random = criteria.criterion("random", net, batches, params(), 0)
    random.refresh(net, {})
    best = random.best(site, torch.arange(8), 4)
    assert set(random.best(site, best, 2).tolist()) <= set(best.tolist())  # one order: what is gone stays gone


def test_dcps_score_is_the_gradient_at_an_empty_layer(net, split):
    batch = split.take(slice(0, 80))
    site = net.sites()[1]
    before = net.get_submodule(site.consumer).weight.detach().clone()
    scores = criteria.criterion("dcp", net, [batch], params(), 0).scores(site, torch.arange(8), 4)
    layer = net.get_submodule(site.consumer)
    assert torch.equal(layer.weight, before)
    target = maps.outputs(net, [site.consumer], batch.x)[site.consumer]
    step, channel = 1e-2, 3
    empty = surgery.mask(net, {site.name: torch.tensor([channel])})  # other channels at zero, this one set below

    def loss(weight) -> float:
        with torch.no_grad():
            empty.get_submodule(site.consumer).weight.zero_()
            empty.get_submodule(site.consumer).weight[:, channel] = weight
            seen = maps.outputs(empty, [site.consumer], batch.x)[site.consumer]
            return float(nn.functional.mse_loss(seen, target) + nn.functional.cross_entropy(empty(batch.x), batch.y))

    gradient = torch.zeros(8, 9)
    for out in range(8):
        for tap in range(9):
            nudge = torch.zeros(8, 3, 3)
            nudge[out].view(-1)[tap] = step
            gradient[out, tap] = (loss(nudge) - loss(-nudge)) / (2 * step)
    assert float(scores[channel]) == pytest.approx(float(gradient.norm(dim=1).sum()), rel=1e-2)


def test_exact_and_gradient_differ_only_in_the_score(net, split):
    run = start(net, split)
    exact = criteria.criterion("di_exact", net, run.criterion.batches, run.params, 0)
    exact.refresh(net, run.kept)
    for site in net.sites():
        a, b = (c.scores(site, run.kept[site.name], 1) for c in (run.criterion, exact))
        assert a.shape == b.shape
        ranks = torch.stack([a.argsort().argsort(), b.argsort().argsort()]).double()
        assert float(torch.corrcoef(ranks)[0, 1]) > 0.5


# --- structures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.25, 0.5, 0.56, 0.9])
def test_a_scaled_structure_leaves_no_room_for_one_channel(net, share):
    channels = {site.name: surgery.channels(net, site) for site in net.sites()}
    ratios = dict(zip(channels, (1.0, 0.5, 0.75, 0.3)))
    limit = budget(net, share)
    widths = structure.scaled(net.record(), channels, ratios, limit)
    assert structure.cost(net.record(), widths) <= limit
    for name, width in widths.items():
        assert 1 <= width <= channels[name]
        assert width == channels[name] or structure.cost(net.record(), widths | {name: width + 1}) > limit


def test_equal_ratios_give_equal_shares(net):
    channels = {site.name: surgery.channels(net, site) for site in net.sites()}
    widths = structure.scaled(net.record(), channels, dict.fromkeys(channels, 0.4), budget(net))
    shares = [widths[name] / channels[name] for name in channels]
    assert max(shares) - min(shares) <= 1.5 / min(channels.values())


def test_the_hold_out_is_apart_from_the_training_images(split):
    numbered = dataclasses.replace(split, x=torch.arange(240.0).view(-1, 1, 1, 1))
    images, held_out = divided(numbered, 0, 40)
    assert len(images) == 200
    assert not set(images.x.flatten().tolist()) & set(held_out.x.flatten().tolist())
    assert held_out.y.bincount().tolist() == [10] * CLASSES


# --- wrong input ------------------------------------------------------------------------------------------------------


def test_unmeetable_budgets(net, split):
    for score in ("di", "l1"):
        with pytest.raises(StageError, match="no structure meets it"):
            greedy(net, split, 1000, score, params(), 0, CPU)
    for share in (0.0, 1.0, -0.5, 1.5, float("nan")):
        with pytest.raises(StageError, match=r"in \(0, 1\)"):
            budget(net, share)


def test_layers_that_cannot_be_scored_are_named(net):
    import copy

    site = net.sites()[0]
    for name, module, said in (
        (site.producer, nn.Conv2d(8, 8, 3, padding=1, groups=8), "8 groups"),
        (site.consumer, nn.Conv2d(8, 8, 3, padding=1, groups=2), "2 groups"),
        (site.producer, nn.Linear(8, 8), "Linear"),
        (site.norm, nn.Identity(), "batch normalisation"),
    ):
        broken = copy.deepcopy(net)
        parent, _, leaf = name.rpartition(".")
        setattr(broken.get_submodule(parent), leaf, module)
        with pytest.raises(StageError, match=said):
            maps.check(broken)


def test_features_that_are_not_finite_are_refused(net, split):
    holed = split.x.clone()
    holed[:, :, 0, 0] = float("nan")
    with pytest.raises(StageError, match="NaN"):
        greedy(net, dataclasses.replace(split, x=holed), budget(net), "di", params(), 0, CPU)
    with pytest.raises(StageError, match="NaN"):
        greedy(net, dataclasses.replace(split, x=holed), budget(net), "l1", params(), 0, CPU)


def test_one_class_and_too_few_images(net, split):
    one = dataclasses.replace(split, y=torch.zeros_like(split.y), classes=("a",))
    with pytest.raises(StageError, match="one class"):
        greedy(net, one, budget(net), "di", params(), 0, CPU)
    for changes in ({"holdout": 3}, {"limit": 3}, {"holdout": 200}, {"batch": 200}):
        with pytest.raises(StageError):
            greedy(net, split, budget(net), "di", params(**changes), 0, CPU)
    with pytest.raises(StageError, match="no such score"):
        greedy(net, split, budget(net), "taylor", params(), 0, CPU)


@pytest.mark.parametrize("changes", [{"rho": 0.0}, {"rho": -1.0}, {"rho": float("nan")}, {"hook": "input"}, {"ridge": "none"}])
def test_impossible_information_settings(changes):
    with pytest.raises(StageError, match=next(iter(changes))):
        information.check(params(**changes))
