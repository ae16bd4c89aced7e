"""Structure distillation. The paper names it and its purpose; this loss is our interpretation (specification, 3.4)."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.lib.models import Net


def distillation_loss(teacher: Net, temperature: float, logits: float, maps: float) -> Callable[[Net, Tensor, Tensor], Tensor]:
    """CE + logits T^2 KL(teacher/T || student/T) + maps sum_l |n(F_s) - n(F_t)|^2 / B, for `training.train`.

    F are the outputs of the blocks, whose widths pruning leaves; n divides each image's map by its norm. The teacher
    stays as it is and answers in eval mode.
    """
    teacher.eval().requires_grad_(False)

    def loss(student: Net, x: Tensor, y: Tensor) -> Tensor:
        with torch.no_grad():
            taught, aims = _run(teacher, x)
        answer, seen = _run(student, x)
        soft = F.kl_div(
            F.log_softmax(answer / temperature, 1),
            F.log_softmax(taught / temperature, 1),
            reduction="batchmean",
            log_target=True,
        )
        value = F.cross_entropy(answer, y) + logits * temperature**2 * soft
        if maps:
            value = value + maps * sum((_unit(s) - _unit(t)).square().sum() for s, t in zip(seen, aims, strict=True)) / len(x)
        return value

    return loss


def _run(net: Net, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    h, outputs = net.stem(x), []
    for block in net.blocks:
        h = block(h)
        outputs.append(h)
    return net.head(h), outputs


def _unit(h: Tensor) -> Tensor:
    return F.normalize(h.flatten(1), dim=1)
