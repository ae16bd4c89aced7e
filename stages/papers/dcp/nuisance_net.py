"""A generated net in which reconstruction and discrimination disagree about what a channel is worth.

One convolution with an auxiliary head reads C channels: half carry a weak class signal, half carry strong noise that
averages out over the image. Rebuilding the output needs the noise, classifying needs the signal.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.lib.optim import Sgd
from stages.lib.runtime import seed_everything
from stages.papers.dcp.heads import AuxHead


@dataclass(frozen=True)
class Generated:
    """The data, features (N, C, h, w) and labels (N,), which channels carry signal (C,), and the trained net."""

    features: Tensor
    labels: Tensor
    signal: Tensor
    layer: nn.Conv2d
    head: AuxHead

    def run(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(output O, logits): what a LayerProblem asks for."""
        output = self.layer(features)
        return output, self.head(output)

    @torch.no_grad()
    def accuracy(self) -> float:
        """Share of the generated images that the net classifies rightly now."""
        return float((self.run(self.features)[1].argmax(1) == self.labels).double().mean())


def generate(
    seed: int,
    *,
    channels: int,
    outputs: int,
    classes: int,
    images: int,
    side: int,
    signal: float,
    noise: float,
    nuisance: float,
) -> Generated:
    """Draws data and net. `signal` is the deviation of the class codes, `noise` the pixel noise of signal channels,
    `nuisance` that of the others, in the same unit. The convolution is random and stays so; `train_head` fits the head."""
    seed_everything(seed)
    labels = torch.arange(images) % classes
    half = channels // 2
    codes = signal * torch.randn(classes, half)
    informative = codes[labels][:, :, None, None] + noise * torch.randn(images, half, side, side)
    useless = nuisance * torch.randn(images, channels - half, side, side)
    place = torch.randperm(channels)
    layer = nn.Conv2d(channels, outputs, 3, padding=1, bias=False)
    nn.init.normal_(layer.weight, 0.0, (2.0 / (9 * outputs)) ** 0.5)
    features = torch.cat([informative, useless], dim=1)[:, place]
    return Generated(features, labels, place < half, layer, AuxHead(outputs, classes))


def train_head(net: Generated, steps: int, lr: float, batch: int) -> None:
    """Fits BN and theta by SGD on random batches, then freezes everything but the convolution (eval mode)."""
    optimiser = Sgd(net.head.parameters(), lr)
    for _ in range(steps):
        part = torch.randperm(len(net.labels))[:batch]
        loss = F.cross_entropy(net.run(net.features[part])[1], net.labels[part])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    net.head.eval().requires_grad_(False)
