"""MILAN's division of the patches, its losses and its scenes: what must hold for any draw."""

import math

import numpy
import pytest
import torch

from stages.lib.errors import StageError
from stages.papers.milan import losses, sampling, scenes
from stages.papers.milan.settings import Scenes
from tests.papers.milan_settings import digits, images

torch.set_num_threads(1)


def weights(batch: int, patches: int = 16) -> torch.Tensor:
    return torch.rand(batch, patches, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("importance", [None, weights(50)])
@pytest.mark.parametrize(("ratio", "kept"), [(0.75, 4), (0.0, 16), (0.7, 4)])
def test_visible_and_hidden_patches_are_all_patches(importance, ratio, kept):
    torch.manual_seed(0)
    found = sampling.draw(50, 16, ratio, importance)
    assert found.keep.shape == (50, kept) and found.dump.shape == (50, 16 - kept)
    assert torch.equal(torch.cat([found.keep, found.dump], 1).sort(1)[0], torch.arange(16).expand(50, 16))
    assert (found.mask().sum(1) == 16 - kept).all()
    assert (found.mask().gather(1, found.keep) == 0).all()
    tokens = torch.randn(50, 16, 3)
    both = torch.cat([sampling.gather(tokens, found.keep), sampling.gather(tokens, found.dump)], 1)
    assert torch.equal(sampling.gather(both, found.restore), tokens)


def test_weight_on_few_patches_keeps_them_visible_and_none_comes_last():
    torch.manual_seed(0)
    importance = torch.zeros(300, 16)
    importance[:, [3, 7, 11]] = torch.tensor([0.2, 0.5, 0.3])
    found = sampling.draw(300, 16, 0.75, importance)
    assert all({3, 7, 11} <= set(row) for row in found.keep.tolist())
    almost = torch.ones(300, 16)
    almost[:, 5] = 0.0
    assert (sampling.draw(300, 16, 0.0, almost).keep[:, -1] == 5).all()


def test_draws_are_sequential_and_proportional_to_the_weights():
    """First places by chi-square; second places given the first by the weights of those left."""
    torch.manual_seed(0)
    shares, count = torch.tensor([0.5, 0.25, 0.15, 0.1]), 20000
    order = sampling.draw(count, 4, 0.0, 3.0 * shares.expand(count, 4)).keep  # no normalisation is asked for
    seen = torch.bincount(order[:, 0], minlength=4)
    assert float(((seen - count * shares) ** 2 / (count * shares)).sum()) < 16.3  # 99.9 % of 3 degrees
    after = order[order[:, 0] == 0][:, 1]
    expected = shares[1:] / 0.5 * len(after)
    assert float(((torch.bincount(after, minlength=4)[1:] - expected) ** 2 / expected).sum()) < 13.8


@pytest.mark.parametrize("importance", [None, torch.full((4000, 16), 0.01)])
def test_equal_weights_keep_each_patch_equally_often(importance):
    torch.manual_seed(0)
    shown = 1.0 - sampling.draw(4000, 16, 0.75, importance).mask().mean(0)
    assert (shown - 0.25).abs().max() < 4.5 * math.sqrt(0.25 * 0.75 / 4000)


def test_both_samplings_use_the_same_noise():
    torch.manual_seed(0)
    random = sampling.draw(8, 16, 0.75, None)
    torch.manual_seed(0)
    assert torch.equal(sampling.draw(8, 16, 0.75, torch.ones(8, 16)).keep, random.keep)


@pytest.mark.parametrize("ratio", [-0.1, 1.0, math.nan, 0.99])
def test_mask_ratios_that_cannot_be(ratio):
    with pytest.raises(StageError, match="mask ratio"):
        sampling.visible(16, ratio)


# --- losses ---------------------------------------------------------------------------------------


def test_feature_loss_is_a_distance_of_directions():
    torch.manual_seed(0)
    first, second = torch.randn(4, 5, 6), torch.randn(4, 5, 6)
    value = losses.feature_loss(first, second)
    assert 0.0 <= value <= 4.0
    assert losses.feature_loss(3.0 * second, second) < 1e-6
    assert losses.feature_loss(-second, second) == pytest.approx(4.0)
    assert losses.feature_loss(5.0 * first, 0.1 * second) == pytest.approx(float(value), abs=1e-6)
    unit = [part / part.norm(dim=-1, keepdim=True) for part in (first, second)]
    assert value == pytest.approx(float(((unit[0] - unit[1]) ** 2).sum(-1).mean()), abs=1e-6)
    changed = first.clone()
    changed[:, 0] = -second[:, 0]
    assert losses.feature_loss(changed, second) != value  # the class token counts


def test_pixel_loss_counts_hidden_patches_alone():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 8, 8)
    target = losses.pixel_target(x, 4, False)
    assert torch.equal(target[1, 1].view(4, 4, 3), x[1, :, :4, 4:].permute(1, 2, 0))
    mask = torch.tensor([[1.0, 0, 0, 1], [0, 1, 1, 0]])
    shown = target + (1 - mask).unsqueeze(2)
    assert losses.pixel_loss(shown, target, mask) == 0.0
    assert losses.pixel_loss(target + 2.0, target, mask) == pytest.approx(4.0)
    assert losses.pixel_loss(target, target + 1.0, torch.zeros(2, 4)) == 0.0
    normal = losses.pixel_target(x, 4, True)
    assert normal.mean(-1).abs().max() < 1e-6 and (normal.var(-1) - 1.0).abs().max() < 1e-4


