"""HCVRD's boxes, attention, metric, context layer and recall."""

import math

import pytest
import torch

from stages.papers.hcvrd import attention, boxes, metric, recall, scoring
from stages.papers.hcvrd.arms import ARMS
from stages.papers.hcvrd.context import ContextLayer, word_vectors
from stages.papers.hcvrd.relations import Labels, Pairs

torch.set_num_threads(1)


def some_boxes(count: int, seed: int = 0) -> torch.Tensor:
    low = 20 * torch.rand(count, 2, generator=torch.Generator().manual_seed(seed))
    return torch.cat([low, low + 1 + 10 * torch.rand(count, 2, generator=torch.Generator().manual_seed(seed + 1))], 1)


# --- boxes ----------------------------------------------------------------------------------------


def test_overlap_and_union():
    one, other = some_boxes(50), some_boxes(50, 7)
    assert torch.equal(boxes.overlap(one, other), boxes.overlap(other, one))
    assert torch.allclose(boxes.overlap(one, one), torch.ones(50))
    assert ((boxes.overlap(one, other) >= 0) & (boxes.overlap(one, other) <= 1)).all()
    both = boxes.union(one, other)
    for part in (one, other):
        assert (both[:, :2] <= part[:, :2]).all() and (both[:, 2:] >= part[:, 2:]).all()
    half = boxes.overlap(torch.tensor([0.0, 0, 2, 2]), torch.tensor([1.0, 0, 3, 2]))
    assert float(half) == pytest.approx(1 / 3)
    assert float(boxes.overlap(torch.tensor([0.0, 0, 2, 2]), torch.tensor([5.0, 5, 6, 6]))) == 0.0


def test_geometry_of_a_pair():
    found = boxes.geometry(torch.tensor([[0.0, 0, 10, 20]]), torch.tensor([[10.0, 0, 30, 20]]), 40)[0]
    assert found.tolist() == pytest.approx([1.5, 0.0, math.log(2), 0.0, 0.0, 200 / 1600, 400 / 1600])


def test_jitter_stays_inside_and_near():
    given = torch.tensor([[0.0, 0, 10, 20], [30, 30, 40, 40]]).repeat(200, 1)
    moved = boxes.jitter(given, 0.1, 40, torch.Generator().manual_seed(0))
    assert (moved >= 0).all() and (moved <= 40).all() and (moved[:, 2:] > moved[:, :2]).all()
    assert ((moved - given).abs() <= 2.0 + 1e-5).all() and not torch.equal(moved, given)


def test_regions_of_a_map():
    ramp = torch.arange(8.0).expand(1, 1, 8, 8) + 0.5  # the value is the column's centre
    cut = boxes.align(ramp, torch.tensor([[2.0, 1.0, 6.0, 5.0]]), torch.tensor([0]), 4)
    assert torch.allclose(cut[0, 0], torch.tensor([2.5, 3.5, 4.5, 5.5]).expand(4, 4))
    whole = torch.rand(2, 3, 8, 8)
    assert torch.allclose(boxes.align(whole, torch.tensor([[0.0, 0, 8, 8]]), torch.tensor([1]), 8, 1)[0], whole[1], atol=1e-6)


@pytest.mark.slow
def test_regions_are_those_of_torchvision():
    from stages.lib import vision_compat

    vision_compat.install()
    from torchvision.ops.roi_align import _roi_align  # its torch code; compiling it takes minutes

    from stages.papers.hcvrd.detector import aligned

    maps, rois = torch.rand(2, 3, 12, 12), torch.tensor([[0.0, 2, 2, 9, 8], [1, 3, 1, 10, 10], [1, 4, 4, 6, 5]])
    for half in (False, True):
        theirs = _roi_align.__wrapped__(maps, rois, 1.0, 4, 4, 2, half)
        assert torch.allclose(aligned(maps, rois, (4, 4), 1.0, 2, half), theirs, atol=1e-4)


# --- attention and bags ---------------------------------------------------------------------------


