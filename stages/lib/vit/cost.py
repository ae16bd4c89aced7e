"""Parameters and multiply-adds of a transformer's parts, in closed form. No torch here.

1 MAC = one multiply-add of a linear map or an attention product.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """One part's MACs for a sample and its parameters, by its module path."""

    name: str
    macs: int
    params: int


def stem(name: str, channels: int, patch: int, patches: int, width: int, learned: bool = True) -> Part:
    """Patch map, class token and, where they are learned, the positions of n + 1 tokens."""
    pixels = channels * patch * patch
    positions = (patches + 1) * width if learned else 0
    return Part(name, patches * width * pixels, pixels * width + width + width + positions)


def norm(name: str, width: int) -> Part:
    """Scale and shift."""
    return Part(name, 0, 2 * width)


def linear(name: str, inputs: int, outputs: int, tokens: int = 1) -> Part:
    """A linear map with bias over so many tokens."""
    return Part(name, tokens * inputs * outputs, inputs * outputs + outputs)


def attention(name: str, width: int, inner: int, tokens: int) -> Part:
    """Projections to q, k, v of `inner` columns and back, and both products of N x N tokens."""
    maps = 4 * width * inner
    return Part(name, tokens * maps + 2 * tokens * tokens * inner, maps + 3 * inner + width)


def mlp(name: str, width: int, hidden: int, tokens: int) -> Part:
    """Two linear maps with biases."""
    return Part(name, 2 * tokens * width * hidden, 2 * width * hidden + hidden + width)


def block(name: str, width: int, hidden: int, inner: int, tokens: int) -> list[Part]:
    """Both norms, attention and MLP of a block over N tokens."""
    return [
        norm(f"{name}.norm1", width), attention(f"{name}.attention", width, inner, tokens),
        norm(f"{name}.norm2", width), mlp(f"{name}.mlp", width, hidden, tokens),
    ]  # fmt: skip
