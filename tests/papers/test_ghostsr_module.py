"""The ghost module of GhostSR: the shift and its learning, clustering, inheritance, export; the specification's invariants."""

from itertools import pairwise

import numpy
import pytest
import torch
from torch import nn
from torch.nn import functional

from stages.lib import macs
from stages.lib.errors import StageError
from stages.lib.restoration.blocks import EDSR
from stages.papers.ghostsr import clustering, conversion, inheritance
from stages.papers.ghostsr.exported import SlicedGhost, write_shifted
from stages.papers.ghostsr.ghost import GhostModule, GhostOptions
from stages.papers.ghostsr.shift import LearnableShift, noise_amplitude, set_epoch, shifted, shifts

OFFSETS = [(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1)]
torch.set_num_threads(1)


def module(ratio: float = 0.5, outputs: int = 8, **options: object) -> GhostModule:
    return GhostModule(nn.Conv2d(3, outputs, 3, padding=1), GhostOptions(ratio, **options))


def image(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def point_at(shift: LearnableShift, row: int, column: int) -> None:
    with torch.no_grad():
        shift.logits.zero_()[:, :, row + shift.radius, column + shift.radius] = 1.0


# --- the shift ------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", ["official", "gumbel_softmax"])
def test_kernels_are_one_hot_in_training_and_inference(estimator):
    torch.manual_seed(0)
    shift = LearnableShift(1, estimator)
    for mode in (True, False):
        shift.train(mode)
        for _ in range(20):
            kernel = shift.kernel()
            assert kernel.sum() == 1.0 and int((kernel != 0).sum()) == 1 and kernel.max() == 1.0


@pytest.mark.parametrize(("row", "column"), OFFSETS)
def test_one_hot_convolution_is_the_zero_padded_slice(row, column):
    shift, x = LearnableShift(1, "official").eval(), image(2, 5, 7, 6)
    point_at(shift, row, column)
    out = torch.full_like(x, torch.nan)
    write_shifted(out, x, row, column)
    assert torch.equal(shift(x), shifted(x, row, column)) and torch.equal(out, shifted(x, row, column))
    for h in range(7):
        for w in range(6):
            inside = 0 <= h + row < 7 and 0 <= w + column < 6
            wanted = x[:, :, h + row, w + column] if inside else torch.zeros(2, 5)
            assert torch.equal(out[:, :, h, w], wanted)


def test_centre_is_the_identity_and_nothing_wraps_around():
    x = image(1, 2, 4, 4)
    assert torch.equal(shifted(x, 0, 0), x)
    assert not torch.equal(shifted(x, 1, 0), torch.roll(x, -1, 2)) and not shifted(x, 1, 0)[..., -1, :].any()


def test_offsets_beyond_the_image_give_zeros():
    x, out = image(1, 1, 1, 3), torch.ones(1, 1, 1, 3)
    write_shifted(out, x, 2, 0)
    assert not out.any()


def test_gradient_passes_straight_through_to_the_logits():
    torch.manual_seed(0)
    shift, x = LearnableShift(1, "official"), image(1, 3, 6, 6)
    weight = image(1, 3, 6, 6, seed=1)
    torch.manual_seed(5)
    (shift(x) * weight).sum().backward()
    wanted = torch.stack([(shifted(x, row, column) * weight).sum() for row, column in OFFSETS]).view(1, 1, 3, 3)
    assert torch.allclose(shift.logits.grad, wanted, atol=1e-5) and bool((shift.logits.grad != 0).all())


def test_soft_backward_pass_of_the_gumbel_softmax():
    torch.manual_seed(0)
    shift, x = LearnableShift(1, "gumbel_softmax"), image(1, 3, 6, 6)
    torch.manual_seed(5)
    (shift(x) * x).sum().backward()
    assert bool(shift.logits.grad.any()) and shift.logits.grad.sum().abs() < 1e-4  # softmax gradients sum to 0


def test_official_choice_ignores_the_signs_of_logits():
    shift = LearnableShift(1, "official").eval()
    before = shift.offsets()
    with torch.no_grad():
        shift.logits.mul_(-1.0)
    assert shift.offsets() == before
    soft = LearnableShift(1, "gumbel_softmax")
    point_at(soft, -1, 1)
    with torch.no_grad():
        soft.logits.mul_(-1.0)
    assert soft.offsets() != [(-1, 1)]


def changes(shift: LearnableShift, epoch: float) -> float:
    set_epoch(shift, epoch, 0.97)
    shift.train()
    drawn = [int(shift.kernel().flatten().argmax()) for _ in range(400)]
    return sum(a != b for a, b in pairwise(drawn)) / 399


def test_noise_moves_the_offset_early_and_not_late():
    torch.manual_seed(3)
    shift = LearnableShift(1, "official")
    assert changes(shift, 1) > 0.5 and changes(shift, 400) == 0.0
    shift.eval()
    x = image(1, 2, 5, 5)
    assert torch.equal(shift(x), shift(x))
    assert noise_amplitude(1, 0.97) == 1.0 and noise_amplitude(121, 0.97) == pytest.approx(0.97**120)


def test_starts_of_the_logits():
    torch.manual_seed(0)
    drawn = torch.cat([LearnableShift(1, "official").logits.detach().flatten() for _ in range(50)])
    assert drawn.abs().max() <= 1 / 3 and drawn.std() == pytest.approx(2 / 3 / 12**0.5, rel=0.1)
    assert LearnableShift(1, "official", "centre").offsets() == [(0, 0)]
    assert not LearnableShift(1, "frozen").logits.requires_grad
    x = image(1, 4, 5, 5)
    assert torch.equal(LearnableShift(1, "frozen", "centre")(x), x)
    many = LearnableShift(2, "official", groups=4).eval()
    assert len(many.offsets()) == 4 and many(x).shape == x.shape


@pytest.mark.parametrize("words", [{"estimator": "soft"}, {"estimator": "official", "logits": "corner"}])
def test_unknown_estimators_and_starts(words):
    with pytest.raises(StageError, match="expected one of"):
        LearnableShift(1, **words)


# --- the module -----------------------------------------------------------------------------------


@pytest.mark.parametrize("outputs", [8, 7, 1])
@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("options", [{}, {"per_channel": True}, {"cheap": "depthwise"}])
def test_output_has_the_channels_of_the_convolution(ratio, outputs, options):
    torch.manual_seed(0)
    made, x = module(ratio, outputs, **options).eval(), image(2, 3, 6, 5)
    y = made(x)
    assert y.shape == (2, outputs, 6, 5) and made.intrinsic == -(-outputs * ratio // 1)
    assert torch.equal(y[:, : made.intrinsic], made.primary(x))
    sliced = SlicedGhost(made)
    assert torch.equal(sliced(x), y)
    if options.get("cheap") != "depthwise":
        assert macs.count(sliced, x[:1]) == made.primary.weight.numel() * 30


def test_ratio_one_is_the_plain_convolution():
    conv, x = nn.Conv2d(3, 5, 3, padding=1), image(1, 3, 6, 6)
    made = GhostModule(conv, GhostOptions(1.0))
    inheritance.inherit(made, conv, "kmeans", "matched", 0)
    assert torch.allclose(made(x), conv(x), atol=1e-6) and not shifts(made)


@pytest.mark.parametrize(("options", "conv"), [
    (GhostOptions(0.0), nn.Conv2d(3, 4, 3)), (GhostOptions(1.5), nn.Conv2d(3, 4, 3)), (GhostOptions(cheap="rotate"), nn.Conv2d(3, 4, 3)),
    (GhostOptions(), nn.Conv2d(4, 4, 3, groups=2)),
])  # fmt: skip
def test_impossible_modules(options, conv):
    with pytest.raises(StageError, match="expected"):
        GhostModule(conv, options)


# --- clusters and inheritance ---------------------------------------------------------------------


def twins(copies: int = 2, noise: float = 0.01, seed: int = 0) -> numpy.ndarray:
    random = numpy.random.RandomState(seed)
    prototypes = random.normal(size=(8, 27))
    return numpy.concatenate([prototypes + noise * random.normal(size=prototypes.shape) for _ in range(copies)])


@pytest.mark.parametrize("seed", range(5))
def test_one_representative_of_each_planted_pair(seed):
    found = clustering.representatives(twins(seed=seed), 8, seed)
    assert sorted(index % 8 for index in found) == list(range(8)) and found == sorted(set(found))


@pytest.mark.parametrize("filters", [numpy.ones((6, 4)), numpy.eye(6), twins(3, 0.0)])
def test_as_many_different_filters_as_asked_for(filters):
    for count in (1, 3, len(filters)):
        found = clustering.representatives(filters, count, 0)
        assert len(set(found)) == count and set(found) <= set(range(len(filters)))


def test_a_representative_is_the_real_filter_nearest_to_its_centre():
    filters = numpy.array([[0.0], [1.0], [5.0], [10.0], [10.5]])
    assert clustering.representatives(filters, 2, 0) in ([1, 3], [1, 4])  # centres 2 and 10.25: ties go to the first
    assert clustering.representatives(filters, 2, 0) == [1, 3]
    with pytest.raises(StageError, match="6 clusters of 5 filters"):
        clustering.representatives(filters, 6, 0)


def test_clusters_are_as_tight_as_scikit_learns():
    from sklearn.cluster import KMeans  # an oracle that is slow to import

    filters = numpy.random.RandomState(1).normal(size=(40, 9))
    random = numpy.random.RandomState(0)
    ours = min(clustering.lloyd(filters, clustering.plus_plus(filters, 12, random))[2] for _ in range(10))
    assert ours <= 1.03 * KMeans(12, n_init=10, random_state=0).fit(filters).inertia_


def test_first_outputs_are_those_of_the_chosen_filters():
    conv, x = nn.Conv2d(3, 9, 3, padding=1), image(1, 3, 6, 6)
    made = GhostModule(conv, GhostOptions()).eval()
    chosen = inheritance.inherit(made, conv, "kmeans", "scrambled", 4)
    assert torch.allclose(made(x)[:, :5], conv(x)[:, chosen.intrinsic], atol=1e-6)
    assert sorted([*chosen.intrinsic, *chosen.ghosts]) == list(range(9))
    ordered = GhostModule(conv, GhostOptions()).eval()
    inheritance.inherit(ordered, conv, "kmeans", "matched", 4)
    assert torch.allclose(ordered(x)[:, chosen.intrinsic], conv(x)[:, chosen.intrinsic], atol=1e-6)


@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.75])
def test_matching_gives_every_other_filter_the_nearest_slots(ratio):
    weight = numpy.random.RandomState(2).normal(size=(8, 3, 3, 3)).astype(numpy.float32)
    intrinsic = inheritance.choose(weight, int(8 * ratio), "kmeans", 0)
    found = inheritance.match(weight, intrinsic)
    assert sorted(found.intrinsic) == intrinsic and sorted(found.intrinsic + found.ghosts) == list(range(8))
    flat = weight.reshape(8, -1)

    def total(ghosts: list[int]) -> float:
        return sum(((flat[j] - flat[found.intrinsic[k % len(intrinsic)]]) ** 2).sum() for k, j in enumerate(ghosts))

    random = numpy.random.RandomState(0)
    assert all(total(found.ghosts) <= total(random.permutation(found.ghosts).tolist()) + 1e-4 for _ in range(50))


