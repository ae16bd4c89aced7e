"""Convolutional nets whose ReLUs are replaced, and their training."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, fx, nn

from stages.lib import dense as recipes
from stages.lib import training
from stages.lib.data import Split
from stages.lib.errors import StageError
from stages.lib.models import construct
from stages.lib.runtime import derive_seed, seed_everything
from stages.papers.srs import layer
from stages.papers.srs.names import find_activation
from stages.papers.srs.peers import Plain
from stages.papers.srs.replace import Site, replace

if TYPE_CHECKING:
    from stages.papers.srs.settings import Activation, Train


def maker(arm: str, options: "Activation", granularity: str) -> Callable[[Site], nn.Module]:
    """What makes the activation of a call site."""

    def make(site: Site) -> nn.Module:
        if not arm.startswith("srs"):
            return Plain(find_activation(arm))
        shape = (site.channels,) if granularity == "channel" else ()
        return layer.SRS(shape, *options.start(), trainable=arm != "srs_frozen", constraint=options.constraint)

    return make


def dense(params: "Train", split: Split, repetition: int) -> nn.Module:
    """The net with ReLUs and the repetition's random weights. StageError if it takes other images than the split's."""
    seed_everything(derive_seed(repetition, "init"))
    net = construct(params.net.name, **params.net.options, classes=len(split.classes))
    if net.record()["input"] != list(split.x.shape[1:]):
        raise StageError(
            f"net.options: the net takes {net.record()['input']} images, the data are {list(split.x.shape[1:])}; "
            "correct the params file"
        )
    return net


def converted(net: nn.Module, arm: str, params: "Train", example: Tensor) -> tuple[fx.GraphModule, list[Site]]:
    """The net with an arm's activation at every call site."""
    return replace(net, maker(arm, params.activation, params.granularity), example)


def fit(
    net: nn.Module, params: "Train", split: Split, repetition: int, device: torch.device, state: Path, label: str
) -> list[float]:
    """Train in place; the mean loss of every epoch. Weights of convolutions and linear maps alone are decayed: decay would draw
    alpha and beta to 0, and with them the range of the function.
    """
    matrices = [module.weight for module in net.modules() if isinstance(module, (nn.Linear, nn.Conv2d))]

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        penalty = params.weight_decay / 2 * sum(one.square().sum() for one in matrices)
        return training.cross_entropy(model, x, y) + penalty - penalty.detach()  # its gradient counts, its value does not

    return training.train(
        net, split, epochs=params.epochs, lr=params.lr, batch=params.batch, schedule=recipes.falling(params.milestones),
        milestones=params.milestones, seed=derive_seed(repetition, "train"), device=device, nesterov=False,
        augment=recipes.augmentation(params.pad, params.flip), loss=loss, mask_hook=layer.project, state=state,
        label=f"{label} (decay {params.weight_decay:g})",
    )  # fmt: skip


def moved(net: nn.Module) -> dict[str, float]:
    """Mean alpha and beta over all sites after training; nothing for other activations."""
    found = [module for module in net.modules() if isinstance(module, layer.SRS)]
    if not found:
        return {}
    means = {name: [getattr(one, name).detach().mean() for one in found] for name in ("alpha", "beta")}
    return {name: float(torch.stack(values).mean()) for name, values in means.items()}
