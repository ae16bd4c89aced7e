"""The augmented shortcuts of one module, and the transformer block that has them."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from stages.lib.vit.parts import Block, dropped
from stages.papers.augmented_shortcuts.circulant import BlockCirculant


class Paths(nn.Module):
    """sum_i T_i(Z; Theta_i), T_i(Z) = GELU(Z Theta_i + bias): the parallel paths beside an identity shortcut.

    Every token by itself. All paths share their input, so their projections are one map to T d columns. `blocks` None
    makes the projections dense.
    """

    def __init__(self, width: int, paths: int, blocks: int | None, activation: bool = True, form: str = "auto") -> None:
        super().__init__()
        self.paths, self.activation = paths, activation
        wide = paths * width
        self.projection = nn.Linear(width, wide) if blocks is None else BlockCirculant(width, wide, blocks, form)

    def forward(self, z: Tensor) -> Tensor:
        """Tokens [B, N, d] to the sum of all paths, [B, N, d]."""
        answers = self.projection(z)
        if self.activation:
            answers = F.gelu(answers)
        return answers.unflatten(-1, (self.paths, -1)).sum(-2)


class AugmentedBlock(nn.Module):
    """scale (x + DropPath(attention(h)) + paths(h or x)) with h = LN(x), then the same with the MLP.

    AugMSA and AugMLP with the norms first, as the official code has them. DropPath acts on attention and MLP alone.
    The parts are those of a plain block, under the same names; without paths, with identity and scale 1 it is that block.
    """

    def __init__(
        self, plain: Block, make: Callable[[], Paths] | None, *, normed: bool = True, scale: float = 1.0,
        identity: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.norm1, self.attention, self.norm2, self.mlp = plain.norm1, plain.attention, plain.norm2, plain.mlp
        self.drop_path, self.normed, self.scale, self.identity = plain.drop_path, normed, scale, identity
        self.paths1, self.paths2 = (make(), make()) if make else (None, None)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [B, N, d] to tokens."""
        x = self._joined(x, self.norm1, self.attention, self.paths1)
        return self._joined(x, self.norm2, self.mlp, self.paths2)

    def _joined(self, x: Tensor, norm: nn.Module, branch: nn.Module, paths: nn.Module | None) -> Tensor:
        h = norm(x)
        total = dropped(branch(h), self.drop_path, self.training)
        if self.identity:
            total = x + total
        if paths is not None:
            total = total + paths(h if self.normed else x)
        return total if self.scale == 1.0 else self.scale * total
