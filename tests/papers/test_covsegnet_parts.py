"""Loss, measures, filters, sliding window, batches, patients and slabs of CovSegNet."""

import math
from pathlib import Path

import numpy
import pytest
import torch
import yaml
from torch import nn

from stages.lib.errors import StageError
from stages.papers.covsegnet import classification, division, filters, inference, losses, overlap, phases, sampling
from stages.papers.covsegnet.scans import Scan, Set
from stages.papers.covsegnet.settings import Fit, Loss

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
PLAIN = Fit(steps=1, lesion=2, other=2, lr=0.01, weight_decay=0.0, rotation=0.0, zoom=0.0, jitter=0.0)
torch.set_num_threads(1)


def scan(place: int = 0, group: int = 0, patient: str = "", first: int = 0, depth: int = 6, case: int | None = None) -> Scan:
    """A scan with a bright box for a lesion, whose slices are numbered by their last voxel."""
    image, lesion = torch.zeros(depth, 8, 8), torch.zeros(depth, 8, 8, dtype=torch.uint8)
    lesion[1:4, 2:5, 2:5] = 1
    image[lesion.bool()] = 1.0
    image[:, -1, -1] = torch.arange(first, first + depth)
    none = torch.zeros_like(lesion)
    number = place if case is None else case
    return Scan(
        place, number, str(number), patient or f"p{number}", group, first, image, lesion, none + 1, none, (6.0, 2.0, 2.0)
    )


# --- loss -----------------------------------------------------------------------------------------


def test_focal_tversky_is_0_for_the_truth_and_at_most_1():
    y = (torch.rand(3, 1, 8, 8) > 0.8).float()
    loss = Loss(0.7, 0.3, 0.75)
    assert losses.focal_tversky(y, y, loss) < 1e-3
    assert 0.9 < losses.focal_tversky(1 - y, y, loss) <= 1.0
    hits = [losses.focal_tversky(share * y, y, loss).item() for share in (0.2, 0.5, 0.9)]
    assert hits[0] > hits[1] > hits[2]


def test_equal_weights_and_exponent_1_are_the_soft_dice_loss():
    p, y = torch.rand(2, 1, 8, 8), (torch.rand(2, 1, 8, 8) > 0.5).float()
    dice = (2 * (p * y).sum() + 2) / (p.sum() + y.sum() + 2)
    assert losses.focal_tversky(p, y, Loss(0.5, 0.5, 1.0)).item() == pytest.approx(1 - dice.item(), abs=1e-6)


def test_misses_weigh_more_than_false_alarms():
    y = torch.zeros(1, 1, 8, 8)
    y[..., :4] = 1
    less, more = y.clone(), y.clone()
    less[..., 0] = 0  # a column missed
    more[..., 4] = 1  # a column too many
    weighted = Loss(0.7, 0.3, 0.75)
    assert losses.focal_tversky(less, y, weighted) > losses.focal_tversky(more, y, weighted)


def test_the_loss_of_a_batch_without_lesion_still_teaches():
    logits = torch.zeros(1, 1, 8, 8, requires_grad=True)
    losses.total(logits, torch.zeros(1, 1, 8, 8), Loss(0.7, 0.3, 0.75)).backward()
    assert (logits.grad > 1e-3).all()


def test_one_cycle_rises_and_falls():
    rate = phases.one_cycle(0.1, 100)
    values = [rate(step) for step in range(100)]
    assert values[0] == pytest.approx(0.004) and max(values) == pytest.approx(0.1) and values[-1] < 1e-6
    assert values.index(max(values)) == 29
    assert all(0 <= phases.one_cycle(0.1, steps)(step) <= 0.1 for steps in (1, 2, 3) for step in range(steps))


# --- measures -------------------------------------------------------------------------------------


def masks(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.rand(4, 9, 9, generator=generator) > 0.7 for _ in range(2))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_dice_and_iou_belong_together_and_are_symmetric(seed):
    one, two = masks(seed)
    here, there = overlap.measures(one, two, (1, 1, 1)), overlap.measures(two, one, (1, 1, 1))
    assert here["iou"] == pytest.approx(here["dice"] / (2 - here["dice"]))
    assert here["dice"] == there["dice"] == overlap.dice(one, two) and here["hd95"] == there["hd95"]
    assert here["sensitivity"] == there["precision"]


def test_a_scan_without_lesion_has_a_dice():
    none, some = torch.zeros(3, 4, 4, dtype=torch.bool), masks(0)[0][:3, :4, :4]
    found = overlap.measures(none, none, (6.0, 2.0, 2.0))
    assert (found["dice"], found["iou"], found["sensitivity"], found["hd95"]) == (1.0, 1.0, 1.0, 0.0)
    alarm = overlap.measures(some, none, (6.0, 2.0, 2.0))
    assert alarm["dice"] == 0.0 and alarm["sensitivity"] == 1.0 and alarm["specificity"] < 1.0
    assert alarm["hd95"] == pytest.approx(math.hypot(18.0, 8.0, 8.0))
    blind = overlap.measures(none, some, (6.0, 2.0, 2.0))
    assert (blind["dice"], blind["sensitivity"], blind["precision"], blind["specificity"]) == (0.0, 0.0, 0.0, 1.0)


