"""Images of any size through a trained net of one task, and how near the results come to the clean images."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from stages.lib.errors import StageError
from stages.lib.restoration.degrade import add_noise, upscale
from stages.lib.restoration.ensemble import self_ensemble
from stages.lib.restoration.quality import measure
from stages.lib.restoration.sets import Pair, Photograph, tensor
from stages.lib.restoration.tiles import tiled
from stages.lib.runtime import derive_seed
from stages.papers.ipt.network import IPT
from stages.papers.ipt.tasks import Task

if TYPE_CHECKING:
    from stages.papers.ipt.settings import Measurement


@torch.no_grad()
def restore(net: nn.Module, image: Tensor, task: Task, options: "Measurement") -> Tensor:
    """[3, H, W] to [3, H scale, W scale] in 0..255, neither rounded nor clipped.

    The transformer works on overlapping tiles and the middles of its answers are averaged; convolutional nets take the
    whole image.
    """

    def whole(x: Tensor) -> Tensor:
        if not isinstance(net, IPT):
            return net(x[None])[0]
        sizes = {"tile": net.side, "stride": options.stride, "margin": options.margin, "batch": options.chunk}
        return tiled(net, x, factor=task.scale, **sizes)

    net.eval()
    return self_ensemble(whole, image) if options.ensemble else whole(image)


def corrupted_copies(images: Sequence[Photograph], task: Task, crop: int) -> list[tuple[str, Tensor, Tensor]]:
    """(name, noisy, clean) of photographs, float32 [3, H, W]; the noise of an image is the same for every net, not rounded."""
    found = []
    for image in images:
        clean = tensor(middle(image.pixels, crop))
        generator = torch.Generator().manual_seed(derive_seed(0, "noise", image.name, task.sigma))
        found.append((image.name, add_noise(clean, task.sigma, generator), clean))
    return found


def opened(pairs: Sequence[Pair], crop: int) -> list[tuple[str, Tensor, Tensor]]:
    """(name, corrupted [3, h, w], clean [3, h factor, w factor]) of pairs, float32; their middles where `crop` > 0."""
    found = []
    for pair in pairs:
        small = middle(pair.corrupted, crop // pair.factor)
        top, left = ((a - b) // 2 * pair.factor for a, b in zip(pair.corrupted.shape, small.shape[:2]))
        height, width = (side * pair.factor for side in small.shape[:2])
        found.append((pair.name, tensor(small), tensor(pair.clean[top : top + height, left : left + width])))
    return found


def middle(pixels, crop: int):
    """The central part of uint8 [H, W, 3], `crop` pixels a side at most; all of it for 0."""
    if not crop:
        return pixels
    height, width = (min(side, crop) for side in pixels.shape[:2])
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return pixels[top : top + height, left : left + width]


def score(found: Sequence[tuple[Tensor, Tensor]], task: Task) -> dict[str, float]:
    """Mean PSNR (dB) and SSIM on luminance of (restored, clean) images; a border of the scale is left out if it enlarges."""
    border = task.scale if task.scale > 1 else 0
    values = [measure(restored, clean, border) for restored, clean in found]
    means = {name: sum(value[name] for value in values) / len(values) for name in ("psnr", "ssim")}
    if not all(abs(value) < float("inf") for value in means.values()):
        raise StageError(f"{task.name}: restored images are not finite; training has diverged, lower lr")
    return {f"{name}_{task.name}": value for name, value in means.items()}


def as_input(corrupted: Tensor, task: Task) -> Tensor:
    """The corrupted image itself, enlarged by bicubic interpolation and rounded: what a restoration is compared with."""
    return upscale(corrupted, task.scale, quantise=True) if task.scale > 1 else corrupted
