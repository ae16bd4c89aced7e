"""Tokens, gates, surgery and ranking of small transformers with random weights."""

import copy
import dataclasses
import hashlib
from pathlib import Path

import pytest
import torch

from stages.lib import macs, training, weights
from stages.lib.data import Split
from stages.lib.errors import StageError
from stages.lib.vit.net import VisionTransformer, vit
from stages.lib.vit.settings import Recipe
from stages.lib.vit.training import train
from stages.papers.multi_dimensional_vit_compression import experiment, images, ranking, surgery, tokens
from stages.papers.multi_dimensional_vit_compression.compressed import CompressedTransformer
from stages.papers.multi_dimensional_vit_compression.gated import Gated
from stages.papers.multi_dimensional_vit_compression.ranking import Kept, Order
from stages.papers.multi_dimensional_vit_compression.settings import Compress, Images, Ranking
from tests.papers.test_mdvit_space import options

CPU = torch.device("cpu")
REDUCE = (2, 3)
RANKING = Ranking(24, [1, 2, 4, 8, 16], True, 0.1, 0.1, 0.996)
RECIPE = Recipe(1, 20, 1e-3, 0, 1e-6, 1e-5, 0.05, 0.0, 0.1, 0.0, 0.0, 0.0, 0, False)
KEPT = Kept(((0, 2), (1,), (0, 1, 3), (2, 3)), ((0, 5, 9), tuple(range(7)), (11,), tuple(range(4, 12))))
torch.set_num_threads(1)


@pytest.fixture
def net() -> VisionTransformer:
    torch.manual_seed(0)
    return VisionTransformer(vit([1, 8, 8], 10, patch=2, embed=16, depth=4, heads=4, hidden=12), deviation=0.3).eval()


def noise(count: int = 24) -> Split:
    x = torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return Split(x, torch.arange(count) % 10, tuple("0123456789"), (0.5,), (0.2,), "sample", "train")


# --- tokens ---------------------------------------------------------------------------------------


def test_reduction_keeps_the_class_token_and_fuses_the_dropped():
    x, scores = torch.randn(3, 9, 4), torch.rand(3, 9)
    made = tokens.reduce(x, scores, 0.4)
    assert made.shape == (3, 6, 4) and torch.equal(made[:, 0], x[:, 0])
    for image in range(3):
        order = [0, *(1 + scores[image, 1:].argsort(descending=True)).tolist()]
        assert torch.equal(made[image, :5], x[image, order[:5]])
        assert torch.allclose(made[image, 5], x[image, order[5:]].mean(0))


def test_without_sparsity_nothing_happens():
    x = torch.randn(2, 5, 3)
    assert tokens.reduce(x, torch.rand(2, 5), 0.0) is x


def test_importance_is_the_class_tokens_attention_of_the_heads_that_stay():
    maps = torch.rand(2, 3, 5, 5).softmax(-1)
    assert torch.allclose(tokens.importance(maps), maps[:, :, 0].mean(1))
    gate = torch.tensor([1.0, 0.0, 1.0])
    assert torch.allclose(tokens.importance(maps, gate), maps[:, [0, 2], 0].mean(1))
    assert torch.allclose(tokens.importance(maps).sum(1), torch.ones(2))


# --- gates and surgery ----------------------------------------------------------------------------


def test_open_gates_change_nothing(net):
    x, gated = noise().x, Gated(net, REDUCE)
    assert torch.equal(gated(x), net(x))
    gated.set(Kept((tuple(range(4)),) * 4, (tuple(range(12)),) * 4), 0.0)
    assert torch.equal(gated(x), net(x))


@pytest.mark.parametrize("sparsity", [0.0, 0.2, 0.5, 0.8])
def test_the_cut_net_answers_as_the_gated_one(net, sparsity):
    gated = Gated(net, REDUCE)
    gated.set(KEPT, sparsity)
    made = surgery.cut(net, KEPT, sparsity, REDUCE)
    assert surgery.difference(gated, made, noise(60).x) < 1e-5
    record = made.record()
    assert record["heads"] == [2, 1, 3, 2] and record["hidden"] == [3, 7, 1, 8]
    assert macs.count(made, noise(2).x) == macs.total(record).macs
    assert macs.parameters(made) == macs.total(record).params < macs.parameters(net)


def test_a_wrong_cut_is_noticed(net):
    gated = Gated(net, REDUCE)
    gated.set(KEPT, 0.2)
    other = dataclasses.replace(KEPT, heads=((1, 2), *KEPT.heads[1:]))
    with pytest.raises(StageError, match="gated and cut nets differ"):
        surgery.difference(gated, surgery.cut(net, other, 0.2, REDUCE), noise(60).x)


