"""PSNR and SSIM on luminance: by hand, and against scikit-image."""

from __future__ import annotations

import math

import numpy
import pytest
import torch

from stages.lib import artifacts
from stages.lib.errors import StageError
from stages.lib.restoration import quality


def images(seed: int = 0, sigma: float = 12) -> tuple[torch.Tensor, torch.Tensor]:
    random = numpy.random.RandomState(seed)
    x = random.randint(0, 256, (3, 40, 52)).astype(float)
    return torch.from_numpy(numpy.clip(x + sigma * random.randn(*x.shape), 0, 255)), torch.from_numpy(x)


def test_a_constant_offset_of_one_level():
    """The weights of R, G and B sum to 219.859 / 256, so an offset of 1 in RGB is less than 1 in Y: 49.45 dB."""
    x = torch.full((3, 24, 24), 100.0)
    found = quality.measure(x + 1, x, border=2)["psnr"]
    assert found == pytest.approx(20 * math.log10(255 * 256 / 219.859), abs=1e-9)
    assert found == pytest.approx(49.45, abs=0.005)


def test_luminance_spans_16_to_235():
    x = torch.stack([torch.zeros(3, 2, 2), torch.full((3, 2, 2), 255.0)])
    y = quality.luminance(x)
    assert y.shape == (2, 2, 2)
    assert (float(y.min()), float(y.max())) == pytest.approx((16, 235), abs=0.01)
    red, green, blue = quality.luminance(255 * torch.eye(3).view(3, 3, 1, 1)).flatten().tolist()
    assert green > red > blue
    grey = torch.rand(1, 4, 4)
    assert torch.equal(quality.luminance(grey), grey[0].double())
    with pytest.raises(StageError, match="4 channels"):
        quality.luminance(torch.zeros(4, 3, 3))


def test_equal_images_have_a_finite_psnr_that_json_can_hold(tmp_path):
    x, _ = images()
    found = quality.measure(x, x)
    assert found == {"psnr": quality.PSNR_CAP, "ssim": pytest.approx(1)}
    artifacts.write_json(tmp_path / "measured.json", found)


def test_results_are_measured_as_8_bit_images():
    x, y = images()
    assert quality.measure(x, y) == quality.measure(x.clamp(0, 255).add(0.5).floor(), y)
    assert quality.measure(y + 0.4, y)["psnr"] == quality.PSNR_CAP
    assert quality.measure(y.where(y < 255, y + 90), y)["psnr"] == quality.PSNR_CAP
    assert quality.measure(x.float(), y.byte())["psnr"] == pytest.approx(quality.measure(x, y)["psnr"], abs=1e-4)


@pytest.mark.parametrize(("seed", "sigma"), [(0, 3), (1, 12), (2, 60)])
def test_psnr_and_ssim_are_scikit_images(seed, sigma):
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    x, y = (quality.luminance(image) for image in images(seed, sigma))
    assert quality.psnr(x, y) == pytest.approx(peak_signal_noise_ratio(y.numpy(), x.numpy(), data_range=255), abs=1e-9)
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    assert quality.ssim(x, y) == pytest.approx(structural_similarity(x.numpy(), y.numpy(), **settings), abs=1e-9)


def test_the_border_is_left_out():
    x, y = images()
    spoilt = x.clone()
    spoilt[:, :4], spoilt[:, :, -4:] = 0, 255
    assert quality.measure(spoilt, y, border=4) == quality.measure(x, y, border=4)
    assert quality.measure(spoilt, y, border=3) != quality.measure(x, y, border=3)
    assert quality.shave(x, 0).shape == x.shape


def test_images_that_cannot_be_measured_are_named():
    x, y = images()
    with pytest.raises(StageError, match="expected one shape"):
        quality.measure(x[:, :-1], y)
    with pytest.raises(StageError, match="too small for a border of 20"):
        quality.measure(x, y, border=20)
    with pytest.raises(StageError, match="SSIM's window"):
        quality.measure(x, y, border=15)
