"""Encoder-decoder Transformers (Vaswani et al. 2017, norms before each part) of K nets side by side, tokens [K, B, T].

Only the activation of the feed-forward layers differs between arms.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.papers.srs.grammar import PAD

EPS = 1e-5


class Maps(nn.Module):
    """K linear maps, [K, ..., inputs] to [K, ..., outputs]."""

    def __init__(self, nets: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(nets, inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(nets, 1, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Every net's map of its own inputs."""
        return torch.baddbmm(self.bias, x.flatten(1, -2), self.weight).view(*x.shape[:-1], -1)


class Norm(nn.Module):
    """LayerNorm with every net's own scale and shift."""

    def __init__(self, nets: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(nets, 1, 1, width))
        self.bias = nn.Parameter(torch.zeros(nets, 1, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        """x [K, B, T, width]."""
        return F.layer_norm(x, x.shape[-1:], eps=EPS) * self.weight + self.bias


class Attention(nn.Module):
    """Multi-head attention of queries to memory, which may be the same."""

    def __init__(self, nets: int, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.rest = Maps(nets, width, width), Maps(nets, width, 2 * width)
        self.out = Maps(nets, width, width)

    def forward(self, x: Tensor, memory: Tensor, hidden: Tensor) -> Tensor:
        """x [K, B, T, width], memory [K, B, S, width]; hidden [K, B or 1, 1, T or 1, S] is True where not to look."""
        query = self.query(x).unflatten(-1, (self.heads, -1)).transpose(2, 3)
        key, value = self.rest(memory).unflatten(-1, (2 * self.heads, -1)).transpose(2, 3).chunk(2, 2)
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        weights = scores.masked_fill(hidden, -math.inf).softmax(-1)
        return self.out((weights @ value).transpose(2, 3).flatten(-2))


class Feed(nn.Module):
    """W2 activation(W1 x): the activation is what an arm changes."""

    def __init__(self, nets: int, width: int, hidden: int, act: nn.Module) -> None:
        super().__init__()
        self.first, self.act, self.second = Maps(nets, width, hidden), act, Maps(nets, hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """x [K, B, T, width] to the same."""
        return self.second(self.act(self.first(x)))


class Layer(nn.Module):
    """Self-attention, attention to the encoder where asked, feed-forward; each added to its input."""

    def __init__(self, nets: int, width: int, heads: int, hidden: int, act: nn.Module, crossing: bool) -> None:
        super().__init__()
        self.norms = nn.ModuleList(Norm(nets, width) for _ in range(3 if crossing else 2))
        self.own = Attention(nets, width, heads)
        self.cross = Attention(nets, width, heads) if crossing else None
        self.feed = Feed(nets, width, hidden, act)

    def forward(self, x: Tensor, own_hidden: Tensor, memory: Tensor | None = None, hidden: Tensor | None = None) -> Tensor:
        """x [K, B, T, width] to the same."""
        y = self.norms[0](x)
        x = x + self.own(y, y, own_hidden)
        if self.cross is not None:
            x = x + self.cross(self.norms[1](x), memory, hidden)
        return x + self.feed(self.norms[-1](x))


class Transformer(nn.Module):
    """K nets; embeddings of source and target are separate, positions are sines (fixed), logits have a map of their own."""

    def __init__(self, nets: int, tokens: int, longest: int, shape, acts) -> None:
        """shape: settings.Shape; acts(): the activation of the next feed-forward layer, for [K, B, T, hidden]."""
        super().__init__()
        width = shape.width
        self.source = nn.Parameter(torch.zeros(nets, tokens, width))
        self.target = nn.Parameter(torch.zeros(nets, tokens, width))
        sizes = (nets, width, shape.heads, shape.hidden)
        self.encoder = nn.ModuleList(Layer(*sizes, acts(), False) for _ in range(shape.encoder))
        self.decoder = nn.ModuleList(Layer(*sizes, acts(), True) for _ in range(shape.decoder))
        self.ends = nn.ModuleList(Norm(nets, width) for _ in range(2))
        self.head = Maps(nets, width, tokens)
        self.register_buffer("positions", sines(longest, width), persistent=False)

    def embed(self, table: Tensor, tokens: Tensor) -> Tensor:
        """Vectors [K, B, T, width] of tokens [K, B, T], with their positions."""
        nets, batch, length = tokens.shape
        index = tokens.flatten(1).unsqueeze(-1).expand(-1, -1, table.shape[2])
        found = table.gather(1, index).view(nets, batch, length, -1)
        return found * math.sqrt(table.shape[2]) + self.positions[:length]

    def encode(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """(memory [K, B, S, width], where it is padding [K, B, 1, 1, S])."""
        hidden = (source == PAD)[:, :, None, None]
        x = self.embed(self.source, source)
        for layer in self.encoder:
            x = layer(x, hidden)
        return self.ends[0](x), hidden

    def decode(self, target: Tensor, memory: Tensor, hidden: Tensor) -> Tensor:
        """Logits [K, B, T, tokens] of the token after each prefix of the target [K, B, T]."""
        length = target.shape[2]
        future = torch.ones(length, length, dtype=torch.bool, device=target.device).triu(1)[None, None, None]
        x = self.embed(self.target, target)
        for layer in self.decoder:
            x = layer(x, future, memory, hidden)
        return self.head(self.ends[1](x))

    @torch.no_grad()
    def greedy(self, source: Tensor, begin: int, steps: int) -> Tensor:
        """Most probable next tokens, one after another: [K, B, steps]."""
        memory, hidden = self.encode(source)
        found = torch.full((*source.shape[:2], 1), begin, device=source.device)
        for _ in range(steps):
            step = self.decode(found, memory, hidden)[:, :, -1].argmax(-1, keepdim=True)
            found = torch.cat([found, step], 2)
        return found[:, :, 1:]


def sines(longest: int, width: int) -> Tensor:
    """Positions [longest, width]: sines and cosines of geometrically spaced frequencies."""
    angle = torch.arange(longest)[:, None] * torch.exp(-math.log(10000.0) * torch.arange(0, width, 2) / width)
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)


def initialise(net: Transformer, generators: list[torch.Generator], arms: int) -> None:
    """Glorot's uniform weights and normal embeddings, one draw a repetition, the same in all arms.

    Nets are ordered by arm, then by repetition.
    """
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, Maps):
                inputs, outputs = module.weight.shape[1:]
                bound = math.sqrt(6 / (inputs + outputs))
                drawn = [torch.rand(inputs, outputs, generator=one) * 2 * bound - bound for one in generators]
                module.weight.copy_(torch.stack(drawn).repeat(arms, 1, 1))
        for table in (net.source, net.target):
            drawn = [torch.randn(table.shape[1:], generator=one) * table.shape[2] ** -0.5 for one in generators]
            table.copy_(torch.stack(drawn).repeat(arms, 1, 1))