def test_hausdorff_distance_is_in_millimetres():
    one = torch.zeros(8, 8, 8, dtype=torch.bool)
    one[2, 2, 2] = True
    assert overlap.measures(one, one.roll(1, 0), (6.0, 2.0, 1.0))["hd95"] == pytest.approx(6.0)
    assert overlap.measures(one, one.roll(3, 2), (6.0, 2.0, 1.0))["hd95"] == pytest.approx(3.0)


# --- filters and windows --------------------------------------------------------------------------


def test_the_median_removes_single_slices_and_keeps_three():
    p = torch.zeros(9, 2, 2)
    p[1] = p[4:7] = 1.0
    found = filters.median(p)
    assert not found[:4].any() and bool(found[4:7].all()) and not found[7:].any()
    assert torch.equal(filters.median(p[4:5]), p[4:5])


def test_the_gaussian_keeps_constants_and_the_sum():
    constant = filters.gaussian(torch.full((5, 2, 2), 0.3), 0.7)
    assert torch.allclose(constant, torch.full((5, 2, 2), 0.3))
    p = torch.zeros(9, 1, 1)
    p[4] = 1.0
    assert filters.gaussian(p, 0.7).sum().item() == pytest.approx(1.0, abs=1e-5)


class Constant(nn.Module):
    def forward(self, x):
        return torch.full_like(x[:, :1], 0.4)


@pytest.mark.parametrize("size", [(5, 9, 8), (2, 4, 4), (13, 6, 7)])
@pytest.mark.parametrize("part", [0.0, 0.5, 0.9])
def test_a_constant_net_gives_its_constant_everywhere(size, part):
    found = inference.by_windows(Constant(), torch.randn(1, *size), [4, 4, 4], part, CPU)
    assert torch.allclose(found, torch.full(size, 0.4).sigmoid(), atol=1e-6)


def test_one_window_over_all_is_the_net_itself():
    torch.manual_seed(0)
    net, x = nn.Conv3d(2, 1, 3, padding=1), torch.randn(2, 4, 6, 5)
    assert torch.allclose(inference.by_windows(net, x, [9, 9, 9], 0.5, CPU), net(x[None]).sigmoid()[0, 0], atol=1e-6)


def test_slices_are_answered_one_by_one():
    torch.manual_seed(0)
    net, image = nn.Conv2d(1, 1, 3, padding=1), torch.randn(70, 4, 4)
    found = inference.by_slices(net, image, CPU)
    assert torch.allclose(found[69], net(image[69:70, None]).sigmoid()[0, 0], atol=1e-6) and found.shape == image.shape


@pytest.mark.parametrize("mode", ["both", "product", "raised"])
def test_the_enhanced_volume(mode):
    image, p = torch.rand(3, 4, 4), torch.rand(3, 4, 4)
    found = inference.enhanced(image, p, mode)
    assert found.shape[0] == inference.channels(mode)
    if mode == "both":
        assert torch.equal(found[0], image) and torch.equal(found[1], p)
    assert torch.allclose(inference.enhanced(image, torch.ones_like(p), mode)[0], image)


# --- batches --------------------------------------------------------------------------------------


def test_batches_of_slices_are_half_with_lesions():
    one = scan()
    x, y = sampling.slices([one.image], [one.lesion], PLAIN)(torch.Generator().manual_seed(0))
    assert x.shape == y.shape == (4, 1, 8, 8)
    assert y.flatten(1).any(1).tolist() == [True, True, False, False]
    with pytest.raises(StageError, match="lesion"):
        sampling.slices([one.image], [one.lesion * 0], PLAIN)


def test_subvolumes_hold_what_they_are_centred_on():
    one = scan()
    draw = sampling.subvolumes([one.image[None]], [one.lesion], [2, 3, 3], PLAIN)
    for seed in range(5):
        x, y = draw(torch.Generator().manual_seed(seed))
        assert x.shape == (4, 1, 2, 3, 3) and bool(y[:2].flatten(1).any(1).all())
        assert torch.equal(x.ge(0.5)[y.bool()], torch.ones(int(y.sum()), dtype=torch.bool))
    whole = sampling.subvolumes([one.image[None]], [one.lesion], [99, 99, 99], PLAIN)(torch.Generator())
    assert whole[0].shape[2:] == one.image.shape


def test_turning_keeps_scan_and_mask_together():
    generator = torch.Generator().manual_seed(1)
    fit = Fit(1, 1, 1, 0.1, 0.0, 15.0, 0.1, 0.0)
    mask = torch.zeros(2, 1, 3, 16, 16)
    mask[..., 2:7, 5:14] = 1
    x, y = sampling.turned(mask, mask, fit, generator)
    assert set(y.unique().tolist()) == {0.0, 1.0}
    assert torch.equal((x > 0.5).float(), y) and not torch.equal(y, mask)
    assert torch.equal(y[:, :, 0], y[:, :, 2])
    same = sampling.turned(mask, mask, Fit(1, 1, 1, 0.1, 0.0, 0.0, 0.0, 0.0), generator)[0]
    assert torch.allclose(same, mask, atol=1e-5)


