"""ManiDP's terms: sparsity that spares hard images (eq. 2-5) and alignment of similarities (eq. 8-10)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from stages.lib.errors import StageError

FORMS = ("release", "paper")
TINY = 1e-10  # floor of the release's relative ease, so that a power of it has a gradient


def ease(losses: Tensor, bound: Tensor, exponent: float = 1.0) -> Tensor:
    """Weights w [N] in [0, 1] of the sparsity from the images' cross-entropies [N] and the complexity bound C.

    w = 1[L < C] max((C - L) / C, 1e-10)^exponent: 1 for a loss of 0, 0 from C on (eq. 4; beta of eq. 3 is the indicator).
    """
    relative = ((bound - losses) / bound).clamp(min=TINY)
    return (losses < bound) * relative**exponent


def sparsity(saliencies: Sequence[Tensor], weights: Tensor) -> Tensor:
    """sum over layers of mean over images of w_i mean_c p_ic; the code's channel mean stands for the paper's sum."""
    return sum((weights * p.mean(1)).mean() for p in saliencies)


def similarity(saliencies: Sequence[Tensor], features: Sequence[Tensor], form: str = "release") -> Tensor:
    """Distance of the images' cosine similarities in saliency, T, and in features, R: lists of [N, channels].

    release: sum_l |T - R|_F^2 / N^2; paper (eq. 10): sum_l |T - R|_F. StageError for a single image, whose only
    similarity is with itself.
    """
    if form not in FORMS:
        raise StageError(f"form={form}: expected one of {', '.join(FORMS)}")
    count = len(saliencies[0])
    if count < 2:
        raise StageError("similarity loss: a batch of one image has no similarities; expected 2 images or more")
    total = saliencies[0].new_zeros(())
    for width in sorted({p.shape[1] for p in saliencies}):  # layers of one width at once: fewer, larger products
        places = [i for i, p in enumerate(saliencies) if p.shape[1] == width]
        gap = cosines(torch.stack([saliencies[i] for i in places])) - cosines(torch.stack([features[i] for i in places]))
        squares = gap.square().sum((1, 2))
        total = total + (squares.sum() / count**2 if form == "release" else squares.clamp(min=TINY).sqrt().sum())
    return total


def cosines(rows: Tensor) -> Tensor:
    """Cosine similarities [L, N, N] of rows [L, N, c]; a row of zeros has similarity 0 with everything, itself too."""
    unit = F.normalize(rows, dim=2)
    return unit @ unit.transpose(1, 2)
