"""The generated set: linear criteria do not suffice, since the secret changes the amplitude of the code of u."""

import torch
from torch import Tensor

from stages.lib.runtime import derive_seed
from stages.papers.privacy_adversarial_features.settings import Mixture

NOISES = 6  # latent dimensions that tell nothing


def draw(settings: Mixture, repetition: int, split: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x float32 [N, D], u and s int64 [N], and whether a sample is to train on [N].

    Codes and mixing matrix follow from the repetition, samples to measure on also from the split's name. With class codes
    Mu, Ms ~ N(0, I): zu = 1.6 Mu[u] + 0.7 N, zs = 2.2 Ms[s] + 0.5 N, zi = zu (1 + leak tanh(Ms[s])),
    x = [zi, zs, zu zs of two dimensions, noise] A + 0.1 N.
    """
    codes = _generator(repetition, "codes")
    mean_u = torch.randn(settings.utilities, settings.code, generator=codes)
    mean_s = torch.randn(settings.secrets, settings.code, generator=codes)
    mixing = torch.randn(2 * settings.code + 2 + NOISES, settings.features, generator=codes)
    parts = []
    for name, count in (("train", settings.train), (split, settings.evaluation)):
        random = _generator(repetition, "samples", name)
        u = torch.randint(settings.utilities, (count,), generator=random)
        s = torch.randint(settings.secrets, (count,), generator=random)
        clean_u = 1.6 * mean_u[u] + 0.7 * torch.randn(count, settings.code, generator=random)
        clean_s = 2.2 * mean_s[s] + 0.5 * torch.randn(count, settings.code, generator=random)
        changed = clean_u * (1.0 + settings.leak * mean_s[s].tanh())
        noise = torch.randn(count, NOISES, generator=random)
        latent = torch.cat((changed, clean_s, clean_u[:, :2] * clean_s[:, :2], noise), 1)
        x = latent @ mixing + 0.1 * torch.randn(count, settings.features, generator=random)
        parts.append((x, u, s, torch.full((count,), not parts)))
    x, u, s, train = (torch.cat(column) for column in zip(*parts, strict=True))
    return x, u, s, train


def _generator(repetition: int, *purpose: str) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(repetition, "mixture", *purpose))
