"""EoiNAS's search: Gumbel weights, statistics, indicator, drops with inheritance, derivation, stopping and going on."""

import copy
import dataclasses
import math
from pathlib import Path

import pytest
import torch
from scipy import stats

from stages.lib import data
from stages.lib.darts import parse
from stages.lib.errors import StageError
from stages.lib.gumbel import gumbel_softmax
from stages.papers.eoinas import arms, images, saved, search, worth
from stages.papers.eoinas.adam import Adam
from stages.papers.eoinas.importance import Statistics, columns_without, derive, indicator, least, remaining, strongest
from stages.papers.eoinas.searching import Search, planted, skip_dropout, space_of, temperature, weight_rate
from stages.papers.eoinas.settings import Images

ROOT = Path(__file__).parents[2]
torch.set_num_threads(1)
CPU = torch.device("cpu")


@pytest.fixture
def config(monkeypatch):
    monkeypatch.chdir(ROOT)
    return search.main.configure(["scale=smoke", "dataset=digits", "arm=eoinas", "seed=100"])


@pytest.fixture
def halves():
    split = data.noise([1, 8, 8], 10, 80)
    return images.halves(split)


def begun(config, halves, arm: str = "eoinas", **changes) -> Search:
    params = dataclasses.replace(config.search, **changes)
    return Search(space_of(halves[0], config.space), params, arms.searcher(arm), 100, CPU)


# --- sampling -------------------------------------------------------------------------------------


def test_gumbel_weights_are_distributions_become_one_hot_and_follow_the_softmax():
    generator, alpha = torch.Generator().manual_seed(0), torch.tensor([[0.0, 1.0, -0.5, 0.3]])
    warm = gumbel_softmax(alpha.expand(50, -1), 5.0, generator)
    assert bool((warm > 0).all()) and torch.allclose(warm.sum(1), torch.ones(50))
    cold = gumbel_softmax(alpha.expand(4000, -1), 1e-3, generator)
    assert float(cold.max(1).values.median()) > 1 - 1e-6
    counts = torch.bincount(cold.argmax(1), minlength=4).numpy()
    expected = 4000 * torch.softmax(alpha[0], 0).double().numpy()
    assert stats.chisquare(counts, expected * counts.sum() / expected.sum()).pvalue > 0.01


def test_one_sample_serves_all_cells_of_a_type(config, halves):
    found = begun(config, halves).weights()
    assert {name: tuple(value.shape) for name, value in found.items()} == {"normal": (5, 4), "reduce": (5, 4)}
    assert all(value.requires_grad for value in found.values())


def test_the_papers_schedules(monkeypatch):
    monkeypatch.chdir(ROOT)
    params = search.main.configure(["scale=paper", "dataset=cifar10", "arm=eoinas", "seed=0"]).search
    assert [temperature(params, epoch) for epoch in (0, 20)] == [5.0, 5.0]
    assert temperature(params, 159) == pytest.approx(5.0 * 0.965**139)
    assert skip_dropout(params, 0) == pytest.approx(0.1 * 159 / 160)
    assert skip_dropout(params, 25) == pytest.approx(0.1 * math.exp(-1.0))
    assert weight_rate(params, 0) == 0.025 and weight_rate(params, 80) == pytest.approx(0.0125)
    assert params.prune == [40, 60, 80, 100, 120, 140, 160] and params.indicator == 0.5


# --- statistics and indicator ---------------------------------------------------------------------


def test_indicator_grows_with_alpha_and_accuracy_and_falls_with_draws():
    alpha, accuracy, count = torch.zeros(1, 3), torch.full((1, 3), 50.0), torch.full((1, 3), 100.0)
    base = indicator(alpha, accuracy, count, 0.5)
    torch.testing.assert_close(base, torch.full((1, 3), 1 / 3 + 0.25))
    first = torch.tensor([[1.0, 0.0, 0.0]])
    assert indicator(alpha + first, accuracy, count, 0.5)[0, 0] > base[0, 0]
    assert indicator(alpha, accuracy + first, count, 0.5)[0, 0] > base[0, 0]
    assert indicator(alpha, accuracy, count + first, 0.5)[0, 0] < base[0, 0]
    more = indicator(alpha, accuracy, 10 * count, 0.5) - torch.softmax(alpha, -1)
    torch.testing.assert_close(more, (base - torch.softmax(alpha, -1)) / 10)
    assert torch.equal(indicator(alpha + first, accuracy, count, 0.0), torch.softmax(alpha + first, -1))


