"""How small teachers are trained: images against captions (CLIP), or two views of each image against each other (SimCLR)."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.lib import data
from stages.lib.runtime import derive_seed, seed_everything
from stages.lib.trainee import Trainee, fit
from stages.papers.milan.descent import groups, rate
from stages.papers.milan.scenes import VOCABULARY, Scenes
from stages.papers.milan.tower import Shape, Tower

if TYPE_CHECKING:
    from stages.papers.milan.settings import Descent, Teacher, Views
    from stages.papers.milan.settings import Scenes as Images

DEVIATION = 0.02  # of the words' initial vectors


class Pairing(nn.Module):
    """An image tower, a text tower that adds up its words' vectors, and the inverse temperature's logarithm."""

    called = ("tower",)  # by the losses, in place of forward

    def __init__(self, shape: Shape, temperature: float, limit: float) -> None:
        super().__init__()
        self.tower, self.limit = Tower(shape), math.log(limit)
        self.words = nn.Parameter(torch.empty(len(VOCABULARY), shape.width).normal_(std=DEVIATION))
        self.norm, self.text = nn.LayerNorm(shape.width), nn.Linear(shape.width, shape.joint, bias=False)
        self.scale = nn.Parameter(torch.tensor([math.log(1.0 / temperature)]))

    def read(self, captions: Tensor) -> Tensor:
        """Embeddings [B, joint] of captions [B, words], places in VOCABULARY."""
        return self.text(self.norm(self.words[captions].sum(1)))

    def sharpness(self) -> Tensor:
        """The inverse temperature, up to its limit."""
        return self.scale.clamp(max=self.limit).exp()


def contrastive_loss(first: Tensor, second: Tensor, positive: Tensor, sharpness: Tensor) -> Tensor:
    """Symmetric cross-entropy of similarities [B, B] of unit vectors; `positive` (bool) pairs share a row's weight equally.

    With the identity as positives this is CLIP's loss; here equal captions are positives of each other.
    """
    logits = sharpness * F.normalize(first, dim=1) @ F.normalize(second, dim=1).T
    shares = positive / positive.sum(1, keepdim=True)  # symmetric, so that it serves the columns too
    return (F.cross_entropy(logits, shares) + F.cross_entropy(logits.T, shares)) / 2


def caption_loss(captions: Tensor):
    """Loss of a batch of numbered scenes against their captions [N, words]."""

    def loss(model: Trainee, x: Tensor, numbers: Tensor) -> Tensor:
        words = captions[numbers]
        positive = (words.unsqueeze(0) == words.unsqueeze(1)).all(2)
        return contrastive_loss(model.net.tower(x), model.net.read(words), positive, model.net.sharpness())

    return loss


def view_loss(views: "Views", images: "Images"):
    """Loss of a batch of scenes: two views of each, moved and under noise of their own, belong together."""
    moved = data.pad_crop_flip(views.shift, flip=False) if views.shift else lambda x, _: x

    def view(x: Tensor) -> Tensor:
        side = -(-images.canvas // images.cell)
        noise = torch.randn(len(x), 1, side, side).repeat_interleave(images.cell, 2).repeat_interleave(images.cell, 3)
        shifted = moved(x, torch.default_generator)
        return shifted + views.noise / images.scale * noise[:, :, : images.canvas, : images.canvas].to(x)

    def loss(model: Trainee, x: Tensor, _: Tensor) -> Tensor:
        positive = torch.eye(len(x), dtype=torch.bool, device=x.device)
        return contrastive_loss(model.net.tower(view(x)), model.net.tower(view(x)), positive, model.net.sharpness())

    return loss


def tower_shape(settings: "Teacher", images: "Images") -> Shape:
    """Shape of a teacher that is trained here."""
    net = settings.net
    return Shape(images.canvas, 1, net.patch, net.width, net.depth, net.heads, settings.joint)


def teach(
    kind: str, settings: "Teacher", images: "Images", scenes: Scenes, repetition: int, device: torch.device, state: Path | None
) -> Tower:
    """A teacher trained on scenes with their captions (`language`) or without (`image`), in eval mode and frozen."""
    seed_everything(derive_seed(repetition, "teacher"))
    pairing = Pairing(tower_shape(settings, images), settings.temperature, settings.scale_limit).to(device)
    descent = settings.descent if kind == "language" else settings.views.descent
    loss = caption_loss(scenes.captions.to(device)) if kind == "language" else view_loss(settings.views, images)
    descend(pairing, descent, scenes, loss, repetition, device, state, f"{kind} teacher {repetition}")
    return pairing.tower.requires_grad_(False).eval()


def descend(
    net: nn.Module,
    descent: "Descent",
    scenes: Scenes,
    loss,
    repetition: int,
    device: torch.device,
    state: Path | None,
    label: str,
) -> list[float]:
    """Train a net on numbered scenes; order and draws follow from the repetition. Returns the mean loss of each pass."""
    steps = -(-len(scenes) // descent.batch)
    trainee = Trainee(net, groups(net, descent.weight_decay), rate(descent, steps), descent, steps, betas=tuple(descent.betas))
    seed_everything(derive_seed(repetition, "draws"))
    return fit(
        trainee.to(device), scenes.numbered(), epochs=descent.epochs, batch=descent.batch,
        seed=derive_seed(repetition, "order"), device=device, loss=loss, state=state, label=label,
    )  # fmt: skip