def test_training_the_cut_net_is_training_the_gated_one(net):
    gated, made = Gated(copy.deepcopy(net), REDUCE), surgery.cut(net, KEPT, 0.3, REDUCE)
    gated.set(KEPT, 0.3)
    for model in (gated, made):
        train(model, noise(), RECIPE, 0)
    x = noise(60).x
    assert torch.allclose(training.predict(gated, x), training.predict(made, x), atol=1e-4)
    assert not torch.allclose(training.predict(made, x), training.predict(surgery.cut(net, KEPT, 0.3, REDUCE), x), atol=1e-3)


def test_a_cut_net_survives_the_disk(net, tmp_path: Path):
    made = surgery.cut(net, KEPT, 0.4, REDUCE, places=torch.rand(2, 17))
    weights.save_model(tmp_path / "net.safetensors", made)
    assert torch.equal(weights.load_model(tmp_path / "net.safetensors")(noise().x), made(noise().x))


def test_scores_of_places_choose_the_tokens(net):
    x, plain = noise(60).x, surgery.cut(net, KEPT, 0.5, REDUCE)
    assert torch.allclose(surgery.cut(net, KEPT, 0.5, REDUCE, places=torch.full((2, 17), 0.3))(x), plain(x))
    skewed = torch.rand(2, 17, generator=torch.Generator().manual_seed(0))
    assert not torch.allclose(surgery.cut(net, KEPT, 0.5, REDUCE, places=skewed)(x), plain(x), atol=1e-3)


@pytest.mark.parametrize(
    ("key", "value"),
    [("heads", [1, 2, 3]), ("hidden", []), ("reduce", [3, 2]), ("reduce", [5]), ("sparsity", 1.0), ("sparsity", "half"),
     ("token_score", "size"), ("patch", 3), ("embed", 0)],
)  # fmt: skip
def test_records_that_describe_no_net(net, key, value):
    record = surgery.cut(net, KEPT, 0.4, REDUCE).record()
    with pytest.raises(StageError):
        CompressedTransformer.check({**record, key: value})


def test_heads_that_do_not_divide_the_width_and_images_smaller_than_the_patch():
    with pytest.raises(StageError, match="heads"):
        vit([1, 8, 8], 10, patch=2, embed=16, depth=2, heads=3, hidden=8)
    with pytest.raises(StageError, match="patch"):
        vit([1, 8, 8], 10, patch=16, embed=16, depth=2, heads=4, hidden=8)


# --- ranking --------------------------------------------------------------------------------------


def test_constant_neurons_rank_last(net):
    with torch.no_grad():
        for block in net.blocks:
            block.mlp.fc1.weight[[1, 4, 7]] = 0.0
            block.mlp.fc1.bias[[1, 4, 7]] = 0.0
    found = ranking.orders(net, noise(60).x, RANKING, 0)
    for name in ("dependency", "hsic"):
        assert all(set(order[-3:]) == {1, 4, 7} for order in found[name].neurons)


def test_orders_are_permutations_and_the_random_one_follows_the_repetition(net):
    one, other = (ranking.orders(net, noise().x, RANKING, repetition) for repetition in (0, 1))
    assert set(one) == {"dependency", "hsic", "l1", "random"}
    for order in one.values():
        assert all(sorted(heads) == list(range(4)) for heads in order.heads)
        assert all(sorted(neurons) == list(range(12)) for neurons in order.neurons)
    assert one["random"] != other["random"] and one["dependency"] == other["dependency"] and one["l1"] == other["l1"]
    assert one["dependency"].heads == one["hsic"].heads


def test_a_copied_head_is_redundant():
    x, predicted = torch.randn(3, 40, 6, generator=torch.Generator().manual_seed(0)), torch.rand(40, 3)
    x[1] = x[0]
    for mu in (0.0, 1.0):
        scores = ranking.head_scores(x, predicted, dataclasses.replace(RANKING, mu_redundancy=mu))
        alone = ranking.relevance(x, predicted, RANKING)
        assert torch.allclose(scores, alone, atol=1e-6) == (mu == 0.0)
    assert (alone - scores)[2] < (alone - scores)[0]
    assert torch.allclose(ranking.head_scores(x[:1], predicted, RANKING), alone[:1])


def test_mixture_of_dependence_and_size():
    found, active = torch.tensor([1.0, 3.0, 2.0]), torch.tensor([4.0, -1.0, 2.0]).view(3, 1, 1).expand(3, 5, 2)
    assert ranking.neuron_scores(found, active, 1.0).tolist() == [0.0, 1.0, 0.5]
    assert ranking.neuron_scores(found, active, 0.0).tolist() == pytest.approx([1.0, 0.0, 1 / 3])
    assert ranking.minmax(torch.full((3,), 2.0)).tolist() == [0.0, 0.0, 0.0]
    assert ranking.falling(torch.tensor([0.5, 1.0, 0.5])) == (1, 0, 2)


