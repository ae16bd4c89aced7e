"""Which convolutions of a super-resolution net become ghost modules, and the nets that it is compared with."""

import copy

from torch import nn

from stages.lib.errors import StageError
from stages.lib.restoration.blocks import ResBlock
from stages.lib.restoration.blocks import conv as conv3
from stages.lib.runtime import derive_seed
from stages.papers.ghostsr.exported import SlicedGhost
from stages.papers.ghostsr.ghost import GhostModule, GhostOptions, intrinsic_count
from stages.papers.ghostsr.inheritance import inherit


def convertible(net: nn.Module) -> list[str]:
    """Names of the convolutions with a kernel above 1x1 inside the body's blocks.

    For EDSR the official rule: both of each block; not the head, the one that closes the body, the up-sampler, the last one.
    For RDN, CARN and IMDN the same rule is this project's reading of the paper.
    """
    return [
        name
        for name, module in net.named_modules()
        if name.startswith("body.") and isinstance(module, nn.Conv2d) and module.kernel_size[0] > 1
    ]


def replace(net: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module in the place of the one of that dotted name."""
    parent, _, own = name.rpartition(".")
    setattr(net.get_submodule(parent), own, module)


def converted(net: nn.Module, options: GhostOptions, filters: str, inheritance: str, seed: int) -> nn.Module:
    """A copy of a net whose convertible convolutions are ghost modules with inherited weights.

    With matched inheritance every consumer finds its channels where it expects them: the second convolution of a residual
    block by a permutation of its input channels, all others by a gather. Clusters and random choices follow from the seed
    and the layer's name. Raises StageError where nothing can be converted.
    """
    net = copy.deepcopy(net)
    names = convertible(net)
    if not names:
        raise StageError("the net has no convolution to convert; expected a dense net of this paper")
    for name in names:
        conv = net.get_submodule(name)
        module = GhostModule(conv, options).to(conv.weight.device)
        chosen = inherit(module, conv, filters, inheritance, derive_seed(seed, "filters", name))
        if name.endswith(".conv1"):  # only a ReLU lies between it and its block's second convolution
            module.order = None
            if chosen and inheritance == "matched":
                second = net.get_submodule(name[:-1] + "2")
                second.weight = nn.Parameter(second.weight[:, [*chosen.intrinsic, *chosen.ghosts]].detach())
        replace(net, name, module)
    return net


def narrowed(net: nn.Module, ratio: float) -> nn.Module:
    """A copy of an EDSR with fresh thin blocks: that share of channels inside and no bias there.

    For a ratio of 1/2 and an even width, numbers of parameters and MACs are exactly those of the exported ghost net.
    Raises StageError for another net.
    """
    net = copy.deepcopy(net)
    for block in net.body.children():
        if not isinstance(block, ResBlock):
            raise StageError("the narrow net of equal size is defined for edsr only; take arms narrow and uniform out")
        features = block.conv1.in_channels
        inside = intrinsic_count(features, ratio)
        block.conv1 = nn.Conv2d(features, inside, 3, padding=1, bias=False)
        block.conv2 = conv3(inside, features)
    return net


def exported(net: nn.Module) -> nn.Module:
    """A copy for inference: learnable shifts are slices; its values are those of the trained net in eval mode, to the bit."""
    net = copy.deepcopy(net)
    for name, module in list(net.named_modules()):
        if isinstance(module, GhostModule):
            replace(net, name, SlicedGhost(module))
    return net.eval()


def sliced_layers(net: nn.Module) -> dict[str, SlicedGhost]:
    """The exported ghost modules of a net by name."""
    return {name: module for name, module in net.named_modules() if isinstance(module, SlicedGhost)}
