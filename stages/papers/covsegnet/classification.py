"""COVID-CT slices told apart: by the paper's encoder with its fusion, by plain convolutions, by a linear map of thumbnails."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy
import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.lib import training
from stages.lib.data import Split
from stages.lib.runtime import derive_seed, seed_everything
from stages.lib.trainee import Trainee, fit
from stages.papers.covsegnet.blocks import level_block
from stages.papers.covsegnet.network import Module, padded, sizes
from stages.papers.covsegnet.phases import one_cycle
from stages.papers.covsegnet.settings import Classify

Values = dict[str, float]


class Encoder(nn.Module):
    """Encoder and fusion of one module; the means of all levels' maps go to a linear map. Logits [B, 2]."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.part = Module(2, 1, channels, skips=False, kind="batch")
        self.part.ups = nn.ModuleList()  # no decoder
        self.head = nn.Linear(sum(channels), 2)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of slices [B, 1, H, W]."""
        levels = len(self.part.blocks)
        x = padded(x, levels, False)
        maps = self.part.encode(x, [], sizes(x.shape[2:], levels, False))
        return self.head(torch.cat([one.mean((2, 3)) for one in maps], 1))


class Convolutions(nn.Module):
    """Level blocks with max-pooling only; the mean of the coarsest map goes to a linear map. Logits [B, 2]."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        pairs = zip([1, *channels[:-1]], channels, strict=True)
        self.blocks = nn.ModuleList(level_block(2, into, out, "batch") for into, out in pairs)
        self.head = nn.Linear(channels[-1], 2)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of slices [B, 1, H, W]."""
        for level, block in enumerate(self.blocks):
            x = block(functional.max_pool2d(x, 2) if level else x)
        return self.head(x.mean((2, 3)))


NETS = {"encoder": Encoder, "convolutions": Convolutions}


@dataclasses.dataclass(frozen=True)
class Shifted:
    """Random shifts and mirroring of a batch, as an augmentation of the training loop."""

    most: int

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """x rolled in both directions, half of the time mirrored; the whole batch alike."""
        down, right = torch.randint(-self.most, self.most + 1, (2,), generator=generator).tolist()
        x = x.roll((down, right), (2, 3))
        return x.flip(3) if torch.rand(1, generator=generator).item() < 0.5 else x


def learned(
    name: str, train: Split, tested: Split, params: Classify, repetition: int, device: torch.device, state: Path | None
) -> Values:
    """Measures of one of NETS, trained from scratch."""
    seed = derive_seed(repetition, "classify")
    seed_everything(seed)
    net = NETS[name](params.channels if name == "encoder" else params.plain)
    steps = params.epochs * -(-len(train) // params.batch)
    groups = [(list(net.parameters()), params.weight_decay)]
    trainee = Trainee(net, groups, one_cycle(params.lr, steps), params)
    fit(trainee, train, epochs=params.epochs, batch=params.batch, seed=seed, device=device,
        augment=Shifted(params.shift), state=state, label=name)  # fmt: skip
    logits = training.predict(net, tested.x, device)
    return measures((logits[:, 1] - logits[:, 0]).numpy(), tested.y.numpy())


def linear(train: Split, tested: Split, params: Classify) -> Values:
    """Measures of a ridge regression of the label, -1 or 1, on thumbnails: the same for every repetition."""
    seen, asked = (thumbnails(one.x, params.pixels) for one in (train, tested))
    wanted = 2.0 * train.y.numpy() - 1.0
    square = seen.T @ seen + numpy.eye(seen.shape[1]) / params.ridge
    return measures(asked @ numpy.linalg.solve(square, seen.T @ wanted), tested.y.numpy())


def thumbnails(x: Tensor, side: int) -> numpy.ndarray:
    """float64 [N, side^2 + 1]: means over areas, and a 1 for the constant."""
    small = functional.adaptive_avg_pool2d(x, side).flatten(1).numpy().astype(numpy.float64)
    return numpy.concatenate([small, numpy.ones((len(small), 1))], 1)


def measures(score: numpy.ndarray, y: numpy.ndarray) -> Values:
    """Of scores, above 0 for class 1: accuracy, its mean over classes, F1 and the area under the ROC curve."""
    found = score > 0
    right = [float((found[y == label] == bool(label)).mean()) for label in (0, 1)]
    hit, wrong = int((found & (y == 1)).sum()), int((found != (y == 1)).sum())
    return {
        "accuracy": float((found == (y == 1)).mean()),
        "balanced_accuracy": sum(right) / 2,
        "f1": 2 * hit / (2 * hit + wrong) if hit + wrong else 1.0,
        "auc": auc(score, y),
    }


def auc(score: numpy.ndarray, y: numpy.ndarray) -> float:
    """Share of pairs of both classes in the right order; ties count half."""
    ill, well = score[y == 1][:, None], score[y == 0][None]
    return float(((ill > well) + 0.5 * (ill == well)).mean())
