"""Batch-normalisation statistics measured anew after surgery, before a pruned net is judged or fine-tuned."""

import torch
from torch import Tensor, nn


@torch.no_grad()
def recalibrate(net: nn.Module, x: Tensor, passes: int, batch: int) -> None:
    """Set every running mean and variance to the plain average over `passes` forward passes of the images x, in place.

    The weights stay. With no pass nothing changes. The net ends in eval mode.
    """
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    if passes == 0 or not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the cumulative average
    net.train()
    for _ in range(passes):
        for part in x.split(batch):
            net(part)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    net.eval()
