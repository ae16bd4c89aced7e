"""DeiT's recipe around a net: learning rate, mixed and erased images, smoothed labels."""

import math

import numpy
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.lib.data import pad_crop_flip
from stages.lib.training import Augment, Loss
from stages.lib.vit.settings import Recipe

ERASED = (0.02, 1 / 3)  # share of the image that random erasing covers
ASPECT = (0.3, 1 / 0.3)


def rate(recipe: Recipe, steps: int, step: int) -> float:
    """Learning rate at a step of a run with `steps` steps a pass: linear warm-up, then cosine to lr_end."""
    warm, whole = recipe.warmup * steps, recipe.epochs * steps
    if step < warm:
        return recipe.lr_start + (recipe.lr - recipe.lr_start) * step / warm
    return recipe.lr_end + (recipe.lr - recipe.lr_end) * 0.5 * (1.0 + math.cos(math.pi * (step - warm) / (whole - warm)))


def loss_of(recipe: Recipe) -> Loss:
    """Cross-entropy with smoothed labels; with mixup and CutMix a batch goes through one of them (timm's switch)."""

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        x, other, share = mixed(recipe, x)
        logits = model(x)
        value = F.cross_entropy(logits, y, label_smoothing=recipe.smoothing)
        if other is None:
            return value
        return share * value + (1.0 - share) * F.cross_entropy(logits, y[other], label_smoothing=recipe.smoothing)

    return loss


def mixed(recipe: Recipe, x: Tensor) -> tuple[Tensor, Tensor | None, float]:
    """(images, index of the partners or None, weight of the images' own labels); one ratio for the batch."""
    forms = [name for name in ("mixup", "cutmix") if getattr(recipe, name)]
    if not forms:
        return x, None, 1.0
    # The process's generators, which the saved state of a run holds.
    form = forms[numpy.random.randint(len(forms))]
    alpha = getattr(recipe, form)
    share, other = float(numpy.random.beta(alpha, alpha)), torch.arange(len(x) - 1, -1, -1, device=x.device)
    if form == "mixup":
        return share * x + (1.0 - share) * x[other], other, share
    top, left, bottom, right = cut_box(x.shape[2], x.shape[3], share)
    pasted = x.clone()
    pasted[:, :, top:bottom, left:right] = x[other, :, top:bottom, left:right]
    return pasted, other, 1.0 - (bottom - top) * (right - left) / (x.shape[2] * x.shape[3])


def cut_box(height: int, width: int, share: float) -> tuple[int, int, int, int]:
    """CutMix's box of area 1 - share around a random centre, cut off at the borders: top, left, bottom, right."""
    tall, wide = int(height * (1.0 - share) ** 0.5), int(width * (1.0 - share) ** 0.5)
    y, x = numpy.random.randint(height), numpy.random.randint(width)
    return max(0, y - tall // 2), max(0, x - wide // 2), min(height, y + tall // 2), min(width, x + wide // 2)


def augmentation(recipe: Recipe) -> Augment | None:
    """Crop, mirror and erase as asked; None leaves images as they are."""
    geometric = pad_crop_flip(recipe.pad, recipe.flip) if recipe.pad or recipe.flip else None
    if geometric is None and not recipe.erase:
        return None

    def augment(x: Tensor, generator: torch.Generator) -> Tensor:
        x = geometric(x, generator) if geometric else x
        return erased(x, recipe.erase, generator) if recipe.erase else x

    return augment


def erased(x: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Random erasing (Zhong et al.): a box of some images [B, C, H, W] filled with normal noise."""
    x = x.clone()
    height, width = x.shape[2:]
    for image in x:
        draws = torch.rand(5, generator=generator).tolist()
        if draws[0] >= probability:
            continue
        area = height * width * (ERASED[0] + draws[1] * (ERASED[1] - ERASED[0]))
        aspect = math.exp(math.log(ASPECT[0]) + draws[2] * (math.log(ASPECT[1]) - math.log(ASPECT[0])))
        tall, wide = min(height, round((area * aspect) ** 0.5)), min(width, round((area / aspect) ** 0.5))
        top, left = int(draws[3] * (height - tall + 1)), int(draws[4] * (width - wide + 1))
        noise = torch.randn(x.shape[1], tall, wide, generator=generator)
        image[:, top : top + tall, left : left + wide] = noise.to(x)
    return x
