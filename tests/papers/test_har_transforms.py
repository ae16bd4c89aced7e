"""Transformations of windows: symmetries, invariances, ranges (section 9 of the specification)."""

import dataclasses

import pytest
import torch

from stages.lib.errors import StageError
from stages.papers.har_multistage.settings import REGISTRY, Transforms
from stages.papers.har_multistage.transforms import angles, averaged, quantile_bins, transform, transitions

torch.set_num_threads(1)
OPTIONS = Transforms(["raw"], 32, 1, 1, None, 8, 32, 4)
EXACT = pytest.mark.parametrize(("dimension", "samples"), [(1, 128), (3, 136)])  # 4 samples a point, none filled in


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    return torch.randn(4, 3, 128, generator=torch.Generator().manual_seed(0)).cumsum(2)


@pytest.fixture(scope="module")
def whole() -> torch.Tensor:
    """Series of whole numbers, whose averages and distances float32 holds exactly."""
    return torch.randint(-3, 4, (4, 3, 136), generator=torch.Generator().manual_seed(1)).cumsum(2).float()


def options(**more) -> Transforms:
    return dataclasses.replace(OPTIONS, **more)


def test_shapes_and_type(x):
    shapes = {"raw": (128,), "spectrum": (65,), "stft": (17, 25)}
    for name in REGISTRY:
        found = transform(name, x, OPTIONS)
        assert found.shape == (4, 3, *shapes.get(name, (32, 32)))
        assert found.dtype == torch.float32 and bool(found.isfinite().all())


def test_gramian_fields(x):
    summed, difference = transform("gasf", x, OPTIONS), transform("gadf", x, OPTIONS)
    cosine, _ = angles(x, 32)
    assert torch.allclose(summed, summed.transpose(2, 3), atol=1e-6)
    assert summed.abs().max() <= 1 + 1e-6 and difference.abs().max() <= 1 + 1e-6
    assert torch.allclose(summed.diagonal(dim1=2, dim2=3), 2 * cosine**2 - 1, atol=1e-6)
    assert torch.allclose(difference, -difference.transpose(2, 3), atol=1e-6)
    assert difference.diagonal(dim1=2, dim2=3).abs().max() < 1e-6
    phi = torch.arccos(cosine.double())
    assert torch.allclose(summed.double(), torch.cos(phi.unsqueeze(3) + phi.unsqueeze(2)), atol=1e-6)
    assert torch.allclose(difference.double(), torch.sin(phi.unsqueeze(3) - phi.unsqueeze(2)), atol=1e-6)


def test_gramian_fields_know_neither_gain_nor_offset(whole):
    for name in ("gasf", "gadf"):
        assert torch.equal(*(transform(name, series[..., :128], OPTIONS) for series in (whole, 4 * whole + 8)))
    flat = transform("gasf", torch.full((1, 1, 64), 5.0), OPTIONS)
    assert torch.equal(flat, torch.full((1, 1, 32, 32), -1.0))  # cosine 0 everywhere


@EXACT
def test_recurrence_plots_are_distances(whole, dimension, samples):
    chosen, series = options(dimension=dimension), whole[..., :samples]
    found = transform("rp", series, chosen)
    assert torch.equal(found, found.transpose(2, 3)) and found.min() >= 0
    assert found.diagonal(dim1=2, dim2=3).abs().max() == 0
    detour = found.unsqueeze(4) + found.unsqueeze(2)  # from i to k to j: [N, C, i, k, j]
    rounding = 4 * torch.finfo(torch.float32).eps * found.max()
    assert bool((found.unsqueeze(3) <= detour + rounding).all())
    assert torch.equal(transform("rp", series + 4, chosen), found)
    assert torch.equal(transform("rp", 2 * series, chosen), 2 * found)


@EXACT
def test_reversed_time_flips_a_recurrence_plot_twice(whole, dimension, samples):
    chosen, series = options(dimension=dimension), whole[..., :samples]
    assert torch.equal(transform("rp", series.flip(2), chosen), transform("rp", series, chosen).flip((2, 3)))


def test_a_threshold_makes_a_recurrence_plot_binary(x):
    binary = transform("rp", x, options(threshold=1.0))
    assert torch.equal(binary, (transform("rp", x, OPTIONS) < 1.0).float())


def test_markov_fields(x):
    chosen = options(points=128)
    found = transform("mtf", x, chosen)
    assert found.min() >= 0 and found.max() <= 1
    assert torch.equal(found, transform("mtf", torch.exp(x / 10), chosen))  # any increasing map
    bins = quantile_bins(x, 8)
    assert bins.min() == 0 and bins.max() == 7
    sums = transitions(bins, 8).sum(3)
    assert bool(((sums - 1).abs() < 1e-5).logical_or(sums == 0).all())
    assert torch.equal(found[0, 0, 3, 9], transitions(bins, 8)[0, 0, bins[0, 0, 3], bins[0, 0, 9]])


def test_a_tone_peaks_at_its_bin_and_shifts_change_nothing(x):
    tone = torch.sin(2 * torch.pi * 13 * torch.arange(128) / 128).view(1, 1, -1)
    assert int(transform("spectrum", tone, OPTIONS).argmax()) == 13
    assert torch.allclose(
        *(transform("spectrum", series, OPTIONS) for series in (x.double(), x.double().roll(17, 2))), atol=1e-6
    )


def test_pieces_that_do_not_divide_are_filled_by_the_edge():
    series = torch.arange(10.0).view(1, 1, -1)
    assert averaged(series, 4).flatten().tolist() == [1, 4, 7, 9]
    assert averaged(series, 5).flatten().tolist() == [0.5, 2.5, 4.5, 6.5, 8.5]


def test_windows_that_are_too_short_are_refused():
    short = torch.zeros(1, 1, 16)
    for name in ("gasf", "stft"):
        with pytest.raises(StageError, match="windows of 16 samples"):
            transform(name, short, OPTIONS)
