"""AdamW without torch.optim's start-up (its first step imports torch._dynamo, 1.6 s), its state as a module's buffers.

Without decay it is Adam. Like torch.optim.AdamW, parameters without a gradient are left alone and keep their own count of
steps: parts that a step skips neither decay nor move.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class AdamW(nn.Module):
    """Update of groups of parameters, each with its own decoupled weight decay."""

    counts: Tensor

    def __init__(
        self, groups: Sequence[tuple[Sequence[nn.Parameter], float]], betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:  # fmt: skip
        super().__init__()
        self.held = [parameter for parameters, _ in groups for parameter in parameters]  # a plain list: not registered again
        self.decays = [decay for parameters, decay in groups for _ in parameters]
        self.betas, self.eps = betas, eps
        self.register_buffer("counts", torch.zeros(len(self.held)))
        for i, parameter in enumerate(self.held):
            self.register_buffer(f"first{i}", torch.zeros_like(parameter, requires_grad=False))
            self.register_buffer(f"second{i}", torch.zeros_like(parameter, requires_grad=False))

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """One update of every parameter that has a gradient; the gradients are dropped."""
        used = [i for i, parameter in enumerate(self.held) if parameter.grad is not None]
        for decay in sorted({self.decays[i] for i in used}):
            self._update([i for i in used if self.decays[i] == decay], lr, decay)
        for i in used:
            self.held[i].grad = None

    def _update(self, group: list[int], lr: float, decay: float) -> None:
        self.counts[group] += 1
        steps = self.counts.unbind()
        # One call for all tensors: a third of the time of torch's lists of small operations.
        torch._fused_adamw_(
            [self.held[i] for i in group], [self.held[i].grad for i in group], [getattr(self, f"first{i}") for i in group],
            [getattr(self, f"second{i}") for i in group], [], [steps[i] for i in group], lr=lr, beta1=self.betas[0],
            beta2=self.betas[1], weight_decay=decay, eps=self.eps, amsgrad=False, maximize=False,
        )  # fmt: skip


def decay_groups(net: nn.Module, decay: float) -> list[tuple[list[nn.Parameter], float]]:
    """Weights of linear maps and convolutions with decay; biases, norms, positions, tables and class token without."""
    matrices = {id(m.weight) for m in net.modules() if isinstance(m, (nn.Linear, nn.Conv2d))}
    with_decay = [p for p in net.parameters() if id(p) in matrices]
    return [(with_decay, decay), ([p for p in net.parameters() if id(p) not in matrices], 0.0)]
