"""The paper's losses for one layer: reconstruction L_M, discrimination L_S and their sum L (eq. 3, 5 and 7)."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

Form = Literal["paper", "release"]


def reconstruction(output: Tensor, target: Tensor, form: Form = "release") -> Tensor:
    """L_M = 1/(2Q) sum ||O^b - O||_F^2 with Q = N n h z; the release leaves out the 1/2 (nn.MSELoss)."""
    loss = F.mse_loss(output, target)
    return 0.5 * loss if form == "paper" else loss


def discrimination(logits: Tensor, labels: Tensor) -> Tensor:
    """L_S^p: softmax cross-entropy of an auxiliary classifier, logits (N, m), labels (N,)."""
    return F.cross_entropy(logits, labels)


def joint(
    output: Tensor, target: Tensor, logits: Tensor | None, labels: Tensor, *, rebuild: float, classify: float, form: Form
) -> Tensor:
    """L = rebuild * L_M + classify * L_S (eq. 7 has rebuild = 1, classify = lambda); a zero weight skips its term."""
    total = output.new_zeros(())
    if rebuild:
        total = total + rebuild * reconstruction(output, target, form)
    if classify:
        if logits is None:
            raise ValueError("the discrimination loss needs logits")
        total = total + classify * discrimination(logits, labels)
    return total
