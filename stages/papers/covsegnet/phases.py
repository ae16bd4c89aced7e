"""Training of both phases, one after the other: nets of slices, out-of-fold probabilities, nets of volumes."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from stages.lib import training
from stages.lib.data import Split
from stages.lib.runtime import derive_seed
from stages.lib.trainee import Trainee
from stages.papers.covsegnet import division, inference, losses, nets, sampling
from stages.papers.covsegnet.scans import Scan
from stages.papers.covsegnet.settings import Fit, Loss, Settings

WARM, START, END = 0.3, 25.0, 1e4  # one cycle: share of the rise, lr over the first rate, first rate over the last


def one_cycle(lr: float, steps: int):
    """Learning rate by step, in two halves of a cosine: up from lr / 25 in three tenths of the steps, then down to nearly 0."""
    peak = max(1.0, WARM * steps - 1)

    def between(low: float, high: float, share: float) -> float:
        return high + (low - high) * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))

    def rate(step: int) -> float:
        if step <= peak:
            return between(lr / START, lr, step / peak)
        return between(lr, lr / START / END, (step - peak) / max(1.0, steps - 1 - peak))

    return rate


def fit(
    net: nn.Module, draw: sampling.Draw, settings: Fit, loss: Loss, seed: int, device: torch.device, state: Path | None,
    label: str,
) -> nn.Module:  # fmt: skip
    """Train a net in place on `steps` batches, each drawn by a seed of its own; returns it in eval mode."""
    every = list(net.parameters())
    trainee = Trainee(net, [(every, settings.weight_decay)], one_cycle(settings.lr, settings.steps), settings, loss)
    numbers = torch.arange(settings.steps)
    drawn = Split(numbers[:, None].to(torch.float32), numbers, ("",), (0.0,), (1.0,), "drawn")

    def value(trainee: nn.Module, _: Tensor, y: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(derive_seed(seed, "batch", int(y)))
        x, wanted = draw(generator)
        return losses.total(trainee(x.to(device)), wanted.to(device), loss)

    training.train(
        trainee, drawn, epochs=1, lr=settings.lr, batch=1, seed=seed, schedule="constant", device=device, loss=value,
        mask_hook=Trainee.after_step, parameters=(), state=state, label=label,
    )  # fmt: skip
    return net.eval()


@dataclasses.dataclass(frozen=True)
class Job:
    """One repetition's trainings. Nets of one kind start from the same weights and see the same batches."""

    settings: Settings
    scans: Sequence[Scan]
    repetition: int
    device: torch.device
    scratch: Path | None  # folder of the unfinished trainings' states

    def _state(self, name: str) -> Path | None:
        return None if self.scratch is None else self.scratch / f"{name}-{self.repetition}.state"

    def slices(self, kind: str, scans: Sequence[Scan], name: str) -> nn.Module:
        """A net of slices (phase1, series, unet_params, unet_macs) trained on some scans."""
        part = self.settings.slices
        seed = derive_seed(self.repetition, "slices")
        net = nets.build(slice_record(self.settings, kind), seed)
        draw = sampling.slices([one.image for one in scans], [one.lesion for one in scans], part.fit)
        return fit(net, draw, part.fit, self.settings.loss, seed, self.device, self._state(name), name)

    def out_of_fold(self) -> tuple[list[Tensor], list[int]]:
        """P [D, H, W] of every training scan by a net that never saw its patient, and the scans' folds."""
        count = self.settings.slices.folds
        fold = division.folds(self.scans, count, self.repetition)
        found: list[list[Tensor]] = []
        for k in range(count):
            seen = [one for one, own in zip(self.scans, fold, strict=True) if own != k]
            net = self.slices("phase1", seen, f"fold{k}")
            found.append([inference.by_slices(net, one.image, self.device) if own == k else one.image
                          for one, own in zip(self.scans, fold, strict=True)])  # fmt: skip
        return division.out_of_fold(fold, found), fold

    def volumes(self, name: str, p: Sequence[Tensor] | None) -> nn.Module:
        """A net of volumes: two_phase and in_sample see P, volume and volume_long do not (p is None)."""
        part = self.settings.volumes
        seed = derive_seed(self.repetition, "volumes")
        steps = part.long_steps if name == "volume_long" else part.fit.steps
        net = nets.build(volume_record(self.settings, name), seed)
        images = [one.image for one in self.scans]
        inputs = [one[None] for one in images] if p is None else [
            inference.enhanced(one, told, part.roi_mode) for one, told in zip(images, p, strict=True)
        ]  # fmt: skip
        how = dataclasses.replace(part.fit, steps=steps)
        draw = sampling.subvolumes(inputs, [one.lesion for one in self.scans], part.patch, how)
        return fit(net, draw, how, self.settings.loss, seed, self.device, self._state(name), name)


def slice_record(settings: Settings, kind: str) -> nets.Record:
    """Record of a net of slices."""
    return nets.record(getattr(settings.slices, kind), 2, 1)


def volume_record(settings: Settings, name: str) -> nets.Record:
    """Record of a net of volumes."""
    part = settings.volumes
    into = 1 if name in ("volume", "volume_long") else inference.channels(part.roi_mode)
    return nets.record(part.net, 3, into, part.flat)
