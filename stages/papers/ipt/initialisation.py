"""Initial weights, as the official net sets them and as the official trainer does."""

import math
from typing import TYPE_CHECKING

from torch import nn

from stages.papers.ipt.attention import Attention
from stages.papers.ipt.body import EncoderLayer

if TYPE_CHECKING:
    from stages.papers.ipt.settings import Net

SLOPE = math.sqrt(5)  # of He's uniform initialisation; gives U(+-1 / sqrt(fan_in))


def initialise(model: nn.Module, net: "Net") -> None:
    """Set what differs from torch's defaults.

    torch: joint projections of the encoder's attention by He's rule, those of the decoder stay Xavier-uniform. mindspore:
    all of them by He's rule (convolutions and linear maps are so by default). Without norms, weights of linear maps are
    normal with deviation 1 / fan_in. Layers of a stack stay equal to its first.
    """
    for module in model.modules():
        if isinstance(module, Attention) and net.init == "mindspore":
            nn.init.kaiming_uniform_(module.in_proj, a=SLOPE)
        elif isinstance(module, EncoderLayer) and net.init == "torch":
            nn.init.kaiming_uniform_(module.attention.in_proj, a=SLOPE)
        elif isinstance(module, nn.Linear) and not net.norm:
            nn.init.normal_(module.weight, std=1 / module.in_features)
    for stack in (model.body.encoder, model.body.decoder):
        for layer in stack[1:]:
            layer.load_state_dict(stack[0].state_dict())