def test_uniform_statistics_leave_the_choice_to_alpha():
    alpha = torch.randn(6, 4)
    names = [["none", "max_pool_3x3", "skip_connect", "sep_conv_3x3"]] * 6
    same = indicator(alpha, torch.full((6, 4), 40.0), torch.full((6, 4), 30.0), 0.5)
    assert least(names, same) == [names[0][i] for i in torch.softmax(alpha, -1).argmin(1).tolist()]


def test_operations_that_were_never_drawn_have_no_second_term():
    found = indicator(torch.zeros(1, 2), torch.tensor([[80.0, 80.0]]), torch.tensor([[0.0, 8.0]]), 0.5)
    assert found.tolist() == [[0.5, 5.5]]


@pytest.mark.parametrize(("rule", "expected"), [("mean", 30.0), ("last", 40.0)])
def test_statistics_count_draws_and_keep_accuracies(rule, expected):
    statistics = Statistics(2, 3, rule)
    first, other = torch.tensor([[0.6, 0.3, 0.1], [0.1, 0.2, 0.7]]), torch.tensor([[0.1, 0.8, 0.1], [0.1, 0.2, 0.7]])
    statistics.drawn(first)
    statistics.drawn(other)
    assert statistics.count.tolist() == [[1, 1, 0], [0, 0, 2]]
    statistics.reached(first, 20.0)
    statistics.reached(other, 40.0)
    assert statistics.accuracy.tolist() == [[20, 40, 0], [0, 0, expected]]
    statistics.keep(torch.tensor([[1, 2], [0, 2]]))
    assert statistics.accuracy.tolist() == [[40, 0], [0, expected]] and not statistics.count.any()
    statistics.reached(torch.tensor([[0.1, 0.9], [0.1, 0.9]]), 50.0)
    assert statistics.accuracy[0].tolist() == [40, 50]


def test_every_weight_step_is_one_draw_on_every_edge(config, halves):
    found = begun(config, halves)
    for _ in range(2):
        found.run_epoch(*halves)
    steps = 2 * math.ceil(len(halves[0]) / config.search.batch)
    assert all(bool((item.count.sum(1) == steps).all()) for item in found.statistics.values())
    found.prune()
    assert not any(bool(item.count.any()) for item in found.statistics.values())
    found.run_epoch(*halves)
    assert all(bool((item.count.sum(1) == steps / 2).all()) for item in found.statistics.values())


# --- two levels -----------------------------------------------------------------------------------


def test_weights_learn_from_one_half_and_alphas_from_the_other(config, halves):
    found = begun(config, halves)
    found.net.train()
    train, held_out = halves
    before = [p.detach().clone() for p in found.net.parameters()], [a.detach().clone() for a in found.alphas.values()]
    found.weight_step(train.x[:20], train.y[:20])
    assert all(torch.equal(a, b) for a, b in zip(found.alphas.values(), before[1], strict=True))
    after = [p.detach().clone() for p in found.net.parameters()]
    assert any(not torch.equal(a, b) for a, b in zip(after, before[0], strict=True))
    found.alpha_step(held_out.x[:20], held_out.y[:20])
    assert all(torch.equal(p, b) for p, b in zip(found.net.parameters(), after, strict=True))
    assert all(not torch.equal(a, b) for a, b in zip(found.alphas.values(), before[1], strict=True))
    assert not set(map(bytes, train.x.numpy())) & set(map(bytes, held_out.x.numpy()))


def test_alphas_rest_while_warming_up(config, halves):
    found = begun(config, halves, warmup=1)
    before = {name: alpha.detach().clone() for name, alpha in found.alphas.items()}
    found.run_epoch(*halves)
    assert all(torch.equal(found.alphas[name], before[name]) for name in before)
    assert not any(bool(item.count.any()) for item in found.statistics.values())
    found.run_epoch(*halves)
    assert all(not torch.equal(found.alphas[name], before[name]) for name in before)


def test_adam_is_torchs():
    start = torch.randn(5, 4)
    own, other = start.clone(), torch.nn.Parameter(start.clone())
    mine = Adam([own], 6e-4, (0.5, 0.999), 1e-3)
    theirs = torch.optim.Adam([other], 6e-4, (0.5, 0.999), weight_decay=1e-3, foreach=False)
    for _ in range(5):
        gradient = torch.randn(5, 4)
        mine.step([gradient])
        other.grad = gradient.clone()
        theirs.step()
    torch.testing.assert_close(own, other.detach())


def test_a_search_that_diverges_says_so(config, halves):
    broken = dataclasses.replace(halves[0], x=halves[0].x * float("nan"))
    with pytest.raises(StageError, match="not finite in epoch 1"):
        begun(config, halves).run_epoch(broken, halves[1])


# --- giving up ------------------------------------------------------------------------------------