def test_the_official_slip_leaves_kernels_of_other_scale():
    x = 5.0 + 0.1 * torch.randn(30, 8, generator=torch.Generator().manual_seed(0))
    right = ranking.kernels(x, RANKING)
    slip = ranking.kernels(x, dataclasses.replace(RANKING, standardise=False))
    assert 0.05 < float(right.mean()) < 0.95 and float(slip.mean()) > 0.95


def test_outputs_are_those_of_the_ungated_net(net):
    x = noise().x
    found, predicted = ranking.outputs(net, x)
    assert torch.allclose(predicted, net(x).softmax(1), atol=1e-6)
    assert found[0].heads.shape == (4, 24, 17) and found[0].neurons.shape == (12, 24, 17)
    assert found[0].values.shape == (17, 24, 16)


def test_places_are_a_running_mean_of_relative_dependence(net):
    split = noise(60)
    found = ranking.places(net, split.x, split.y, REDUCE, RANKING)
    assert found.shape == (2, 17) and float(found.min()) >= 0.0 and float(found.max()) <= 1.0
    first = ranking.places(net, split.x[:24], split.y[:24], REDUCE, RANKING)
    assert torch.allclose(first.amax(1), torch.ones(2)) and (found - first).abs().max() < 0.02
    second = ranking.places(net, split.x[24:48], split.y[24:48], REDUCE, RANKING)
    assert torch.allclose(found, 0.996 * first + 0.004 * second, atol=1e-5)


def test_a_policy_keeps_the_first_of_an_order():
    order = Order(((2, 0, 1),), ((3, 1, 0, 2),))
    from stages.papers.multi_dimensional_vit_compression.space import Policy

    assert order.kept(Policy((3,), (2,), 0.1)) == Kept(((0, 2),), ((0, 1, 3),))


# --- search on a net ------------------------------------------------------------------------------


def test_searching_leaves_the_weights_alone():
    def digest() -> str:
        parts = [tensor.numpy().tobytes() for tensor in net.state_dict().values()]
        return hashlib.sha256(b"".join(parts)).hexdigest()

    net = VisionTransformer(vit([1, 8, 8], 10, patch=2, embed=16, depth=4, heads=4, hidden=40), deviation=0.3).eval()
    before, split = digest(), noise(40)
    settings = Compress(RANKING, options(tolerance=0.05, tight=0.5, initial=3, steps=1, pool=30))
    found = experiment.find_all(net, split, split, settings, 0, CPU)
    assert digest() == before
    assert set(found) == set(experiment.ARMS) and found["token_hsic"].policy == found["tight"].policy
    assert found["random_policy"].policy == found["joint"].trials[0].policy
    assert len(found["joint"].trials) == len(found["random_search"].trials) == len(found["rank_l1"].trials) == 4
    gated = Gated(net, settings.search.reduce)
    best = found["joint"]
    gated.set(best.order.kept(best.policy), best.policy.sparsity)
    assert training.evaluate(gated, split) == max(trial.score for trial in best.trials)


# --- images ---------------------------------------------------------------------------------------


def test_images_on_a_canvas():
    split, settings = noise(), Images(12, 2, 2, 0, 0.25, 5)
    made = images.placed(split, settings, "train")
    assert made.x.shape == (48, 1, 12, 12) and torch.equal(made.y, split.y.repeat(2))
    assert torch.equal(made.x, images.placed(split, settings, "train").x)
    assert not torch.equal(made.x, images.placed(split, settings, "val").x)
    still = images.placed(split, dataclasses.replace(settings, shift=0, copies=1), "train")
    assert torch.allclose(still.x[:, :, 2:10, 2:10], split.x, atol=1e-5)
    assert images.placed(split, dataclasses.replace(settings, side=8), "train") is split
    littered = images.placed(split, dataclasses.replace(settings, shift=0, copies=1, clutter=1), "train")
    assert torch.allclose(littered.x[:, :, 2:10, 2:10], split.x, atol=1e-5) and not torch.equal(littered.x, still.x)
    with pytest.raises(StageError, match="at least the images' 8 x 8"):
        images.placed(split, dataclasses.replace(settings, side=7), "train")


def test_held_out_images_are_others():
    fitted, held_out = images.divide(noise(60), 20)
    assert len(fitted) == 40 and len(held_out) == 20
    assert not {tuple(x.flatten().tolist()) for x in fitted.x} & {tuple(x.flatten().tolist()) for x in held_out.x}
    with pytest.raises(StageError, match="fewer than the 60"):
        images.divide(noise(60), 60)
