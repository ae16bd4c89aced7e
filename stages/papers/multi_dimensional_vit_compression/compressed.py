"""The compressed transformer: blocks of own widths, some of which reduce the tokens. What is deployed."""

from typing import Any

import torch
from torch import Tensor, nn

from stages.lib.errors import StageError
from stages.lib.models import Net, register
from stages.lib.models.checks import integer, integers, keys, refuse
from stages.lib.vit import cost as parts
from stages.lib.vit.net import tiles
from stages.lib.vit.parts import EPS, Block, Stem, drop_rates, dropped
from stages.papers.multi_dimensional_vit_compression import cost
from stages.papers.multi_dimensional_vit_compression.cost import Shape
from stages.papers.multi_dimensional_vit_compression.tokens import TOKEN_SCORES, importance, reduce

KEYS = {"kind", "input", "classes", "patch", "embed", "head_dim", "heads", "hidden", "reduce", "sparsity", "token_score"}


def step(
    block: Block, x: Tensor, sparsity: float, prior: Tensor | None = None, head_gate: Tensor | None = None,
    neuron_gate: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """One block over tokens [B, N, e]; with a sparsity the MLP sees the reduced ones.

    Gates [heads] and [neurons] multiply the heads' outputs before the projection and the activations after GELU. `prior`
    [B, N, 1 + blocks] carries scores of the tokens' places, the first of which is used here; it comes back reduced.
    """
    heads, weights = block.attention.attend(block.norm1(x))
    heads = heads if head_gate is None else heads * head_gate.view(1, -1, 1, 1)
    x = x + dropped(block.attention.project(heads), block.drop_path, block.training)
    if sparsity:
        scores = importance(weights, head_gate)
        if prior is not None:
            scores, prior = scores * prior[..., 0], reduce(prior[..., 1:], scores * prior[..., 0], sparsity)
        x = reduce(x, scores, sparsity)
    active = nn.functional.gelu(block.mlp.fc1(block.norm2(x)))
    active = active if neuron_gate is None else active * neuron_gate
    return x + dropped(block.mlp.fc2(active), block.drop_path, block.training), prior


@register
class CompressedTransformer(Net):
    """Classifier of the class token. `drop_path` is a training setting and no part of the record.

    With token_score hsic_x_attention, attention is multiplied by the dependence of the label on each place, which the
    buffer `places` [reducing blocks, N] holds (a variant that is commented out in the official code).
    """

    kind = "compressed_vit"
    places: Tensor

    def __init__(self, record: dict, drop_path: float = 0.0) -> None:
        super().__init__(record)
        width, patches = record["embed"], tiles(record["input"], record["patch"])
        rates = drop_rates(drop_path, len(record["heads"]))
        self.stem = Stem(record["input"][0], record["patch"], patches, width)
        self.blocks = nn.ModuleList(
            Block(width, hidden, heads, rate, record["head_dim"])
            for hidden, heads, rate in zip(record["hidden"], record["heads"], rates, strict=True)
        )
        self.norm, self.classifier = nn.LayerNorm(width, EPS), nn.Linear(width, record["classes"])
        self.sparsities = [record["sparsity"] * (i in record["reduce"]) for i in range(1, len(self.blocks) + 1)]
        if record["token_score"] == "hsic_x_attention":
            self.register_buffer("places", torch.ones(len(record["reduce"]), patches + 1))
        else:
            self.places = None

    def segment(self, h: Tensor, start: int, stop: int | None = None) -> Tensor:
        """Tokens after `blocks[start:stop]` from the tokens [B, N, e] that enter block `start`."""
        prior = None if self.places is None else self.places.T.expand(len(h), -1, -1)
        for block, sparsity in list(zip(self.blocks, self.sparsities, strict=True))[start:stop]:
            h, prior = step(block, h, sparsity, prior)
        return h

    def head(self, h: Tensor) -> Tensor:
        """Logits [B, classes] from the last block's tokens [B, N, e]."""
        return self.classifier(self.norm(h)[:, 0])

    def sites(self) -> list:
        """Nothing more is pruned here."""
        return []

    @classmethod
    def check(cls, record: dict) -> None:
        """StageError unless the record describes such a net."""
        keys(record, KEYS, "a compressed vit")
        for name in ("classes", "patch", "embed", "head_dim"):
            integer(record[name], name)
        tiles(record["input"], record["patch"])
        depth = len(integers(record["heads"], "heads"))
        integers(record["hidden"], "hidden", (depth,))
        reducing = integers(record["reduce"], "reduce")
        if reducing != sorted(set(reducing)) or reducing[-1] > depth:
            raise refuse("reduce", f"different blocks from 1 to {depth}, in ascending order", reducing)
        if not isinstance(record["sparsity"], float) or not 0.0 <= record["sparsity"] < 1.0:
            raise refuse("sparsity", "a share in [0, 1)", record["sparsity"])
        if record["token_score"] not in TOKEN_SCORES:
            raise refuse("token_score", f"one of {', '.join(TOKEN_SCORES)}", record["token_score"])

    @classmethod
    def layers(cls, record: dict) -> list:
        """Every part with its MACs and parameters, from the record alone."""
        width, patches = record["embed"], tiles(record["input"], record["patch"])
        attention, mlp = (counts[0].tolist() for counts in cost.token_counts(shape_of(record), record["sparsity"], True))
        made = [parts.stem("stem", record["input"][0], record["patch"], patches, width)]
        for i, (hidden, heads) in enumerate(zip(record["hidden"], record["heads"], strict=True)):
            made += [
                parts.norm(f"blocks.{i}.norm1", width),
                parts.attention(f"blocks.{i}.attention", width, heads * record["head_dim"], attention[i]),
                parts.norm(f"blocks.{i}.norm2", width),
                parts.mlp(f"blocks.{i}.mlp", width, hidden, mlp[i]),
            ]
        return [*made, parts.norm("norm", width), parts.linear("classifier", width, record["classes"])]

    @classmethod
    def narrowed(cls, record: dict, widths: dict[str, int]) -> dict:
        """The record itself: there is no site to narrow."""
        if widths:
            raise StageError(f"{', '.join(widths)}: a compressed vit has no prunable site")
        return record


def shape_of(record: dict[str, Any]) -> Shape:
    """The widest block's shape of a record, for its token counts."""
    tokens, depth = tiles(record["input"], record["patch"]) + 1, len(record["heads"])
    return Shape(tokens, record["embed"], record["head_dim"], max(record["heads"]), max(record["hidden"]), depth,
                 tuple(record["reduce"]))  # fmt: skip