def test_attention_sums_to_one_and_is_never_zero():
    scores = 5 * torch.randn(6, 4, 4, generator=torch.Generator().manual_seed(0))
    a = attention.weights(scores)
    assert torch.allclose(a.sum((1, 2)), torch.ones(6))
    raised = torch.nn.functional.softplus(scores) + attention.FLOOR
    assert (a >= attention.FLOOR / raised.sum((1, 2), keepdim=True)).all()


def test_without_weights_it_is_the_mean():
    maps = torch.rand(3, 5, 4, 4)
    assert torch.allclose(attention.Attention(5, learned=False)(maps), maps.mean((2, 3)), atol=1e-6)
    assert not attention.Attention(5, learned=False).w.requires_grad
    learned = attention.Attention(5)
    learned.w.data = torch.randn(5)
    assert not torch.allclose(learned(maps), maps.mean((2, 3)), atol=1e-3)


def test_a_bag_of_one_is_its_image_and_order_does_not_matter():
    features = torch.rand(4, 3, 5)
    assert torch.equal(attention.bag(features[:, :1]), features[:, 0])
    assert torch.allclose(attention.bag(features), attention.bag(features.flip(1)))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_bags_without_a_right_image(size):
    wrong = torch.rand(100_000, size, generator=torch.Generator().manual_seed(0)) < 0.35
    assert float(wrong.all(1).float().mean()) == pytest.approx(0.35**size, abs=0.005)


# --- the metric -----------------------------------------------------------------------------------


def test_distances_do_not_see_a_rotation_of_both():
    f, g = torch.randn(4, 6, dtype=torch.float64), torch.randn(5, 6, dtype=torch.float64)
    turn, _ = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))
    assert torch.allclose(metric.distances(f, g), torch.cdist(f, g).square())
    assert torch.allclose(metric.distances(f @ turn, g @ turn), metric.distances(f, g))


def test_triplet_loss_is_zero_with_margins_and_pulls_and_pushes():
    assert float(metric.triplet(torch.tensor([[0.1, 0.5], [0.9, 0.2]]), torch.tensor([0, 1]), 0.2)) == 0.0
    d = torch.tensor([[0.4, 0.5, 0.2]], requires_grad=True)
    loss = metric.triplet(d, torch.tensor([0]), 0.2)
    loss.backward()  # semi-hard: the nearest that is farther than the positive
    assert loss.item() == pytest.approx(0.1) and d.grad.tolist() == [[1.0, -1.0, 0.0]]
    hardest = metric.triplet(torch.tensor([[0.9, 0.5, 0.2]]), torch.tensor([0]), 0.2)
    assert float(hardest) == pytest.approx(0.2 + 0.9 - 0.2)


def test_losses_by_name():
    d, target = torch.rand(3, 4), torch.tensor([0, 3, 2])
    assert torch.equal(metric.loss(d, target, "softmax", 0.1, 0.2), torch.nn.functional.cross_entropy(-d / 0.1, target))
    assert torch.equal(metric.loss(d, target, "triplet", 0.1, 0.2), metric.triplet(d, target, 0.2))


def test_composition_finds_a_label_that_is_the_sum_of_its_parts():
    parts = torch.randn(3, 4, 8, generator=torch.Generator().manual_seed(1))
    triplets = torch.tensor([(s, p, o) for s in range(2) for p in range(3) for o in range(4)])
    points = parts[0][triplets[:, 0]] + parts[1][triplets[:, 1]] + parts[2][triplets[:, 2]]
    seen = torch.ones(len(triplets), dtype=torch.bool)
    seen[[5, 18]] = False
    given = points.clone()
    given[~seen] = 0.0
    found = metric.composed(given, triplets, seen)
    assert torch.equal(found[seen], given[seen])
    near = torch.nn.functional.cosine_similarity(found[~seen].unsqueeze(1), points, dim=2).argmax(1)
    assert near.tolist() == [5, 18]