def test_copies_of_twins_lose_nothing_and_of_unlike_filters_more_than_leaving_them_out():
    weight = twins(noise=0.0).reshape(16, 3, 3, 3)
    lost, left_out = inheritance.filter_error(weight, inheritance.match(weight, inheritance.choose(weight, 8, "kmeans", 0)))
    assert lost == 0.0 and left_out == pytest.approx(0.5)
    unlike = numpy.eye(16).reshape(16, 1, 4, 4)
    found = inheritance.filter_error(unlike, inheritance.match(unlike, list(range(8))))
    assert found == (pytest.approx(1.0), pytest.approx(0.5))


def test_unknown_ways_to_choose_and_inherit():
    conv = nn.Conv2d(3, 4, 3)
    with pytest.raises(StageError, match="expected one of kmeans, random"):
        inheritance.choose(conv.weight.detach().numpy(), 2, "norm", 0)
    with pytest.raises(StageError, match="expected one of none"):
        inheritance.inherit(GhostModule(conv, GhostOptions()), conv, "kmeans", "all", 0)


def duplicated(net: EDSR) -> EDSR:
    """Every filter of the blocks has an exact twin, weight and bias."""
    with torch.no_grad():
        for block in net.body:
            for conv in (block.conv1, block.conv2):
                order = torch.randperm(conv.out_channels)
                half = conv.out_channels // 2
                conv.weight[order[half:]] = conv.weight[order[:half]]
                conv.bias[order[half:]] = conv.bias[order[:half]]
    return net


