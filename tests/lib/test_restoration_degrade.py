"""Bicubic scaling against exact arithmetic, Pillow and the publisher's files; noise; rain."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

from stages.lib.errors import StageError
from stages.lib.restoration import degrade, quality
from stages.lib.restoration.rain import Rain, streaks

SR = Path(__file__).parents[2] / "../shared/data/sr"
FACTORS = pytest.mark.parametrize("factor", [2, 3, 4])
BICUBIC = {2: 33.66, 3: 30.39, 4: 28.42}  # Set5, as published


@pytest.fixture(autouse=True)
def one_thread():
    """As stages run; two threads on busy cores only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def smooth(height: int, width: int) -> torch.Tensor:
    """[3, height, width] within 0..255, without sharp edges."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    waves = [torch.sin(rows / 5 + shift) + torch.cos(columns / (4 + shift)) for shift in range(3)]
    return 127.5 + 60 * torch.stack(waves)


def keys(x: Fraction) -> Fraction:
    """The cubic kernel with a = -1/2, as Keys wrote it."""
    a, x = Fraction(-1, 2), abs(x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else Fraction(0)


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 5, 8])
def test_weights_are_exact_symmetric_and_sum_to_one(factor):
    first, weights, denominator = degrade.down_weights(factor)
    centre = Fraction(factor - 1, 2)
    for tap, weight in enumerate(weights):
        assert Fraction(weight, denominator) == keys((first + tap - centre) / factor) / factor
    assert keys((first - 1 - centre) / factor) == keys((first + len(weights) - centre) / factor) == 0
    assert sum(weights) == denominator
    assert weights == weights[::-1]
    phases, denominator = degrade.up_weights(factor)
    for phase, taps in enumerate(phases):
        assert sum(taps) == denominator
        place = (phase + Fraction(1, 2)) / factor - Fraction(1, 2)
        assert [Fraction(weight, denominator) for weight in taps] == [keys(tap - 2 - place) for tap in range(5)]


@FACTORS
@pytest.mark.parametrize("quantise", [True, False])
def test_a_constant_image_stays_constant(factor, quantise):
    x = torch.full((2, 3, 4 * factor, 5 * factor), 77.0)
    assert torch.equal(degrade.downscale(x, factor, quantise), torch.full((2, 3, 4, 5), 77.0))
    assert torch.equal(degrade.upscale(x[..., :4, :5], factor, quantise), x)


@FACTORS
def test_interior_pixels_agree_with_pillow(factor):
    """Pillow's bicubic has the same kernel and stretches it too; it differs at borders, where it drops taps."""
    x = smooth(16 * factor, 20 * factor)
    rim = 3
    small, large = degrade.downscale(x, factor, quantise=False), degrade.upscale(x, factor)
    for channel in range(3):
        image = Image.fromarray(x[channel].numpy())  # 32-bit floats: Pillow does not round between its two passes
        for ours, size, edge in ((small, (20, 16), rim), (large, (20 * factor**2, 16 * factor**2), rim * factor)):
            theirs = torch.from_numpy(numpy.array(image.resize(size, Image.Resampling.BICUBIC)))
            inside = (slice(edge, -edge), slice(edge, -edge))
            assert (ours[channel] - theirs)[inside].abs().max() < 1 / 255


@FACTORS
def test_antialiased_interpolation_of_torch_agrees_inside(factor):
    x = torch.rand(1, 3, 12 * factor, 14 * factor, generator=seeded(factor)) * 255
    theirs = torch.nn.functional.interpolate(x, size=(12, 14), mode="bicubic", antialias=True)
    assert (degrade.downscale(x, factor, quantise=False) - theirs)[..., 3:-3, 3:-3].abs().max() < 1e-3


def test_border_indices_are_clamped():
    x = torch.rand(3, 12, 12, generator=seeded(0)) * 255
    wide = torch.nn.functional.pad(x, (8, 8, 8, 8), mode="replicate")
    assert torch.equal(degrade.downscale(x, 2), degrade.downscale(wide, 2)[:, 4:-4, 4:-4])
    assert torch.equal(degrade.upscale(x, 3), degrade.upscale(wide, 3)[:, 24:-24, 24:-24])


def test_integers_floats_and_batches_give_the_same_numbers():
    x = torch.randint(0, 256, (2, 3, 12, 24), dtype=torch.uint8, generator=seeded(0))
    small = degrade.downscale(x, 4)
    assert small.dtype == torch.uint8
    assert torch.equal(small.float(), degrade.downscale(x.float(), 4))
    assert torch.equal(small[1], degrade.downscale(x[1], 4))
    assert torch.equal(degrade.upscale(x, 1, quantise=True), x)


def test_overshoot_is_clipped_only_by_rounding():
    edge = torch.zeros(1, 8, 8)
    edge[..., 4:] = 255
    assert degrade.upscale(edge, 4).max() > 255
    rounded = degrade.upscale(edge, 4, quantise=True)
    assert (rounded.min(), rounded.max()) == (0, 255)
    assert torch.equal(degrade.to_8bit(torch.tensor([-3.0, 0.5, 1.49, 2.5, 300.0])), torch.tensor([0.0, 1, 1, 3, 255]))