def test_running_prototypes_follow_their_bags_and_stop_the_gradient():
    memory, g = torch.zeros(3, 2), torch.tensor([[0.6, 0.8]], requires_grad=True)
    found = metric.remembered(memory, torch.tensor([1]), g)
    assert torch.equal(found[[0, 2]], torch.zeros(2, 2)) and torch.equal(found[1], g[0])
    assert torch.allclose(memory[1], g[0].detach()) and not memory.requires_grad
    metric.remembered(memory, torch.tensor([1]), torch.tensor([[1.0, 0.0]]))
    assert torch.allclose(memory[1], torch.nn.functional.normalize(torch.tensor([0.64, 0.72]), dim=0))
    found.sum().backward()
    assert g.grad.tolist() == [[1.0, 1.0]]


def test_class_means():
    found = metric.class_means(torch.tensor([[3.0, 0.0], [0.0, 3.0], [2.0, 0.0]]), torch.tensor([0, 0, 2]), 4)
    assert torch.allclose(found, torch.tensor([[0.5**0.5, 0.5**0.5], [0, 0], [1, 0], [0, 0]]))


# --- the context-aware layer ----------------------------------------------------------------------


def test_without_varied_weights_the_context_does_not_matter():
    layer, maps = ContextLayer(6, 4, 3, 2), torch.rand(5, 6, 3, 3)
    words = torch.randn(2, 6)
    assert not torch.allclose(layer(maps, words[0].expand(5, -1)), layer(maps, words[1].expand(5, -1)))
    layer.varied.data.zero_()
    plain = layer(maps, words[0].expand(5, -1))
    assert torch.equal(plain, layer(maps, words[1].expand(5, -1)))
    layer.plain.data[1].zero_()  # no attention either: a linear classifier of the mean
    linear = maps.mean((2, 3)) @ layer.plain[0] + layer.bias
    assert torch.allclose(layer(maps, words[0].expand(5, -1)), linear, atol=1e-6)


def test_a_words_vector_depends_on_the_word_alone():
    assert torch.equal(word_vectors(["man", "box"], 8)[1], word_vectors(["box"], 8)[0])


# --- scores ---------------------------------------------------------------------------------------

LABELS = Labels(
    torch.tensor([[0, 0, 0], [0, 1, 0], [1, 0, 1], [1, 1, 1]]), torch.tensor([0, 0, 0, 2]), torch.tensor([9, 3, 1, 0]),
    (["man", "woman"], ["on", "by"], ["box", "ball"]), 5,
)  # fmt: skip


def test_labels_shown_go_from_those_without_instances_to_the_most_frequent():
    assert LABELS.spread(2) == [3, 0] and LABELS.spread(9) == [3, 2, 1, 0]


def pairs(count: int) -> Pairs:
    place = torch.zeros(count, dtype=torch.int64)
    scores = [torch.tensor([[0.9, 0.1]]).log().expand(count, -1)] * 2
    return Pairs(place, some_boxes(count), some_boxes(count, 5), *scores, place - 1)


def test_scores_are_those_of_the_detector_times_a_softmax_over_the_admissible_labels():
    logits = torch.tensor([[1.0, 2.0, 0.0, 3.0]])
    for admissible in (LABELS.seen, ~LABELS.seen, torch.ones(4, dtype=torch.bool)):
        found = scoring.combined(ARMS["web_only"], logits, None, LABELS, pairs(1), admissible, 0.5).exp()[0]
        share = torch.where(admissible, logits[0].exp(), 0)
        det = torch.tensor([0.81, 0.81, 0.01, 0.01])
        assert torch.allclose(found, share / share.sum() * det)


def test_the_seen_labels_classifier_moves_no_mass_to_or_from_zero_shot_labels():
    logits, head = torch.tensor([[1.0, 2.0, 0.0, 3.0]]), torch.tensor([[5.0, 0.0, 0.0]])
    every, even = torch.ones(4, dtype=torch.bool), pairs(1)
    plain = scoring.combined(ARMS["full"], logits, None, LABELS, even, every, 0.5)
    mixed = scoring.combined(ARMS["full"], logits, head, LABELS, even, every, 0.5)
    assert torch.equal(plain[:, 3], mixed[:, 3]) and mixed[0, 0] > plain[0, 0]
    undone = (mixed - torch.tensor([[0.81, 0.81, 0.01, 0.01]]).log()).exp()
    assert float(undone.sum()) == pytest.approx(1.0, abs=1e-5)


