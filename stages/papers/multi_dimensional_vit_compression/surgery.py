"""Real surgery: what the gates switched off is cut out of the weights, and the cut net must answer the same."""

import torch
from torch import Tensor

from stages.lib.errors import StageError
from stages.lib.vit.net import VisionTransformer
from stages.papers.multi_dimensional_vit_compression.compressed import CompressedTransformer
from stages.papers.multi_dimensional_vit_compression.gated import Gated
from stages.papers.multi_dimensional_vit_compression.ranking import Kept

AGREE = 1e-3  # logits of the gated and the cut net may differ by this much
MOST = 0.02  # share of images beyond it: where two tokens are equally important, rounding decides which of them stays


def cut(
    net: VisionTransformer, kept: Kept, sparsity: float, reduce: tuple[int, ...], drop_path: float = 0.0,
    places: Tensor | None = None,
) -> CompressedTransformer:  # fmt: skip
    """The compressed net with the kept weights of a dense one: rows of qkv and fc1, columns of proj and fc2.

    `places` [reducing blocks, N] are the scores of the token score hsic_x_attention.
    """
    dense, state = net.record(), net.state_dict()
    head_dim = dense["embed"] // dense["heads"]
    record = {
        "kind": CompressedTransformer.kind, "input": dense["input"], "classes": dense["classes"], "patch": dense["patch"],
        "embed": dense["embed"], "head_dim": head_dim, "heads": [len(heads) for heads in kept.heads],
        "hidden": [len(neurons) for neurons in kept.neurons], "reduce": list(reduce), "sparsity": float(sparsity),
        "token_score": "cls_attention" if places is None else "hsic_x_attention",
    }  # fmt: skip
    CompressedTransformer.check(record)
    state = {name: tensor.clone() for name, tensor in state.items()}
    for i, (heads, neurons) in enumerate(zip(kept.heads, kept.neurons, strict=True)):
        columns = (torch.tensor(heads).unsqueeze(1) * head_dim + torch.arange(head_dim)).flatten()
        rows = torch.cat([part * dense["embed"] + columns for part in range(3)])
        for name, index, dim in (
            ("attention.qkv.weight", rows, 0), ("attention.qkv.bias", rows, 0), ("attention.proj.weight", columns, 1),
            ("mlp.fc1.weight", torch.tensor(neurons), 0), ("mlp.fc1.bias", torch.tensor(neurons), 0),
            ("mlp.fc2.weight", torch.tensor(neurons), 1),
        ):  # fmt: skip
            whole = state[f"blocks.{i}.{name}"]
            state[f"blocks.{i}.{name}"] = whole.index_select(dim, index.to(whole.device))
    if places is not None:
        state["places"] = places
    with torch.random.fork_rng(devices=[]):
        made = CompressedTransformer(record, drop_path)
    made.load_state_dict(state)
    return made.to(net.classifier.weight.device).eval()


@torch.no_grad()
def difference(gated: Gated, made: CompressedTransformer, x: Tensor) -> float:
    """Largest difference of logits between the gated and the cut net; StageError if they are different nets."""
    gaps = (gated.eval()(x) - made(x)).abs().amax(1)
    if not float((gaps > AGREE).double().mean()) <= MOST:
        worst = float(gaps.max())
        raise StageError(f"gated and cut nets differ by up to {worst:.2g}; expected rounding only, report this as a bug")
    return float(gaps.max())
