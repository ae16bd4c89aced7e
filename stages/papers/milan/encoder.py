"""The student: a plain ViT that is given the visible patches alone, and the classifier it becomes."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from stages.lib.errors import StageError
from stages.lib.vit.net import tiles
from stages.lib.vit.parts import EPS, Block, Stem, drop_rates, initialise, sincos
from stages.papers.milan.sampling import gather

if TYPE_CHECKING:
    from stages.papers.milan.settings import Net

RATIO = 4  # of the MLP's width to the tokens'


class Encoder(nn.Module):
    """Patches with fixed sin-cos positions and a class token through pre-norm blocks and a last norm (He et al. 2022)."""

    def __init__(self, net: "Net", shape: tuple[int, ...] | torch.Size, drop_path: float = 0.0) -> None:
        super().__init__()
        patches = tiles(shape, net.patch)
        self.patch, self.patches, self.width = net.patch, patches, net.width
        self.about = {"kind": "milan encoder", "input": list(shape), "patch": net.patch, "width": net.width,
                      "depth": net.depth, "heads": net.heads}  # fmt: skip
        self.stem = Stem(shape[0], net.patch, patches, net.width, sincos(shape[1] // net.patch, net.width))
        rates = drop_rates(drop_path, net.depth)
        self.blocks = nn.ModuleList(Block(net.width, RATIO * net.width, net.heads, rate) for rate in rates)
        self.norm = nn.LayerNorm(net.width, EPS)
        initialise(self, None)

    def record(self) -> dict:
        """The architecture as plain JSON values."""
        return dict(self.about)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """Tokens [B, n + 1, width] of images [B, C, H, W], the class token first; all patches, or those of keep [B, n]."""
        tokens = self.stem(x)
        if keep is not None:
            tokens = torch.cat([tokens[:, :1], gather(tokens[:, 1:], keep)], 1)
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)


class Classifier(nn.Module):
    """Mean of the patch tokens, norm, linear map: what is fine-tuned (the official `global_pool`).

    The encoder's own last norm is left out, as there.
    """

    def __init__(self, encoder: Encoder, classes: int) -> None:
        super().__init__()
        self.encoder, self.norm, self.head = encoder, nn.LayerNorm(encoder.width, EPS), nn.Linear(encoder.width, classes)
        encoder.norm = nn.Identity()
        nn.init.trunc_normal_(self.head.weight, std=2e-5)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, classes] of images [B, C, H, W]."""
        return self.head(self.norm(self.encoder(x)[:, 1:].mean(1)))


def restored(tensors: dict[str, Tensor], record: dict, net: "Net", shape: tuple[int, ...] | torch.Size, origin: str,
             drop_path: float = 0.0) -> Encoder:  # fmt: skip
    """A pre-trained encoder in eval mode. Raises StageError where the tensors belong to another one."""
    encoder = Encoder(net, shape, drop_path)
    if record != encoder.record():
        raise StageError(f"{origin}: holds another encoder than the params file describes; run the stage pretrain again")
    encoder.load_state_dict(tensors)
    return encoder.eval()
