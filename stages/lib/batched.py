"""Many small nets trained at once in one process: equal modules become one, with their channels side by side.

The features of `count` nets are [N, count * C, H, W]: a convolution turns into a grouped one, batch normalisation into a
wider one, a linear map into a batched product. Every net keeps its own weights, statistics and gradients, so the nets end as
they would one after another but for rounding; what is saved is the time between small operations.

    nets = [construct(...) for _ in range(40)]                       # equal shapes, weights of their own
    together = stack(nets, shared=True)                              # one module; all read the same images
    training.train(together, split, ..., loss=cross_entropy)         # the same order of the data for all
    accuracies(together, held_out, count=40); unstack(together, 7)   # one net's share again

`stack` holds for modules whose forward pass treats channels alike (sums, pointwise functions, pooling over places); dropout
draws other masks than alone. Nets of different shapes are put together from stacked parts, with `Routes` to and from the nets
that have a part.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from stages.lib.data import Split
from stages.lib.errors import StageError

POINTWISE = (nn.ReLU, nn.Identity, nn.Dropout, nn.AvgPool2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d)


class Linear(nn.Module):
    """`count` linear maps: [N, count * inputs] to [N, count * outputs]."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Weights [count, outputs, inputs] and biases [count, outputs]."""
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = None if bias is None else nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        """Every net's map of its own inputs."""
        count, _, inputs = self.weight.shape
        each = x.view(len(x), count, inputs).transpose(0, 1) @ self.weight.transpose(1, 2)
        if self.bias is not None:
            each = each + self.bias[:, None]
        return each.transpose(0, 1).flatten(1)


def stack(modules: Sequence[nn.Module], shared: bool = False) -> nn.Module:
    """One module in place of several equal ones, which stay as they are.

    Args:
        modules: Of the same structure; convolutions, BN and linear maps, pointwise layers and containers of them.
        shared: Whether all take the same input [N, C, H, W] instead of [N, count * C, H, W]; only the first convolution of a
            module sees its input, so this is allowed where a module is one convolution or a sequence that begins with one.

    Raises:
        StageError: No module, different structures, or a layer with weights of another kind.
    """
    if not modules:
        raise StageError("stack: expected one net or more")
    first = modules[0]
    if any(type(item) is not type(first) for item in modules):
        raise StageError("stack: the nets differ in structure; stack their equal parts instead")
    if isinstance(first, nn.Conv2d):
        return _convolution(modules, shared)
    if isinstance(first, nn.BatchNorm2d):
        return _normalisation(modules)
    if isinstance(first, nn.Linear):
        return Linear(_joined([item.weight for item in modules], torch.stack), _joined_bias(modules, torch.stack))
    made = _shell(first)
    if isinstance(first, POINTWISE):
        return made
    for place, (name, _) in enumerate(first.named_children()):
        if any(name not in item._modules for item in modules):
            raise StageError(f"stack: {type(first).__name__}.{name} is not in all nets; stack their equal parts instead")
        made.add_module(name, stack([item.get_submodule(name) for item in modules], shared and place == 0))
    if any(True for _ in first.parameters(recurse=False)):
        raise StageError(f"stack: {type(first).__name__} holds weights of its own; expected convolutions, BN and linear maps")
    return made


def _shell(module: nn.Module) -> nn.Module:
    """A copy of a module without its children's weights."""
    made = copy.copy(module)
    made.__dict__ = {**module.__dict__, "_modules": dict(module._modules), "_parameters": {}, "_buffers": dict(module._buffers)}
    return made


def _joined(tensors: list[Tensor], how) -> Tensor:
    if any(item.shape != tensors[0].shape for item in tensors):
        raise StageError("stack: the nets differ in width; stack their equal parts instead")
    return how([item.detach() for item in tensors])


def _joined_bias(modules: Sequence[nn.Module], how) -> Tensor | None:
    return None if modules[0].bias is None else _joined([item.bias for item in modules], how)


def _convolution(modules: Sequence[nn.Conv2d], shared: bool) -> nn.Conv2d:
    first, count = modules[0], len(modules)
    if shared and first.groups > 1:
        raise StageError("stack: a grouped convolution cannot share its input")
    made = nn.utils.skip_init(
        nn.Conv2d, first.in_channels * (1 if shared else count), first.out_channels * count, first.kernel_size, first.stride,
        first.padding, first.dilation, first.groups * (1 if shared else count), first.bias is not None,
        device=first.weight.device,
    )  # fmt: skip
    made.weight = nn.Parameter(_joined([item.weight for item in modules], torch.cat))
    if first.bias is not None:
        made.bias = nn.Parameter(_joined_bias(modules, torch.cat))
    return made


