"""What is measured of a compressed net besides its accuracy."""

from typing import TYPE_CHECKING, Any

import torch

from stages.lib import macs
from stages.lib.errors import StageError
from stages.lib.vit.net import VisionTransformer
from stages.papers.multi_dimensional_vit_compression import cost
from stages.papers.multi_dimensional_vit_compression.compressed import CompressedTransformer
from stages.papers.multi_dimensional_vit_compression.gated import dense_shape

if TYPE_CHECKING:
    from stages.papers.multi_dimensional_vit_compression.settings import Search


def values(made: CompressedTransformer, net: VisionTransformer, trials: list[dict], options: "Search") -> dict[str, float]:
    """MACs counted in a forward pass, parameters, FLOPs of the blocks as a share of the dense ones, and the search's cost.

    Raises StageError where counted MACs are not those of the closed form.
    """
    record = made.record()
    counted = macs.count(made, torch.zeros(1, *record["input"], device=made.norm.weight.device))
    if counted != macs.total(record).macs:
        raise StageError(f"MACs: counted {counted}, closed form {macs.total(record).macs}; report this as a bug")
    shape = dense_shape(net.record(), options.reduce)
    flops = cost.flops(shape, record["hidden"], record["heads"], record["sparsity"], options.tokens == "real")
    found: dict[str, Any] = {
        "macs": counted, "parameters": macs.parameters(made), "macs_share": counted / macs.total(net.record()).macs,
        "flops_share": int(flops[0]) / cost.dense_flops(shape), "evaluations": len(trials),
    }  # fmt: skip
    if trials:
        scores = [trial["score"] for trial in trials]
        found |= {"search_accuracy": max(scores), "first_accuracy": max(scores[: options.initial])}
    return found