def test_what_stays_is_inherited_on_every_edge(config, halves):
    """Different edges give up different operations; alphas, weights and velocities that stay are the same bits."""
    found = begun(config, halves)
    found.run_epoch(*halves)
    for name, statistics in found.statistics.items():  # makes edge e give up operation e % 4
        statistics.count.fill_(1.0)
        statistics.accuracy = torch.full((5, 4), 1e6, dtype=torch.float64)
        for edge in range(5):
            statistics.accuracy[edge, (edge + (name == "reduce")) % 4] = 0.0
    kept, alphas = copy.deepcopy(found.net.kept), {name: alpha.detach().clone() for name, alpha in found.alphas.items()}
    state = copy.deepcopy(found.net.state_dict())
    speeds = {
        name: v for (name, _), v in zip(found.net.named_parameters(), map(torch.clone, found.optimiser.velocity), strict=True)
    }
    found.prune()
    for name, shift in (("normal", 0), ("reduce", 1)):
        for edge in range(5):
            place = (edge + shift) % 4
            assert found.net.kept[name][edge] == [op for i, op in enumerate(kept[name][edge]) if i != place]
            left = [value for i, value in enumerate(alphas[name][edge].tolist()) if i != place]
            assert found.alphas[name][edge].tolist() == left
    assert all(torch.equal(value, state[key]) for key, value in found.net.state_dict().items())
    for (name, _), velocity in zip(found.net.named_parameters(), found.optimiser.velocity, strict=True):
        assert torch.equal(velocity, speeds[name])
    assert found.adam.steps == 0 and found.events[-1]["macs_after"] < found.events[-1]["macs_before"]


def test_the_last_drop_never_leaves_none():
    names = [["none", "skip_connect"], ["max_pool_3x3", "none"], ["skip_connect", "max_pool_3x3"]]
    importance = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]])
    dropped = least(names, importance)
    assert dropped == ["none", "none", "skip_connect"]
    assert columns_without(names, dropped).tolist() == [[1], [0], [1]]
    torch.testing.assert_close(remaining(names, dropped, importance), torch.tensor([0.1, 0.2, 0.7]))


def test_the_two_strongest_edges_of_every_node_stay_and_later_ones_win_ties():
    operations = ["sep_conv_3x3", "skip_connect", "max_pool_3x3", "dil_conv_3x3", "avg_pool_3x3"]
    assert derive(2, operations, [0.1, 0.2, 0.9, 0.3, 0.8]) == (
        ("sep_conv_3x3", 0), ("skip_connect", 1), ("max_pool_3x3", 0), ("avg_pool_3x3", 2)
    )  # fmt: skip
    assert derive(2, operations, [0.5] * 5)[2:] == (("dil_conv_3x3", 1), ("avg_pool_3x3", 2))
    chosen, strengths = strongest([["none", "skip_connect", "sep_conv_3x3"]], torch.tensor([[0.9, 0.4, 0.6]]).double())
    assert (chosen, strengths) == (["sep_conv_3x3"], [pytest.approx(0.6)])


@pytest.mark.parametrize("arm", list(arms.SEARCHERS))
def test_every_search_ends_in_a_genotype(config, halves, arm):
    found, sizes = begun(config, halves, arm), []
    for epoch in range(1, config.search.epochs + 1):
        found.run_epoch(*halves)
        sizes.append(found.net.macs())
        if found.searcher.prune and epoch in config.search.prune:
            found.prune()
            assert {len(edge) for edges in found.net.kept.values() for edge in edges} == {4 - len(found.events)}
            assert all(alpha.shape == (5, 4 - len(found.events)) for alpha in found.alphas.values())
    genotype = found.genotype()
    assert parse(genotype.record()) == genotype and genotype.nodes == 2
    images_seen = 2 * len(halves[0])
    assert found.spent == images_seen * sum(sizes)
    assert (sizes[-1] < sizes[0]) == found.searcher.prune


def test_arms_share_their_start(config, halves):
    first, other = begun(config, halves), begun(config, halves, "alpha_pruning")
    for item in (first, other):
        item.run_epoch(*halves)
    assert first.losses == other.losses
    assert all(torch.equal(first.alphas[name], other.alphas[name]) for name in first.alphas)


# --- on disk --------------------------------------------------------------------------------------


def test_a_search_taken_up_again_ends_the_same(config, halves, tmp_path):
    whole = begun(config, halves)
    for _ in range(2):
        whole.run_epoch(*halves)
        whole.prune()
    saved.save(tmp_path / "state", whole)
    other = begun(config, halves)
    saved.put_back(other, *saved.artifacts.load_tensors(tmp_path / "state"))
    for item in (whole, other):
        item.run_epoch(*halves)
        item.prune()
    assert other.net.kept == whole.net.kept and other.losses == whole.losses and other.events == whole.events
    assert all(torch.equal(a, b) for a, b in zip(whole.net.state_dict().values(), other.net.state_dict().values(), strict=True))
    assert other.genotype() == whole.genotype() and other.spent == whole.spent