def test_impossible_scales_are_named():
    x = torch.zeros(3, 9, 8)
    with pytest.raises(StageError, match="8 x 9 pixels is no multiple of 2"):
        degrade.downscale(x, 2)
    assert degrade.downscale(degrade.crop_to_multiple(x, 4), 4).shape == (3, 2, 2)
    with pytest.raises(StageError, match="smaller than the factor"):
        degrade.crop_to_multiple(x, 10)
    with pytest.raises(StageError, match="1 or more"):
        degrade.upscale(x, 0)
    with pytest.raises(StageError, match="without rounding"):
        degrade.downscale(x.byte(), 1, quantise=False)


def test_scaling_counts_no_multiply_adds():
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        degrade.upscale(torch.rand(1, 3, 8, 8), 2)
    assert counter.get_total_flops() == 0


def picture(path: Path) -> torch.Tensor:
    return torch.from_numpy(numpy.array(Image.open(path))).permute(2, 0, 1)


@FACTORS
def test_the_publishers_low_resolution_set5_is_reproduced_and_so_is_bicubics_psnr(factor):
    """Every pixel of MATLAB's files, and the figures that all papers quote."""
    if not SR.is_dir():
        pytest.skip("no publisher's files in ../shared/data/sr")
    found = []
    for number, path in enumerate(sorted((SR / "Set5").glob("*.png")), 1):
        clean = degrade.crop_to_multiple(picture(path), factor)
        low = picture(SR / f"Set5_LR/image_SRF_{factor}/img_{number:03d}_SRF_{factor}_LR.png")
        assert torch.equal(degrade.downscale(clean, factor), low), path
        restored = degrade.upscale(low, factor, quantise=True)
        found.append(quality.psnr(*(quality.shave(quality.luminance(x), factor) for x in (restored, clean))))
    assert len(found) == 5
    assert sum(found) / 5 == pytest.approx(BICUBIC[factor], abs=0.05)


def test_noise_is_clipped_not_rounded_seeded_and_nothing_at_zero():
    x = smooth(64, 64)
    assert torch.equal(degrade.add_noise(x, 0, seeded(1)), x)
    noisy = degrade.add_noise(x, 30, seeded(1))
    assert torch.equal(noisy, degrade.add_noise(x, 30, seeded(1)))
    assert not torch.equal(noisy, degrade.add_noise(x, 30, seeded(2)))
    assert noisy.min() >= 0 and noisy.max() <= 255
    middle = torch.full((3, 200, 200), 127.5)
    added = degrade.add_noise(middle, 20, seeded(3)) - middle
    assert float(added.std()) == pytest.approx(20, rel=0.02)
    assert not torch.equal(added, added.round())


def test_rain_is_grey_additive_and_nothing_where_there_is_none():
    x = smooth(40, 50)
    assert torch.equal(degrade.add_rain(x, torch.zeros(40, 50, dtype=torch.uint8)), x)
    layer = torch.from_numpy(streaks(40, 50, 1))
    rainy = degrade.add_rain(torch.full((2, 3, 40, 50), 100.0), layer)
    assert torch.equal(rainy, (100.0 + layer).clamp(max=255).expand(2, 3, 40, 50))
    assert degrade.add_rain(torch.full((3, 40, 50), 250.0), layer).max() == 255


def test_streaks_are_seeded_and_as_bright_and_dense_as_asked():
    layer = streaks(96, 96, 5)
    assert layer.dtype == numpy.uint8 and layer.shape == (96, 96)
    assert numpy.array_equal(layer, streaks(96, 96, 5))
    assert not numpy.array_equal(layer, streaks(96, 96, 6))
    assert not streaks(96, 96, 5, Rain(density=(0, 0))).any()
    assert streaks(96, 96, 5, Rain(brightness=(40, 40))).max() >= 40
    mean = numpy.mean([streaks(96, 96, seed).mean() for seed in range(20)])
    dense = numpy.mean([streaks(96, 96, seed, Rain(density=(120, 320))).mean() for seed in range(20)])
    assert dense == pytest.approx(4 * mean, rel=0.25)
    assert streaks(96, 96, 0).mean(1).std() < 3  # no band at a border


def test_a_single_streak_is_a_pixel_wide_and_leans_as_its_slope_says():
    lone = Rain(density=(1, 1), length=(12, 12), brightness=(200, 200), slope=0, jitter=0)
    layers = [streaks(60, 60, seed, lone).astype(int) for seed in range(12)]
    drawn = [layer for layer in layers if (layer.sum(1) > 0).sum() == 12]
    assert drawn
    for layer in drawn:
        columns = numpy.flatnonzero(layer.sum(0))
        assert len(columns) <= 2
        if columns[0] == 0 or columns[-1] == 59:
            continue  # it may lie half outside
        sums = layer.sum(1)[layer.sum(1) > 0]
        assert abs(sums[3:-3] - 200).max() <= 1
        assert sums[0] < sums[1] < sums[2]