@pytest.mark.parametrize("seed", range(3))
def test_a_net_of_twins_is_converted_without_loss(seed):
    torch.manual_seed(seed)
    net, x = duplicated(EDSR(12, 2, 2)).eval(), image(1, 3, 9, 8) * 40 + 120
    options = GhostOptions(estimator="frozen", logits="centre")
    ghost = conversion.converted(net, options, "kmeans", "matched", seed).eval()
    with torch.no_grad():
        assert torch.allclose(ghost(x), net(x), rtol=1e-5, atol=1e-4)
        scrambled = conversion.converted(net, options, "kmeans", "scrambled", seed).eval()
        assert (scrambled(x) - net(x)).abs().max() > 1e-2


def test_depthwise_ghosts_start_as_plain_copies():
    torch.manual_seed(0)
    net, x = EDSR(8, 1, 2).eval(), image(1, 3, 8, 8)
    both = [
        conversion.converted(net, options, "kmeans", "matched", 0).eval()(x)
        for options in (GhostOptions(cheap="depthwise"), GhostOptions(estimator="frozen", logits="centre"))
    ]
    assert torch.allclose(*both, atol=1e-5)


def test_learnable_shift_runs_backward_through_a_converted_net():
    torch.manual_seed(0)
    net = conversion.converted(EDSR(8, 2, 2, unit=255.0), GhostOptions(), "kmeans", "matched", 0)
    functional.l1_loss(net(image(2, 3, 6, 6)), image(2, 3, 12, 12)).backward()
    assert all(one.logits.grad is not None and bool(one.logits.grad.any()) for one in shifts(net)) and len(shifts(net)) == 4
