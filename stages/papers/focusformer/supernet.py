"""The entangled supernet: every architecture's weights are slices of one set (weight entanglement, AutoFormer)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.lib.errors import StageError
from stages.lib.vit.parts import Stem, drop_rates, dropped
from stages.papers.focusformer.cost import Canvas, whole
from stages.papers.focusformer.relative import attend
from stages.papers.focusformer.settings import Supernet as Shape
from stages.papers.focusformer.space import Architecture
from stages.papers.focusformer.transformer import Block, VisionTransformer, initialise, record_of


class EntangledBlock(Block):
    """A block at its largest, of which the first e columns, heads and hidden units are used."""

    def __init__(self, shape: Shape, clip: int, drop_path: float) -> None:
        hidden = int(shape.embed * shape.ratio)
        super().__init__(shape.embed, hidden, shape.heads, shape.head_dim, clip, drop_path)
        self.prefix_bias = shape.bias_slicing == "prefix"

    def qkv_slice(self, heads: int, width: int) -> tuple[Tensor, Tensor]:
        """Weight [3 q, e] and bias [3 q] in the order q, k, v, where q = heads * head_dim.

        Rows 0, 3, 6, .. of the stored weight are those of q, 1, 4, .. of k and 2, 5, .. of v. The official code takes the
        plain prefix of the bias instead, whose entries change their part with the number of heads (`prefix`).
        """
        inner = heads * self.head_dim
        weight = self.qkv.weight.view(-1, 3, self.qkv.in_features)[:inner, :, :width].transpose(0, 1).reshape(3 * inner, width)
        if self.prefix_bias:
            return weight, self.qkv.bias[: 3 * inner]
        return weight, self.qkv.bias.view(-1, 3)[:inner].t().reshape(3 * inner)

    def slices(self, width: int, hidden: int, heads: int) -> dict[str, Tensor]:
        """Weights of the stand-alone block by their names there (views where the storage allows)."""
        inner, made = heads * self.head_dim, {}
        made["qkv.weight"], made["qkv.bias"] = self.qkv_slice(heads, width)
        for name, norm in (("norm1", self.norm1), ("norm2", self.norm2)):
            made[f"{name}.weight"], made[f"{name}.bias"] = norm.weight[:width], norm.bias[:width]
        for name, rows, columns in (("proj", width, inner), ("fc1", hidden, width), ("fc2", width, hidden)):
            linear = self.get_submodule(name)
            made[f"{name}.weight"], made[f"{name}.bias"] = linear.weight[:rows, :columns], linear.bias[:rows]
        return made

    def forward_sliced(self, x: Tensor, hidden: int, heads: int) -> Tensor:
        """Tokens [B, N, e] through the first `heads` heads and `hidden` hidden units."""
        batch, tokens, width = x.shape
        own = self.slices(width, hidden, heads)
        h = F.layer_norm(x, (width,), own["norm1.weight"], own["norm1.bias"], self.norm1.eps)
        qkv = F.linear(h, own["qkv.weight"], own["qkv.bias"]).view(batch, tokens, 3, heads, self.head_dim)
        attended = attend(*qkv.permute(2, 0, 3, 1, 4), self.keys(tokens), self.values(tokens))
        attended = F.linear(attended, own["proj.weight"], own["proj.bias"])
        x = x + dropped(attended, self.drop_path, self.training)
        h = F.layer_norm(x, (width,), own["norm2.weight"], own["norm2.bias"], self.norm2.eps)
        h = F.linear(F.gelu(F.linear(h, own["fc1.weight"], own["fc1.bias"])), own["fc2.weight"], own["fc2.bias"])
        return x + dropped(h, self.drop_path, self.training)


class Supernet(nn.Module):
    """Weights for all architectures of a space; `forward` takes the architecture to use."""

    def __init__(self, shape: Shape, canvas: Canvas) -> None:
        super().__init__()
        self.shape, self.canvas = shape, canvas
        self.stem = Stem(canvas.channels, canvas.patch, canvas.patches, shape.embed)
        rates = drop_rates(shape.drop_path, shape.depth)
        self.blocks = nn.ModuleList(EntangledBlock(shape, canvas.clip, rate) for rate in rates)
        self.norm, self.classifier = nn.LayerNorm(shape.embed), nn.Linear(shape.embed, canvas.classes)
        initialise(self, shape.deviation)

    def record(self) -> dict:
        """Shape of the supernet and of its images, as plain JSON values."""
        about = record_of(whole(self.shape), self.canvas)
        return {**about, "kind": "focusformer supernet", "bias_slicing": self.shape.bias_slicing}

    def forward(self, x: Tensor, found: Architecture) -> Tensor:
        """Logits [B, classes] of images [B, C, H, W] by the sub-network of an architecture; later blocks are skipped."""
        width = found.embed
        stem, weight = self.stem, self.stem.patches.weight[:width]
        tokens = F.conv2d(x, weight, stem.patches.bias[:width], stem.patches.stride).flatten(2).transpose(1, 2)
        h = torch.cat([stem.token[..., :width].expand(len(x), -1, -1), tokens], 1) + stem.positions[..., :width]
        for block, ratio, heads in zip(self.blocks, found.ratios, found.heads):
            h = block.forward_sliced(h, int(width * ratio), heads)
        h = F.layer_norm(h, (width,), self.norm.weight[:width], self.norm.bias[:width], self.norm.eps)
        return F.linear(h[:, 1:].mean(1), self.classifier.weight[:, :width], self.classifier.bias)

    @torch.no_grad()
    def extract(self, found: Architecture) -> VisionTransformer:
        """The stand-alone net of an architecture with the weights it inherits (copies), in eval mode on the CPU."""
        if found.depth > len(self.blocks) or found.embed > self.shape.embed or max(found.heads) > self.shape.heads:
            raise StageError(f"{found}: does not fit into the supernet; take an architecture of its space")
        width = found.embed
        made = {"stem.patches.weight": self.stem.patches.weight[:width], "stem.patches.bias": self.stem.patches.bias[:width],
                "stem.token": self.stem.token[..., :width], "stem.positions": self.stem.positions[..., :width],
                "norm.weight": self.norm.weight[:width], "norm.bias": self.norm.bias[:width],
                "classifier.weight": self.classifier.weight[:, :width], "classifier.bias": self.classifier.bias}  # fmt: skip
        for i, (ratio, heads) in enumerate(zip(found.ratios, found.heads, strict=True)):
            block = self.blocks[i]
            own = {**block.slices(width, int(width * ratio), heads)}
            own |= {f"keys.{name}": value for name, value in block.keys.named_parameters()}
            own |= {f"values.{name}": value for name, value in block.values.named_parameters()}
            made |= {f"blocks.{i}.{name}": value for name, value in own.items()}
        rates = drop_rates(self.shape.drop_path, self.shape.depth)
        with torch.random.fork_rng(devices=[]):
            net = VisionTransformer(record_of(found, self.canvas), rates)
        net.load_state_dict({name: value.detach().cpu().clone() for name, value in made.items()})
        return net.eval()