@pytest.mark.parametrize("due", [True, False])
def test_processes_save_a_search_by_the_clock_of_the_first(config, halves, tmp_path, monkeypatch, due):
    """Else one would wait in vain for the others to write too."""
    monkeypatch.setattr(saved, "EVERY", 1e9 if due else 0.0)  # this process's own clock says the opposite
    monkeypatch.setattr(saved.parallel, "alike", lambda tensors: tensors[0].fill_(float(due)))
    search = begun(config, halves)
    saved.Keeper(tmp_path / "state", search, halves[0]).save(search)
    assert (tmp_path / "state").is_file() == due


def test_a_keeper_refuses_another_search(config, halves, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(saved, "EVERY", 0.0)
    first = begun(config, halves)
    keeper = saved.Keeper(tmp_path / "state", first, halves[0])
    first.run_epoch(*halves)
    keeper.save(first)
    other = begun(config, halves, lr=0.05)
    saved.Keeper(tmp_path / "state", other, halves[0]).restore(other)
    assert other.epoch == 0 and "belongs to other settings" in capsys.readouterr().out
    same = begun(config, halves)
    saved.Keeper(tmp_path / "state", same, halves[0]).restore(same)
    assert same.epoch == 1 and "resumed after epoch 1" in capsys.readouterr().out


# --- what operations are worth --------------------------------------------------------------------


def test_leaving_one_out_raises_the_others():
    weights = {"normal": torch.tensor([[0.2, 0.3, 0.5], [0.1, 0.1, 0.8]]), "reduce": torch.ones(2, 3) / 3}
    changed = worth.without(weights, "normal", 1, 2)
    torch.testing.assert_close(changed["normal"], torch.tensor([[0.2, 0.3, 0.5], [0.5, 0.5, 0.0]]))
    assert changed["reduce"] is weights["reduce"] and float(weights["normal"][1, 2]) == pytest.approx(0.8)


def test_worths_cover_every_operation_and_an_unused_one_is_worth_nothing(config, halves):
    found = begun(config, halves)
    found.run_epoch(*halves)
    weights = saved.mean_field(found.alphas)
    weights["normal"] = weights["normal"].detach().clone()
    weights["normal"][0] = torch.tensor([0.0, 0.5, 0.5, 0.0])
    truth = worth.worths(found.net, weights, halves[1], CPU)
    assert len(truth["accuracy"]) == len(truth["loss"]) == 2 * 5 * 4
    assert truth["loss"][0] == pytest.approx(0.0, abs=1e-6) and truth["accuracy"][0] == 0.0
    assert any(abs(value) > 1e-4 for value in truth["loss"])


def test_planting_takes_the_place_of_an_operation(config, halves):
    space = space_of(halves[0], config.space)
    assert planted(space, "skip_connect", "noise").operations == ("none", "max_pool_3x3", "noise", "sep_conv_3x3")
    with pytest.raises(StageError, match="planted.replaced=dil_conv_3x3: expected one of none"):
        planted(space, "dil_conv_3x3", "noise")


# --- pictures -------------------------------------------------------------------------------------


def test_halves_are_disjoint_and_stratified(halves):
    assert [len(half) for half in halves] == [40, 40]
    assert all(torch.bincount(half.y, minlength=10).tolist() == [4] * 10 for half in halves)


def test_pictures_are_put_on_a_black_canvas_and_keep_their_pixels():
    split = dataclasses.replace(data.noise([2, 4, 4], 5, 20), mean=(0.5, 0.2), std=(0.25, 0.1))
    placed = images.placed(split, 7, torch.Generator().manual_seed(0))
    assert placed.x.shape == (20, 2, 7, 7)
    assert torch.equal(placed.x.flatten(2).amax(2), split.x.clamp_min(-2.0).flatten(2).amax(2))
    assert int((placed.x == -2.0).sum()) == 20 * 2 * (49 - 16)
    with pytest.raises(StageError, match="expected 0 or a side of 4"):
        images.placed(split, 3, torch.Generator())
    with pytest.raises(StageError, match="images.noise"):
        Images(0, float("nan"), 0).check()


def test_cutout_hides_at_most_a_square():
    x = images.cutout(torch.ones(50, 3, 8, 8), 4, torch.Generator().manual_seed(0))
    hidden = (x == 0).all(1).sum((1, 2))
    assert int(hidden.max()) == 16 and int(hidden.min()) >= 4 and bool(((x == 0).all(1) == (x == 0).any(1)).all())
