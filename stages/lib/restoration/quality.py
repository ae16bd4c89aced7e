"""How near a restored image is to the clean one: PSNR and SSIM on luminance, as restoration papers measure them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stages.lib.errors import StageError
from stages.lib.restoration.degrade import WHITE, to_8bit

LUMA = (65.738 / 256, 129.057 / 256, 25.064 / 256)  # BT.601 for RGB in 0..255; Y is this plus 16
PSNR_CAP = 100.0  # reported for images that are (nearly) equal: infinity has no place in JSON or in a mean
WINDOW, SIGMA = 11, 1.5  # SSIM's Gaussian
STABILITY = (0.01, 0.03)  # SSIM's K1, K2


def luminance(x: Tensor) -> Tensor:
    """float64 [..., 3, H, W] to Y [..., H, W] = 16 + (65.738 R + 129.057 G + 25.064 B) / 256; one channel stays as it is.

    Raises StageError for any other number of channels.
    """
    if x.shape[-3] == 1:
        return x.double().squeeze(-3)
    if x.shape[-3] != 3:
        raise StageError(f"an image of {x.shape[-3]} channels; expected 3 (RGB) or 1 (grey)")
    red, green, blue = x.double().unbind(-3)
    return 16 + LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def shave(x: Tensor, border: int) -> Tensor:
    """[..., H, W] without `border` pixels on each side. Raises StageError if nothing is left."""
    if min(x.shape[-2:]) <= 2 * border:
        raise StageError(f"an image of {x.shape[-1]} x {x.shape[-2]} pixels is too small for a border of {border}")
    return x[..., border : x.shape[-2] - border, border : x.shape[-1] - border]


def psnr(x: Tensor, y: Tensor) -> float:
    """10 log10(255^2 / mean squared difference) in dB of two tensors of one shape, PSNR_CAP at most."""
    error = float((x.double() - y.double()).square().mean())
    return PSNR_CAP if error == 0 else min(PSNR_CAP, 10 * math.log10(WHITE**2 / error))


def ssim(x: Tensor, y: Tensor) -> float:
    """Structural similarity (Wang et al. 2004) of two grey images [H, W] in 0..255.

    Gaussian window 11 x 11 of deviation 1.5, weighted (not sample) variances, averaged where the window lies inside.
    Raises StageError for images smaller than the window.
    """
    if min(x.shape) < WINDOW:
        raise StageError(f"an image of {x.shape[-1]} x {x.shape[-2]} pixels is smaller than SSIM's window of {WINDOW}")
    x, y = x.double(), y.double()
    means = _blur(torch.stack([x, y, x * x, y * y, x * y]))
    mx, my = means[0], means[1]
    vx, vy, covariance = means[2] - mx * mx, means[3] - my * my, means[4] - mx * my
    c1, c2 = ((k * WHITE) ** 2 for k in STABILITY)
    similar = (2 * mx * my + c1) * (2 * covariance + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    return float(similar.mean())


def measure(restored: Tensor, clean: Tensor, border: int = 0) -> dict[str, float]:
    """{"psnr": dB, "ssim": at most 1} of images [C, H, W] in 0..255: 8 bits, luminance, without `border` pixels a side.

    The border is the scale factor in super-resolution and 0 elsewhere. Raises StageError for shapes that differ.
    """
    if restored.shape != clean.shape:
        raise StageError(f"a restored image {list(restored.shape)} for a clean one {list(clean.shape)}; expected one shape")
    x, y = (shave(luminance(to_8bit(image.double())), border) for image in (restored, clean))
    return {"psnr": psnr(x, y), "ssim": ssim(x, y)}


def _blur(x: Tensor) -> Tensor:
    """[N, H, W] to [N, H - 10, W - 10] under the Gaussian window, columns first; sums of slices beat a convolution."""
    distance = torch.arange(WINDOW, dtype=torch.float64, device=x.device) - WINDOW // 2
    window = torch.exp(-(distance**2) / (2 * SIGMA**2))
    window = window / window.sum()
    for axis in (-2, -1):
        count = x.shape[axis] - WINDOW + 1
        x = sum(x.narrow(axis, tap, count) * weight for tap, weight in enumerate(window.tolist()))  # type: ignore[assignment]
    return x
