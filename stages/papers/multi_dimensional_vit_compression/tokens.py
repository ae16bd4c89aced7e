"""Token reduction inside a block (section 3.2): between attention and MLP, the least attended tokens become one."""

import torch
from torch import Tensor

from stages.papers.multi_dimensional_vit_compression import cost

TOKEN_SCORES = ("cls_attention", "hsic_x_attention")


def importance(weights: Tensor, gate: Tensor | None = None) -> Tensor:
    """[B, N] the class token's attention to every token, mean over the heads of [B, heads, N, N].

    With a gate [heads] of 0 and 1 over those that stay. The official code takes the mean over all, so that its gated nets
    and its pruned ones choose different tokens.
    """
    rows = weights[:, :, 0]
    if gate is None:
        return rows.mean(1)
    return (rows * gate.view(1, -1, 1)).sum(1) / gate.sum()


def reduce(x: Tensor, scores: Tensor, sparsity: float) -> Tensor:
    """Tokens [B, N, e] to [B, K + 1, e]: the class token, the others by falling score [B, N], the mean of the dropped.

    Without sparsity the tokens themselves.
    """
    if not sparsity:
        return x
    keep = int(cost.kept(x.shape[1], sparsity))
    # Stable, and the class token apart: equal scores must not depend on the machine.
    order = scores[:, 1:].sort(dim=1, descending=True, stable=True).indices + 1
    order = torch.cat([torch.zeros_like(order[:, :1]), order], 1)
    sorted_tokens = x.gather(1, order.unsqueeze(-1).expand(-1, -1, x.shape[2]))
    return torch.cat([sorted_tokens[:, :keep], sorted_tokens[:, keep:].mean(1, keepdim=True)], 1)