def test_jitter_leaves_the_probability_alone():
    x, y = torch.rand(2, 2, 4, 8, 8), torch.zeros(2, 1, 4, 8, 8)
    found, _ = sampling.varied(x, y, Fit(1, 1, 1, 0.1, 0.0, 0.0, 0.0, 0.5), torch.Generator().manual_seed(3))
    assert torch.equal(found[:, 1].sort().values.flatten().sort().values, x[:, 1].flatten().sort().values)
    assert not torch.equal(found[:, 0].flatten().sort().values, x[:, 0].flatten().sort().values)


# --- patients and slabs ---------------------------------------------------------------------------


def patients() -> Set:
    groups = [0, 0, 0, 0, 0, 1, 2, 2]
    names = ["a", "a", "b", "c", "d", "e", "f", "f"]
    return Set(tuple(scan(i, group, name) for i, (group, name) in enumerate(zip(groups, names))), "patients")


@pytest.mark.parametrize("repetition", range(4))
def test_no_patient_is_trained_and_tested_and_scans_of_one_stay_together(repetition):
    found = division.divide(patients(), "test", 3, repetition)
    assert {one.patient for one in found.tested} == {"f"}
    drawn = [one.patient for one in found.train]
    assert not {"e", "f"} & set(drawn) and len(drawn) >= 3 and drawn.count("a") in (0, 2)
    fold = division.folds(found.train, 2, repetition)
    assert len(set(fold)) == 2
    assert len({k for one, k in zip(found.train, fold) if one.patient == "a"}) <= 1


def test_the_probability_of_a_scan_is_by_the_net_that_left_it_out():
    answers = [[torch.tensor(10 * k + i) for i in range(4)] for k in range(2)]
    assert [int(one) for one in division.out_of_fold([0, 1, 1, 0], answers)] == [0, 11, 12, 3]


def test_other_repetitions_draw_other_scans():
    drawn = {tuple(one.place for one in division.divide(patients(), "val", 2, r).train) for r in range(8)}
    assert len(drawn) > 1


@pytest.mark.parametrize(("split", "said"), [("train", "expected val or test"), ("all", "expected val or test")])
def test_unknown_splits(split, said):
    with pytest.raises(StageError, match=said):
        division.divide(patients(), split, 2, 0)


def test_scans_without_lesion_cannot_be_trained_on():
    healthy = [Scan(**{**vars(one), "lesion": one.lesion * 0}) for one in patients().scans]
    with pytest.raises(StageError, match="no lesion"):
        division.divide(Set(tuple(healthy), "patients"), "test", 2, 0)
    with pytest.raises(StageError, match="fewer folds"):
        division.folds([scan(0)], 2, 0)


@pytest.mark.parametrize("turn", range(3))
def test_slabs_take_turns_and_share_no_slice_nor_a_neighbour(turn):
    slabs = [scan(3 * case + k, k, first=6 * k, case=case) for case in range(2) for k in range(3)]
    found = division.divide(Set(tuple(slabs), "slabs"), "test", 99, turn)
    assert {one.group for one in found.tested} == {turn}
    for one in found.train:
        for other in found.tested:
            if one.case == other.case:
                seen, asked = (part.image[:, -1, -1].tolist() for part in (one, other))
                assert min(abs(a - b) for a in seen for b in asked) > division.GUARD
        assert one.image[0, -1, -1] == one.first
    other = division.divide(Set(tuple(slabs), "slabs"), "val", 99, turn)
    assert {one.group for one in other.tested} == {(turn + 1) % 3}


# --- the table on COVID-CT ------------------------------------------------------------------------


def test_area_under_the_curve_counts_ties_half():
    y = numpy.array([0, 0, 1, 1])
    assert classification.auc(numpy.array([0.0, 1.0, 2.0, 3.0]), y) == 1.0
    assert classification.auc(numpy.zeros(4), y) == 0.5
    found = classification.measures(numpy.array([-1.0, 1.0, 1.0, 1.0]), y)
    assert (found["accuracy"], found["balanced_accuracy"], found["f1"]) == (0.75, 0.75, 0.8)


@pytest.mark.parametrize("name", classification.NETS)
def test_classifiers_answer_for_any_size(name):
    net = classification.NETS[name]([2, 3]).eval()
    assert net(torch.randn(3, 1, 12, 12)).shape == (3, 2)
    assert not any("ups" in key for key in net.state_dict())


@pytest.mark.parametrize("scale", ["smoke", "small", "medium", "paper"])
def test_classifiers_are_of_equal_size(scale):
    section = yaml.safe_load((ROOT / f"params/covsegnet/{scale}.yaml").read_text())["covid_ct"]
    with torch.device("meta"):
        sizes = [sum(one.numel() for one in classification.NETS[name](section[key]).parameters())
                 for name, key in (("encoder", "channels"), ("convolutions", "plain"))]  # fmt: skip
    assert sizes[1] == pytest.approx(sizes[0], rel=0.02)
