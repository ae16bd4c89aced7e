"""Training with the auxiliary losses, in the paper's order (`two_steps`, Alg. S1) or the release's (`train_jointly`)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.lib import parallel, training
from stages.lib.data import Split
from stages.lib.errors import StageError
from stages.lib.optim import Sgd, schedule
from stages.lib.runtime import derive_seed
from stages.lib.shares import shared_out
from stages.papers.dcp.heads import Supervised
from stages.papers.dcp.pivots import stage_rates


def weighted_loss(weights: Sequence[float]) -> training.Loss:
    """sum_i gamma_i L_i over all P+1 losses, for `training.train`."""

    def loss(model: Supervised, x: Tensor, y: Tensor) -> Tensor:
        return sum(w * F.cross_entropy(logits, y) for w, logits in zip(weights, model(x), strict=True))

    return loss


@contextmanager
def release_scaling(model: Supervised, weights: Sequence[float]) -> Iterator[None]:
    """Scales gradients as the release does, while the context lasts.

    Stage i (blocks between pivots; the stem belongs to stage 0) gets sum_{j>=i} gamma_j grad L_j and a learning rate
    divided by sum_{j>=i} gamma_j; a classifier gets its own loss at the plain rate. Dividing a gradient is the
    same as dividing the rate, momentum included, but for weight decay, which keeps the full rate here.
    """
    hooks = []
    for parameters, factor in _factors(model, weights):
        hooks += [p.register_hook(lambda grad, f=factor: grad * f) for p in parameters]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _factors(model: Supervised, weights: Sequence[float]) -> Iterator[tuple[list[torch.nn.Parameter], float]]:
    """(parameters, factor on the gradient of the weighted sum) of every stage and auxiliary head."""
    starts = [0, *model.ends]
    for i, rate in enumerate(stage_rates(weights)):
        parts = [*list(model.net.blocks)[starts[i] : model.ends[i]], *([model.net.stem] if i == 0 else [])]
        yield [p for part in parts for p in part.parameters()], rate
    for head, weight in zip(model.heads, weights):
        yield list(head.parameters()), 1.0 / weight


def train_jointly(model: Supervised, split: Split, weights: Sequence[float], **settings) -> list[float]:
    """All P+1 losses at once (the release's "auxnet" stage); settings as for `training.train`."""
    with release_scaling(model, weights):
        return training.train(model, split, loss=weighted_loss(weights), **settings)


def two_steps(model: Supervised, p: int, x: Tensor, y: Tensor, optimiser: Sgd, restore: Callable[[], None]) -> float:
    """Alg. S1 for one mini-batch: a step on L_S^p, then one on L_f with its gradient at the updated weights.

    The final loss alone takes one step. `restore` puts pruned columns back to zero after each step. Returns L_f.
    """
    last = len(model.ends) - 1
    value = 0.0
    for index in [last] if p == last else [p, last]:
        # a new forward pass: a second backward through the first graph would use weights that have moved
        loss = F.cross_entropy(model.up_to(x, index), y)
        optimiser.zero_grad()
        loss.backward()
        parallel.average(optimiser.parameters)
        optimiser.step()
        restore()
        value = float(loss.detach())
    return value


def fine_tune_stage(
    model: Supervised, p: int, split: Split, restore: Callable[[], None],
    *, epochs: int, lr: float, batch: int, weight_decay: float, seed: int, label: str,
) -> None:  # fmt: skip
    """Alg. 1, line 3: the whole net and theta with L_S^p and L_f, before stage p is pruned. The rate falls by cosine."""
    optimiser = Sgd([q for q in model.parameters() if q.requires_grad], lr, 0.9, weight_decay)
    generator = torch.Generator().manual_seed(derive_seed(seed, "stagewise", p))
    steps = -(-len(split) // batch)
    rate = schedule("cosine", lr, epochs * steps)
    model.train()
    for epoch in range(epochs):
        order, total = torch.randperm(len(split), generator=generator).to(split.x.device), 0.0
        with shared_out(model):
            for step in range(steps):
                index = order[step * batch : (step + 1) * batch]
                optimiser.lr = rate(epoch * steps + step)
                total += two_steps(model, p, split.x[index], split.y[index], optimiser, restore)
        if not abs(total) < float("inf"):
            raise StageError(f"{label}: the loss is not finite; lower stagewise.lr")
        print(f"{label}: stage {p + 1} epoch {epoch + 1}/{epochs}  loss {total / steps:.4f}", flush=True)
    model.eval()


def weights_of(model: Supervised) -> list[float]:
    """gamma_i of a net's losses, from the depth of its pivots (spec 3.3)."""
    from stages.papers.dcp.pivots import gammas

    sites = model.net.sites()
    # a basic block has one prunable place and two convolutions, a bottleneck two and three, a plain layer one and one
    per_block = max(sum(s.block == b for s in sites) for b in {s.block for s in sites})
    plain = all(s.producer.split(".conv")[0] != s.consumer.split(".conv")[0] for s in sites)
    return gammas(model.ends, 1 if plain else per_block + 1)
