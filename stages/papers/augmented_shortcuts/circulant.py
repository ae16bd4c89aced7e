"""The block-circulant projection: d x d weights of which only b d are free."""

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.lib.errors import StageError
from stages.papers.augmented_shortcuts import partial

FORMS = ("auto", "dense", "partial", "fft")


class BlockCirculant(nn.Module):
    """y = W x + bias with W = [C_ij] and circulant blocks C_ij[p, q] = c_ij[(p - q) mod n], n = min(d_in, d_out) / b.

    `weight` [b_out, b_in, n] holds the first columns c_ij; b_out b_in = b^2 max / min of the widths. So T parallel d x d
    projections of one input are `BlockCirculant(d, T d, b)`. All forms compute the same: `fft` (the paper's), `dense`
    (the official code's, weights gathered), `partial`, and `auto`, the faster of the last two for these widths.
    """

    def __init__(self, inputs: int, outputs: int, blocks: int, form: str = "auto") -> None:
        super().__init__()
        self.length = block_length(inputs, outputs, blocks)
        if form not in FORMS:
            raise StageError(f"form={form}: expected one of {', '.join(FORMS)}")
        self.inputs, self.outputs, self.form = inputs, outputs, form
        self.radix = partial.best_radix(inputs, outputs, self.length)
        self.weight = nn.Parameter(torch.empty(outputs // self.length, inputs // self.length, self.length))
        self.bias = nn.Parameter(torch.empty(outputs))
        self._kept: tuple[tuple, Tensor] | None = None
        # Kaiming's uniform rule with a = sqrt(5), as the official code has it; biases alike.
        for parameter in (self.weight, self.bias):
            nn.init.uniform_(parameter, -(inputs**-0.5), inputs**-0.5)

    def dense(self) -> Tensor:
        """The matrix W [d_out, d_in], gathered from the free weights."""
        entries = self.weight.reshape(-1, self.length).index_select(1, places(self.length, self.weight.device))
        grid = entries.view(*self.weight.shape, self.length)
        return grid.transpose(1, 2).reshape(self.outputs, self.inputs)

    def forward(self, x: Tensor) -> Tensor:
        """[..., d_out] of [..., d_in]."""
        if self.form == "fft":
            return self.by_fft(x)
        if self.radix == 1 or self.form == "dense":
            return F.linear(x, self._made(self.dense), self.bias)
        flat = partial.multiply(x.reshape(-1, self.inputs), self._made(self.small), self.radix, self.length)
        return flat.add_(self.bias).view(*x.shape[:-1], self.outputs)

    def small(self) -> Tensor:
        """The matrices of the partial transform."""
        return partial.small_matrices(self.weight, self.radix)

    def train(self, mode: bool = True) -> "BlockCirculant":
        """Sets the mode, and drops what was kept: the weights may have changed unseen, fused optimisers count no version."""
        self._kept = None
        return super().train(mode)

    def _made(self, make: Callable[[], Tensor]) -> Tensor:
        """What `make` makes of the weights; kept in eval mode without gradients for as long as the weights stay."""
        if self.training or torch.is_grad_enabled():
            return make()
        told = (make.__name__, self.radix, self.weight._version, self.weight.dtype, self.weight.device)
        if self._kept is None or self._kept[0] != told:
            self._kept = (told, make())
        return self._kept[1]

    def by_fft(self, x: Tensor) -> Tensor:
        """The same by FFT: y_i = IFFT(sum_j FFT(c_ij) o FFT(x_j)), in float32 at least (half precision has no FFT)."""
        wide = torch.promote_types(x.dtype, torch.float32)
        blocks = x.unflatten(-1, (-1, self.length)).to(wide)
        spectrum = torch.einsum("...jf,ijf->...if", torch.fft.rfft(blocks), torch.fft.rfft(self.weight.to(wide)))
        return (torch.fft.irfft(spectrum, n=self.length).flatten(-2) + self.bias).to(x.dtype)


@lru_cache
def places(length: int, device: torch.device) -> Tensor:
    """(p - q) mod n for every entry [n n] of a circulant matrix, row by row."""
    place = torch.arange(length, device=device)
    return ((place[:, None] - place[None, :]) % length).flatten()


def block_length(inputs: int, outputs: int, blocks: int) -> int:
    """n = min(d_in, d_out) / b. Raises StageError unless b divides the widths."""
    least, most = sorted((inputs, outputs))
    if blocks < 1 or least % blocks or most % (least // blocks):
        raise StageError(f"blocks={blocks}: does not divide the widths {inputs} and {outputs}; choose a divisor of both")
    return least // blocks