def _normalisation(modules: Sequence[nn.BatchNorm2d]) -> nn.BatchNorm2d:
    first = modules[0]
    made = nn.BatchNorm2d(first.num_features * len(modules), first.eps, first.momentum, first.affine, first.track_running_stats)
    made.to(next(iter([*first.parameters(), *first.buffers()]), torch.empty(0)).device)
    with torch.no_grad():
        for name, value in made.state_dict().items():
            parts = [item.state_dict()[name] for item in modules]
            value.copy_(torch.cat(parts) if value.dim() else parts[0])
    return made.train(first.training)


def unstack(module: nn.Module, index: int, count: int) -> dict[str, Tensor]:
    """The state that net `index` of `count` would have alone, by the names of the module's own state."""
    state = {}
    for name, value in module.state_dict().items():
        if not value.dim():
            state[name] = value.clone()
        elif isinstance(module.get_submodule(name.rpartition(".")[0]), Linear):
            state[name] = value[index].clone()
        else:
            state[name] = value.chunk(count)[index].clone()
    return state


class Routes(nn.Module):
    """Which nets have a part: `pick` brings their features to it, `spread` sends its results back to them.

    The two are each other's gradients, and both are plain gathers: adding at an index, which the gradient of an indexing would
    be, takes longer than the convolutions in between.
    """

    def __init__(self, members: Sequence[int], places: int) -> None:
        """The place (0 .. places - 1) of every member, in order; a place may come more than once."""
        super().__init__()
        rows: list[list[int]] = []
        for number, place in enumerate(members):
            row = next((row for row in rows if row[place] == len(members)), None)
            if row is None:  # one more row for a place that comes once more
                row = [len(members)] * places
                rows.append(row)
            row[place] = number
        self.register_buffer("members", torch.tensor(members, dtype=torch.long), persistent=False)
        self.register_buffer("back", torch.tensor(rows, dtype=torch.long).view(-1, places), persistent=False)

    def pick(self, x: Tensor) -> Tensor:
        """[N, members * C, H, W] of x [N, places * C, H, W]."""
        return _Pick.apply(x, self.members, self.back)

    def spread(self, parts: Tensor) -> Tensor:
        """[N, places * C, H, W]: the sum of the parts [N, members * C, H, W] of each place, zero where there is none."""
        return _Spread.apply(parts, self.members, self.back)


def _gathered(x: Tensor, members: Tensor, back: Tensor) -> Tensor:
    return x.reshape(len(x), back.shape[1], -1, *x.shape[2:]).index_select(1, members).flatten(1, 2)


def _summed(parts: Tensor, members: Tensor, back: Tensor) -> Tensor:
    each = parts.reshape(len(parts), len(members), -1, *parts.shape[2:])
    padded = torch.cat([each, each.new_zeros(len(each), 1, *each.shape[2:])], 1)
    total = padded.index_select(1, back[0])
    for row in back[1:]:
        total += padded.index_select(1, row)
    return total.flatten(1, 2)


class _Pick(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, members: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(members, back)
        return _gathered(x, members, back)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _summed(gradient, *ctx.saved_tensors), None, None


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx, parts: Tensor, members: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(members, back)
        return _summed(parts, members, back)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _gathered(gradient, *ctx.saved_tensors), None, None


def cross_entropy(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Sum over the nets of their mean cross-entropies: each gets the gradient that it would get alone.

    The model gives logits [N, count * classes], whose classes must be as many as `model.classes` says.
    """
    logits = model(x).view(len(x), -1, model.classes)
    total = functional.cross_entropy(logits.flatten(0, 1), y.repeat_interleave(logits.shape[1]), reduction="sum")
    return total / len(x)


@torch.no_grad()
def accuracies(model: nn.Module, split: Split, count: int, device: torch.device | str = "cpu", batch: int = 500) -> list[float]:
    """Each net's share of rightly classified images, in eval mode; the model's mode is put back. StageError for NaN logits."""
    mode, right = model.training, torch.zeros(count, dtype=torch.int64)
    model.to(device).eval()
    for start in range(0, len(split), batch):
        logits = model(split.x[start : start + batch].to(device)).cpu()
        if bool(logits.isnan().any()):
            raise StageError(f"{split.name or 'split'}: a net answers NaN; its training has diverged, lower lr")
        truth = split.y[start : start + batch].cpu()
        right += (logits.view(len(logits), count, -1).argmax(2) == truth[:, None]).sum(0)
    model.train(mode)
    return [int(number) / len(split) for number in right]
