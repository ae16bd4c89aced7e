"""The prompting decoder, and MAE's that it replaces.

Visible tokens are prompts: every block reads them, none changes them. Only the hidden patches' tokens are updated.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from stages.lib.vit.parts import EPS, Block, Mlp, initialise, sincos
from stages.papers.milan.sampling import Division, gather

if TYPE_CHECKING:
    from stages.papers.milan.settings import Decoder as Settings

RATIO = 4  # of the MLP's width to the tokens'
DEVIATION = 0.02  # of the mask token


class PromptedAttention(nn.Module):
    """Queries from hidden tokens, keys and values from prompts and hidden tokens."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.kv, self.proj = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)

    def forward(self, hidden: Tensor, seen: Tensor) -> Tensor:
        """Hidden tokens [B, M, e] from the tokens they may look at [B, T, e], whose order has no influence."""
        batch, count, width = hidden.shape
        q = self.q(hidden).view(batch, count, self.heads, -1).transpose(1, 2)
        k, v = self.kv(seen).view(batch, -1, 2, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        weights = torch.softmax(q @ k.transpose(2, 3) * (width // self.heads) ** -0.5, dim=-1)
        return self.proj((weights @ v).transpose(1, 2).flatten(2))


class PromptingBlock(nn.Module):
    """m + attention(LN m; [P, LN m]), then m + MLP(LN m). The prompts P enter as they are, without norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width, EPS), PromptedAttention(width, heads)
        self.norm2, self.mlp = nn.LayerNorm(width, EPS), Mlp(width, RATIO * width)

    def forward(self, hidden: Tensor, prompts: Tensor) -> Tensor:
        """Hidden tokens [B, M, e] under prompts [B, n + 1, e]."""
        normed = self.norm1(hidden)
        hidden = hidden + self.attention(normed, torch.cat([prompts, normed], 1))
        return hidden + self.mlp(self.norm2(hidden))


class Decoder(nn.Module):
    """Encoder tokens of the visible patches to predictions for all N + 1 tokens, in raster order, the class token first."""

    def __init__(self, settings: "Settings", inputs: int, side: int, outputs: int, prompting: bool) -> None:
        super().__init__()
        width, heads = settings.width, settings.heads
        self.prompting = prompting
        self.embed = nn.Linear(inputs, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.register_buffer("positions", sincos(side, width))
        make = PromptingBlock if prompting else lambda width, heads: Block(width, RATIO * width, heads)
        self.blocks = nn.ModuleList(make(width, heads) for _ in range(settings.depth))
        self.norm, self.predict = nn.LayerNorm(width, EPS), nn.Linear(width, outputs)
        initialise(self, None)
        nn.init.normal_(self.mask_token, std=DEVIATION)

    def forward(self, tokens: Tensor, division: Division) -> Tensor:
        """Predictions [B, N + 1, outputs] from encoder tokens [B, n + 1, inputs] of the division's visible patches."""
        return self.predict(self.norm(self.decode(tokens, division)))

    def decode(self, tokens: Tensor, division: Division) -> Tensor:
        """The last block's tokens [B, N + 1, e] before the norm; with prompting, visible ones are the prompts themselves."""
        tokens, places = self.embed(tokens), self.positions[:, 1:].expand(len(tokens), -1, -1)
        prompts = tokens + torch.cat([self.positions[:, :1].expand(len(tokens), -1, -1), gather(places, division.keep)], 1)
        hidden = self.mask_token + gather(places, division.dump)
        if self.prompting:
            if hidden.shape[1]:  # with nothing hidden there is no query, and the prompts go through alone
                for block in self.blocks:
                    hidden = block(hidden, prompts)
            return self.restore(prompts, hidden, division)
        tokens = self.restore(prompts, hidden, division)
        for block in self.blocks:
            tokens = block(tokens)
        return tokens

    @staticmethod
    def restore(prompts: Tensor, hidden: Tensor, division: Division) -> Tensor:
        """Class token, then all patches in raster order."""
        patches = gather(torch.cat([prompts[:, 1:], hidden], 1), division.restore)
        return torch.cat([prompts[:, :1], patches], 1)
