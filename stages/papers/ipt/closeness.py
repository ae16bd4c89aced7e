"""What the contrastive term is for: tokens of one image that are nearer to each other than to those of other images."""

from collections.abc import Sequence

import torch
from torch import Tensor

from stages.lib.errors import StageError
from stages.lib.restoration.tiles import reflected
from stages.papers.ipt.network import MultiTask


@torch.no_grad()
def closeness(tokens: Tensor) -> float:
    """Mean cosine similarity of two tokens of one image less that of tokens of two images, of [B, N, d].

    StageError for one image or one token.
    """
    images, count, _ = tokens.shape
    if min(images, count) < 2:
        raise StageError(f"{images} images of {count} tokens: expected two or more of both, to compare their tokens")
    flat = torch.nn.functional.normalize(tokens.double(), dim=2)
    total = float(flat.sum((0, 1)).square().sum())
    within = float(flat.sum(1).square().sum())  # the sum over all pairs of an image, a token with itself among them
    same = (within - images * count) / (images * count * (count - 1))
    return same - (total - within) / (images * (images - 1) * count**2)


@torch.no_grad()
def of_net(net: MultiTask, name: str, corrupted: Sequence[Tensor]) -> float:
    """Closeness of a net's tokens for the middle patches of some images [3, H, W]."""
    side, found = net.side, []
    for image in corrupted:
        image = reflected(image, max(side, image.shape[1]), max(side, image.shape[2]))
        top, left = ((length - side) // 2 for length in image.shape[1:])
        found.append(image[:, top : top + side, left : left + side])
    return closeness(net.eval().with_tokens(torch.stack(found), name)[1])
