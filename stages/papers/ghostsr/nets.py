"""Super-resolution nets by the record of their shape."""

from torch import nn

from stages.lib.restoration.blocks import EDSR
from stages.papers.ghostsr.carn import CARN
from stages.papers.ghostsr.imdn import IMDN
from stages.papers.ghostsr.rdn import RDN
from stages.papers.ghostsr.settings import Backbone


def build(shape: Backbone) -> nn.Module:
    """A freshly initialised dense net; all take [B, 3, H, W] in 0..255 to [B, 3, H factor, W factor]."""
    outer = (shape.factor, shape.bicubic_skip, shape.unit)
    if shape.name == "edsr":
        return EDSR(shape.features, shape.blocks, shape.factor, shape.res_scale, shape.bicubic_skip, shape.unit)
    if shape.name == "rdn":
        return RDN(shape.features, shape.blocks, shape.convs, *outer)
    return CARN(shape.features, shape.blocks, *outer) if shape.name == "carn" else IMDN(shape.features, shape.blocks, *outer)
