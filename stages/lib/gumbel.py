"""Gumbel-softmax samples of categorical choices, soft and straight-through (Jang et al. 2017, Maddison et al. 2017)."""

import torch
from torch import Tensor


def gumbel_noise(shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard Gumbel noise -log(-log U), drawn on the CPU so that every device gets the same draws.

    Args:
        shape: Shape of the result.
        generator: A CPU generator; its state moves on.
        dtype: Floating type of the result.

    Returns:
        Finite noise of `shape`.
    """
    tiny = torch.finfo(dtype).tiny
    uniform = torch.rand(shape, generator=generator, dtype=dtype).clamp_min(tiny)
    return -(-uniform.log()).clamp_min(tiny).log()


def gumbel_softmax(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """Soft sample softmax((logits + g) / temperature) over the last dimension.

    Args:
        logits: (..., choices), unnormalised log-probabilities.
        temperature: Above 0. The largest entry does not depend on it, the gradient does.
        generator: A CPU generator.

    Returns:
        (..., choices), positive, summing to 1.
    """
    noise = gumbel_noise(tuple(logits.shape), generator, logits.dtype).to(logits.device)
    return torch.softmax((logits + noise) / temperature, dim=-1)


def straight_through(soft: Tensor) -> Tensor:
    """One-hot of the largest entry in the forward pass, the gradient of `soft` in the backward pass.

    Args:
        soft: (..., choices).

    Returns:
        (..., choices), exactly 0 and 1; the first of equal entries wins.
    """
    hard = torch.zeros_like(soft).scatter_(-1, soft.argmax(-1, keepdim=True), 1.0)
    # The parentheses keep the value exact: soft - soft.detach() is zero, whereas hard - soft rounds.
    return hard + (soft - soft.detach())
