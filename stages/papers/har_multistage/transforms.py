"""The transformations of a window, section 3.2 of the specification: pure, batched, float32, channels apart.

Each maps x [N, C, T] to [N, C, T'] or to an image [N, C, M, M].
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from stages.lib.errors import StageError
from stages.papers.har_multistage.settings import TWO_DIMENSIONAL, Transforms

CHUNK = 512  # windows at a time: images of delays need several times their size


def transform(name: str, x: Tensor, options: Transforms) -> Tensor:
    """The windows x [N, C, T] in a transformed space. Raises StageError for windows that are too short for it."""
    if name == "stft" and x.shape[2] < options.stft_window:
        raise StageError(f"windows of {x.shape[2]} samples: transforms.stft_window={options.stft_window} is longer")
    if name in TWO_DIMENSIONAL and name != "stft" and x.shape[2] < options.points:
        raise StageError(f"windows of {x.shape[2]} samples: fewer than transforms.points={options.points}")
    return torch.cat([FUNCTIONS[name](part, options).float() for part in x.split(CHUNK)])


def raw(x: Tensor, _: Transforms) -> Tensor:
    """The window itself."""
    return x


def spectrum(x: Tensor, _: Transforms) -> Tensor:
    """log(1 + |rfft(x - mean)|): [N, C, T // 2 + 1]."""
    return torch.log1p(torch.fft.rfft(x - x.mean(2, keepdim=True)).abs())


def stft(x: Tensor, options: Transforms) -> Tensor:
    """Log-magnitude of the short-time Fourier transform: [N, C, window // 2 + 1, frames]."""
    frames = x.unfold(2, options.stft_window, options.stft_hop)
    hann = torch.hann_window(options.stft_window, dtype=x.dtype)
    return torch.log1p(torch.fft.rfft(frames * hann).abs()).transpose(2, 3)


def averaged(x: Tensor, points: int) -> Tensor:
    """Piecewise aggregate approximation [N, C, points]: means of T / points samples; a last piece is filled by the edge."""
    size = -(-x.shape[2] // points)
    short = size * points - x.shape[2]
    return F.pad(x, (0, short), mode="replicate").unflatten(2, (points, size)).mean(3) if short else _pieces(x, points)


def _pieces(x: Tensor, points: int) -> Tensor:
    return x.unflatten(2, (points, x.shape[2] // points)).mean(3)


def angles(x: Tensor, points: int) -> tuple[Tensor, Tensor]:
    """cos and sin of the angles of a Gramian field, [N, C, points]: every channel of a window to -1..1, a constant one to 0."""
    short = averaged(x, points)
    low, high = short.amin(2, keepdim=True), short.amax(2, keepdim=True)
    span = high - low
    cosine = torch.where(span > 1e-8, 2 * (short - low) / (span + 1e-8) - 1, torch.zeros_like(short)).clamp(-1, 1)
    return cosine, ((1 - cosine) * (1 + cosine)).sqrt()  # 1 - cosine^2 loses half of the digits near 1


def gasf(x: Tensor, options: Transforms) -> Tensor:
    """Gramian angular summation field: cos(phi_i + phi_j)."""
    c, s = angles(x, options.points)
    return outer(c, c) - outer(s, s)


def gadf(x: Tensor, options: Transforms) -> Tensor:
    """Gramian angular difference field: sin(phi_i - phi_j)."""
    c, s = angles(x, options.points)
    return outer(s, c) - outer(c, s)


def outer(a: Tensor, b: Tensor) -> Tensor:
    """a_i b_j of [N, C, M] each: [N, C, M, M]."""
    return a.unsqueeze(3) * b.unsqueeze(2)


def rp(x: Tensor, options: Transforms) -> Tensor:
    """Recurrence plot of delay embeddings: distances, not rescaled (amplitude survives), or which are below a threshold."""
    short = averaged(x, options.points + (options.dimension - 1) * options.delay)
    steps = [short[..., k * options.delay : k * options.delay + options.points] for k in range(options.dimension)]
    squares = sum((step.unsqueeze(3) - step.unsqueeze(2)).square() for step in steps)
    distance = squares.sqrt()
    return distance if options.threshold is None else (distance < options.threshold).to(x.dtype)


def mtf(x: Tensor, options: Transforms) -> Tensor:
    """Markov transition field: the frequency of the step from the bin of point i to the bin of point j, [N, C, M, M]."""
    found = quantile_bins(averaged(x, options.points), options.bins)
    chances = transitions(found, options.bins)
    rows = chances.gather(2, found.unsqueeze(3).expand(*found.shape, options.bins))
    return rows.gather(3, found.unsqueeze(2).expand(*found.shape, found.shape[2]))


def quantile_bins(x: Tensor, bins: int) -> Tensor:
    """The bin of every point among `bins` quantile bins of its own series, int64 [N, C, M]: how many inner edges are <= it.

    Edges are members of the series (the lower quantile), so that an increasing map of it changes no bin.
    """
    ordered = x.sort(dim=2).values
    places = torch.tensor([k * x.shape[2] // bins for k in range(1, bins)], device=x.device)
    return (ordered[..., places].unsqueeze(2) <= x.unsqueeze(3)).sum(3)


def transitions(found: Tensor, bins: int) -> Tensor:
    """First-order transition frequencies [N, C, bins, bins]; rows sum to 1, or to 0 for a bin that is never left."""
    counts = F.one_hot(found[..., :-1] * bins + found[..., 1:], bins * bins).sum(2).unflatten(2, (bins, bins)).float()
    return counts / counts.sum(3, keepdim=True).clamp_min(1)


FUNCTIONS: dict[str, Callable[[Tensor, Transforms], Tensor]] = {
    "raw": raw, "spectrum": spectrum, "stft": stft, "gasf": gasf, "gadf": gadf, "rp": rp, "mtf": mtf,
}  # fmt: skip
