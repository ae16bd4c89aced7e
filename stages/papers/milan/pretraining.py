"""Pre-training of the student: one arm, on unlabelled scenes, with what a frozen teacher makes of them."""

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.lib.errors import StageError
from stages.lib.runtime import derive_seed, seed_everything
from stages.lib.trainee import Trainee
from stages.lib.training import Loss
from stages.papers.milan import cost
from stages.papers.milan.arms import Arm
from stages.papers.milan.contrast import descend
from stages.papers.milan.decoder import Decoder
from stages.papers.milan.encoder import Encoder
from stages.papers.milan.losses import feature_loss, pixel_loss, pixel_target
from stages.papers.milan.sampling import Division, draw, visible
from stages.papers.milan.scenes import NAMES, Scenes
from stages.papers.milan.tower import Tower, importance

if TYPE_CHECKING:
    from stages.papers.milan.settings import Student as Settings
    from stages.papers.milan.settings import Teacher

BATCH = 250  # scenes that the teacher looks at together
BACKWARD = 3  # a training step costs about three forward passes of its batch


class Student(nn.Module):
    """Encoder and decoder; the decoder is dropped after pre-training."""

    def __init__(self, encoder: Encoder, decoder: Decoder) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, x: Tensor, division: Division) -> Tensor:
        """Predictions [B, N + 1, outputs] from the division's visible patches of images [B, C, H, W]."""
        return self.decoder(self.encoder(x, division.keep), division)


class Supervised(nn.Module):
    """Encoder and linear map of its mean patch token, for the arm that is given all labels."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(encoder.width, len(NAMES))

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, classes]."""
        return self.head(self.encoder(x)[:, 1:].mean(1))


@dataclasses.dataclass(frozen=True)
class Targets:
    """What the teacher makes of every scene as a whole: features [N, T, joint], weights [N, patches] of the patches.

    The scenes are not augmented, so this is computed once and not in every step.
    """

    features: Tensor
    importance: Tensor


def look(teacher: Tower, x: Tensor, settings: "Settings", device: torch.device) -> Targets:
    """The teacher's outputs for images [N, C, H, W], in eval mode and without gradient, on the device.

    Raises StageError unless it sees as many patches as the student and has the blocks that are averaged.
    """
    patches, last = cost.tiles(x.shape[1:], settings.net.patch), settings.average_targets
    if teacher.shape.patches != patches:
        raise StageError(f"the teacher has {teacher.shape.patches} patches, the student {patches}: expected as many")
    if last > teacher.shape.depth:
        raise StageError(f"params.student.average_targets={last}: the teacher has {teacher.shape.depth} blocks")
    teacher.to(device).eval()
    seen = [teacher.targets(part.to(device), last) for part in x.split(BATCH)]
    return Targets(torch.cat([features for features, _ in seen]), torch.cat([importance(attention) for _, attention in seen]))


def feature_objective(arm: Arm, settings: "Settings", targets: Targets) -> Loss:
    """All tokens against the teacher's features; patches drawn by its attention where the arm says so."""

    def loss(model: Trainee, x: Tensor, numbers: Tensor) -> Tensor:
        weights = targets.importance[numbers]
        chosen = weights if arm.sampling == "semantic" else None
        division = draw(len(x), weights.shape[1], settings.mask_ratio, chosen, x.device)
        return feature_loss(model.net(x, division), targets.features[numbers])

    return loss


def pixel_objective(settings: "Settings", patches: int) -> Loss:
    """MAE: pixels of the hidden patches, random patches visible."""

    def loss(model: Trainee, x: Tensor, _: Tensor) -> Tensor:
        division = draw(len(x), patches, settings.mask_ratio, None, x.device)
        target = pixel_target(x, settings.net.patch, settings.pixel_normalise)
        return pixel_loss(model.net(x, division)[:, 1:], target, division.mask())

    return loss


def label_objective(labels: Tensor) -> Loss:
    """Cross-entropy of the true digits."""

    def loss(model: Trainee, x: Tensor, numbers: Tensor) -> Tensor:
        return F.cross_entropy(model.net(x), labels[numbers])

    return loss


def fresh_encoder(settings: "Settings", shape: torch.Size, repetition: int) -> Encoder:
    """The encoder with the repetition's random weights, the same for all arms."""
    seed_everything(derive_seed(repetition, "student"))
    return Encoder(settings.net, shape)


def student(arm: Arm, settings: "Settings", encoder: Encoder, outputs: int) -> Student:
    """The encoder with the arm's decoder, whose predictions have `outputs` columns."""
    side = math.isqrt(encoder.patches)
    return Student(encoder, Decoder(settings.decoder, encoder.width, side, outputs, arm.decoder == "prompting"))


def untrained(teacher: Tower, repetition: int) -> Tower:
    """A frozen tower of the teacher's shape as it was initialised: any features, learned from nothing."""
    seed_everything(derive_seed(repetition, "teacher"))
    return Tower(teacher.shape).requires_grad_(False).eval()


def extra_epochs(settings: "Settings", teacher: "Teacher", shape: torch.Size, tower: Tower) -> int:
    """Passes of the pixel arm that cost as many multiply-adds as training the teacher and asking it once, rounded up."""
    looking = sum(part.macs for part in cost.tower(tower.shape))
    spent = looking * (BACKWARD * teacher.pairs * teacher.descent.epochs * (not teacher.weights) + settings.scenes)
    patches = cost.tiles(shape, settings.net.patch)
    seen, outputs = visible(patches, settings.mask_ratio), shape[0] * settings.net.patch**2
    one = sum(part.macs for part in cost.encoder(settings.net, shape, seen))
    one += sum(
        part.macs for part in cost.decoder(settings.decoder, settings.net.width, patches, seen, outputs, prompting=False)
    )
    return math.ceil(spent / (BACKWARD * one * settings.scenes))


def pretrain(
    arm: Arm, settings: "Settings", scenes: Scenes, targets: Targets | None, extra: int, repetition: int, device: torch.device,
    state: Path | None, label: str,
) -> tuple[Encoder, list[float]]:  # fmt: skip
    """(pre-trained encoder, mean loss of each pass) of one arm; `targets` where a teacher sets them, `extra` passes more.

    Initial weights, order of the data and noise of the sampling follow from the repetition alone, so that arms are
    paired. Raises StageError for a loss that is not finite.
    """
    encoder, descent = fresh_encoder(settings, scenes.x.shape[1:], repetition), settings.descent
    if arm.target == "none":
        return encoder.eval(), []
    if arm.target == "labels":
        net, loss = Supervised(encoder), label_objective(scenes.y.to(device))
    elif arm.taught:
        net = student(arm, settings, encoder, targets.features.shape[2])
        loss = feature_objective(arm, settings, targets)
    else:
        net = student(arm, settings, encoder, scenes.x.shape[1] * settings.net.patch**2)
        loss = pixel_objective(settings, encoder.patches)
        descent = dataclasses.replace(descent, lr=settings.pixel_lr, epochs=descent.epochs + extra * arm.extra)
    history = descend(net.to(device), descent, scenes, loss, repetition, device, state, label)
    return encoder.cpu().eval(), history