# --- scenes ---------------------------------------------------------------------------------------


def test_originals_of_different_roles_are_disjoint():
    split = digits(100)
    split.x.copy_(torch.arange(100.0).view(100, 1, 1, 1).expand_as(split.x))
    parts = scenes.divide(split, {"teacher": 40, "student": 30, "labels": 20})
    marks = [set(part.x[:, 0, 0, 0].tolist()) for part in parts.values()]
    assert [len(mark) for mark in marks] == [40, 30, 20] and len(set.union(*marks)) == 90
    with pytest.raises(StageError, match="more than the 100"):
        scenes.divide(split, {"teacher": 60, "student": 30, "labels": 20})
    with pytest.raises(StageError, match="originals.labels=9"):
        scenes.divide(split, {"teacher": 60, "student": 30, "labels": 9})


def test_scenes_hold_the_digit_where_the_caption_says():
    settings = Scenes(**{**images(), "noise": 0.0})
    split = digits(40)
    made = scenes.compose(split, 80, settings, 0, "teacher")
    assert torch.equal(made.y, split.y[made.originals]) and numpy.bincount(made.originals.numpy()).tolist() == [2] * 40
    ink = scenes.ink(split, settings.digit, settings.floor)
    for i in range(80):
        row, column = made.boxes[i].tolist()
        patch = made.x[i, 0, row : row + 8, column : column + 8] * settings.scale
        assert (patch - settings.contrast * ink[made.originals[i]]).abs().max() < 1.0 / scenes.LEVELS
        outside = made.x[i].clone()
        outside[0, row : row + 8, column : column + 8] = 0.0
        assert outside.abs().max() < 1.0 / scenes.LEVELS
        words = [scenes.VOCABULARY[word] for word in made.captions[i].tolist()]
        assert words[0] == scenes.NAMES[int(made.y[i])]
        assert words[1] == ("bottom" if row > 4 else "top") and words[2] == ("right" if column > 4 else "left")
        assert words[3] in ("thin", "thick")


def test_scenes_follow_from_repetition_and_role():
    settings, split = Scenes(**images()), digits(40)
    made = [
        scenes.compose(split, 20, settings, *key).x for key in ((0, "teacher"), (0, "teacher"), (1, "teacher"), (0, "student"))
    ]
    assert torch.equal(made[0], made[1]) and not torch.equal(made[0], made[2]) and not torch.equal(made[0], made[3])
    with pytest.raises(StageError, match="too few"):
        scenes.compose(split, 9, settings, 0, "labels")


def test_foreground_is_at_least_half_a_patch():
    found = scenes.foreground(torch.tensor([[0, 0], [4, 8], [2, 0]]), 8, 16, 4).view(3, 4, 4)
    assert found[0].nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert found[1].nonzero().tolist() == [[1, 2], [1, 3], [2, 2], [2, 3]]
    assert found[2].sum() == 6
