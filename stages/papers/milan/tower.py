"""CLIP's image tower: a pre-norm transformer with QuickGELU whose every token is projected into the joint space.

Names and shapes of the tensors are those of OpenAI's `visual.*`, so that weights on disk fit as they are.
"""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.lib.errors import StageError


@dataclass(frozen=True)
class Shape:
    """Shape of a tower; `image` is the side of its square images, `joint` the width of the space shared with captions."""

    image: int
    channels: int
    patch: int
    width: int
    depth: int
    heads: int
    joint: int

    def __post_init__(self) -> None:
        if self.image % self.patch:
            raise StageError(f"a teacher of {self.patch}-pixel patches: they do not tile images of {self.image} pixels")
        if self.width % self.heads:
            raise StageError(f"a teacher of width {self.width}: {self.heads} heads do not divide it")

    @property
    def patches(self) -> int:
        """Number of patches N."""
        return (self.image // self.patch) ** 2

    def record(self) -> dict:
        """The shape as plain JSON values."""
        return {"kind": "clip tower", **asdict(self)}


class Attention(nn.Module):
    """Multi-head self-attention with torch.nn.MultiheadAttention's packed tensors."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight, self.in_proj_bias = (
            nn.Parameter(torch.empty(3 * width, width)),
            nn.Parameter(torch.zeros(3 * width)),
        )
        self.out_proj = nn.Linear(width, width)

    def attend(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Heads' outputs [B, heads, T, width / heads] of tokens [B, T, width], and their weights [B, heads, T, T]."""
        batch, tokens, width = x.shape
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias).view(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        weights = torch.softmax((q * (width // self.heads) ** -0.5) @ k.transpose(2, 3), dim=-1)
        return weights @ v, weights

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [B, T, width] to tokens."""
        return self.out_proj(self.attend(x)[0].transpose(1, 2).flatten(2))

    def weights(self, x: Tensor) -> Tensor:
        """Attention [B, T, T] averaged over the heads; rows sum to 1."""
        return self.attend(x)[1].mean(1)


class Mlp(nn.Module):
    """Linear, x sigmoid(1.702 x), linear."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc, self.c_proj = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens to tokens."""
        hidden = self.c_fc(x)
        return self.c_proj(hidden * torch.sigmoid(1.702 * hidden))


class Block(nn.Module):
    """x + attention(LN x), then x + MLP(LN x)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn, self.ln_1, self.mlp, self.ln_2 = (
            Attention(width, heads),
            nn.LayerNorm(width),
            Mlp(width),
            nn.LayerNorm(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Tokens to tokens."""
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class Blocks(nn.Module):
    """The row of blocks; a module of its own because the published names say `transformer.resblocks`."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(shape.width, shape.heads) for _ in range(shape.depth))


class Tower(nn.Module):
    """CLIP's image encoder."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.conv1 = nn.Conv2d(shape.channels, shape.width, shape.patch, shape.patch, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(shape.width))
        self.positional_embedding = nn.Parameter(torch.empty(shape.patches + 1, shape.width))
        self.ln_pre, self.transformer, self.ln_post = nn.LayerNorm(shape.width), Blocks(shape), nn.LayerNorm(shape.width)
        self.proj = nn.Parameter(torch.empty(shape.width, shape.joint))
        self.initialise()

    def initialise(self) -> None:
        """CLIP's initial deviations: width^-1/2 for tables, q, k and v; less for what is added to the residual stream."""
        width, depth = self.shape.width, self.shape.depth
        for table in (self.class_embedding, self.positional_embedding, self.proj):
            nn.init.normal_(table, std=width**-0.5)
        for block in self.transformer.resblocks:
            nn.init.normal_(block.attn.in_proj_weight, std=width**-0.5)
            nn.init.normal_(block.attn.out_proj.weight, std=width**-0.5 * (2 * depth) ** -0.5)
            nn.init.normal_(block.mlp.c_fc.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(block.mlp.c_proj.weight, std=width**-0.5 * (2 * depth) ** -0.5)
            for linear in (block.attn.out_proj, block.mlp.c_fc, block.mlp.c_proj):
                nn.init.zeros_(linear.bias)

    def embed(self, x: Tensor) -> Tensor:
        """Tokens [B, N + 1, width] of images [B, C, H, W], the class token first."""
        patches = self.conv1(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_embedding.expand(len(x), 1, -1), patches], 1)
        return self.ln_pre(tokens + self.positional_embedding)

    def project(self, tokens: Tensor) -> Tensor:
        """Tokens in the joint space: final LayerNorm and projection, applied to whatever tokens are given."""
        return self.ln_post(tokens) @ self.proj

    def forward(self, x: Tensor) -> Tensor:
        """CLIP's image embeddings [B, joint]: the projected class token."""
        tokens = self.embed(x)
        for block in self.transformer.resblocks:
            tokens = block(tokens)
        return self.project(tokens[:, 0])

    @torch.no_grad()
    def targets(self, x: Tensor, last: int = 1) -> tuple[Tensor, Tensor]:
        """What a student learns from: features [B, N + 1, joint] of every token, and the attention [B, N + 1, N + 1] of the
        last block, averaged over heads. `last` blocks' projected outputs are averaged (the official `average_targets`).
        Raises StageError for images of another shape than the tower's.
        """
        expected = (self.shape.channels, self.shape.image, self.shape.image)
        if tuple(x.shape[1:]) != expected:
            raise StageError(f"a teacher for images {list(expected)} was given {list(x.shape[1:])}; run the stage teach again")
        tokens, outputs = self.embed(x), []
        for block in self.transformer.resblocks:
            before, tokens = tokens, block(tokens)
            outputs.append(tokens)
        attention = block.attn.weights(block.ln_1(before))
        return torch.stack([self.project(tokens) for tokens in outputs[-last:]]).mean(0), attention


def importance(attention: Tensor) -> Tensor:
    """Weights [B, N] of the patches: the class token's attention to each, itself left out."""
    return attention[:, 0, 1:]


def entropy(weights: Tensor) -> float:
    """Mean entropy of importance weights [B, N], normalised to sum 1, as a share of the uniform distribution's."""
    shares = weights / weights.sum(1, keepdim=True)
    own = -(shares * shares.clamp_min(1e-12).log()).sum(1).mean()
    return float(own / torch.tensor(float(weights.shape[1])).log())