def test_a_label_that_cannot_be_named_is_never_predicted():
    logits = torch.tensor([[1.0, 2.0, 0.0, float("-inf")]])
    found = scoring.combined(ARMS["softmax"], logits, None, LABELS, pairs(1), ~LABELS.seen, 0.5)
    assert not found.isfinite().any() and not found.isnan().any()
    assert len(recall.listed(found, 10)[0]) == 0
    assert recall.ranks(found, torch.tensor([3])).tolist() == [4]


# --- recall ---------------------------------------------------------------------------------------

BOX = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30], [0, 0, 10, 10.0]])


def match(
    labels: list[int], sub: torch.Tensor, obj: torch.Tensor, wanted: list[int], *boxes_of: torch.Tensor, **how
) -> list[int]:
    """Predictions with boxes against relations, whose boxes are the first of BOX and those 5 further unless given."""
    own = boxes_of or (BOX[: len(wanted)], BOX[: len(wanted)] + 5)
    return recall.match(torch.tensor(labels), recall.shared(sub, obj, *own, **how), torch.tensor(wanted), 0.5)


def test_perfect_predictions_are_all_found_and_recall_grows_with_k():
    places = torch.tensor(match([3, 1, 2], BOX, BOX + 5, [3, 1, 2]))
    assert places.tolist() == [0, 1, 2]
    values = [float(recall.within(places, k).double().mean()) for k in (1, 2, 3, 50)]
    assert values == pytest.approx([1 / 3, 2 / 3, 1, 1])
    assert recall.within(torch.tensor([-1, 0, 4]), 4).tolist() == [False, True, False]


def test_a_relation_is_found_once_and_repeats_only_use_up_places():
    rows = BOX[[0, 0, 0, 1]]
    assert match([3, 3, 3, 1], rows, rows + 5, [3, 1]) == [0, 3]
    twins = BOX[[0, 2]], BOX[[0, 2]] + 5  # two alike relations need two predictions
    assert match([3], BOX[:1], BOX[:1] + 5, [3, 3], *twins) == [0, -1]
    assert match([3, 3], rows[:2], rows[:2] + 5, [3, 3], *twins) == [0, 1]


def test_predictions_come_in_the_order_of_scores_not_of_overlap():
    loose = torch.tensor([[0.0, 0, 10, 14], [0, 0, 10, 10]])
    assert match([3, 3], loose, BOX[[0, 0]] + 5, [3]) == [0]
    assert match([2], BOX[:1], BOX[:1] + 5, [3]) == [-1]
    assert match([3], BOX[1:2], BOX[:1] + 5, [3]) == [-1]  # one box in place is not enough
    near = BOX[[1, 0, 2]] + torch.tensor([[0.0], [2], [0]])  # of two alike relations the one that fits best
    assert match([3], BOX[:1], BOX[:1], [3, 3], near[1:], near[1:]) == [-1, 0]


def test_phrases_need_only_the_union():
    sub, obj = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[10.0, 0, 20, 10]])
    assert match([3], obj, sub, [3], sub, obj) == [-1] and match([3], obj, sub, [3], sub, obj, phrase=True) == [0]


def test_lists_are_in_order_and_may_be_limited_per_pair():
    scores = torch.tensor([[0.1, 0.9, 0.8], [0.7, float("-inf"), 0.2]])
    assert [part.tolist() for part in recall.listed(scores, 4)] == [[0, 0, 1, 1], [1, 2, 0, 2]]
    assert [part.tolist() for part in recall.listed(scores, 4, 1)] == [[0, 1], [1, 0]]
    assert len(recall.listed(scores, 100)[0]) == 5


def test_ranks_and_macro_means():
    assert recall.ranks(torch.tensor([[0.1, 0.9, 0.8], [0.7, 0.7, 0.2]]), torch.tensor([2, 0])).tolist() == [1, 0]
    assert recall.macro(torch.tensor([True, True, True, False]), torch.tensor([4, 4, 4, 5])) == 0.5
