"""One batch over several processes: inside `shared_out(net)` every call of the net computes this process's rows only.

Each process calls net(x) with the whole batch and receives the answers for all of it, so a loss may do with them whatever it
does in one process: contrast, weigh, compare over the batch. Batch normalisation takes its statistics over all processes.
The gradient of the answers goes back into the own rows N-fold; parallel.average then gives the gradient of the whole batch,
for what went through the net (a sum over the processes) as for what did not (the same in each of them).

The first argument has the rows, as have further ones with a method `rows(slice)`. What a net remembers of a call besides its
answer is of the own rows; a net whose loss reads that has `coupled = True` and is computed whole by every process, as is a
batch with fewer rows than there are processes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from stages.lib import parallel
from stages.lib.errors import StageError

_shared: set[int] = set()  # nets whose calls are shared out now, by id


class Gather(torch.autograd.Function):
    """All rows from every process's own."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, count: int) -> Tensor:
        """part [own rows, ...] to [count, ...]."""
        ctx.count = count
        return parallel.gather(part, count)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """The own rows' gradient, once for each process that will average it."""
        return gradient[parallel.shares(ctx.count)[parallel.rank()]] * parallel.world(), None


class Total(torch.autograd.Function):
    """The sum of a tensor over the processes."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        """The same shape, the same in every process."""
        return _sum(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Every process's sum depends on this one's value."""
        return _sum(gradient)


def _sum(value: Tensor) -> Tensor:
    from torch import distributed

    total = value.detach().clone(memory_format=torch.contiguous_format)
    distributed.all_reduce(total)
    return total


def batch_norm(
    x: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Tensor | None, bias: Tensor | None,
    momentum: float, eps: float,
) -> Tensor:  # fmt: skip
    """Batch normalisation [B, C, ...] in training over the rows of all processes, statistics in single precision.

    torch's SyncBatchNorm does the same for GPUs only.
    """
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    places = [0, *range(2, x.dim())]
    shape = [1, -1] + [1] * (x.dim() - 2)
    count = Total.apply(wide.new_tensor([x.numel() / x.shape[1]]))
    mean = Total.apply(wide.sum(places)) / count
    centred = wide - mean.view(shape)
    variance = Total.apply(centred.square().sum(places)) / count
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean), momentum)
            running_var.lerp_((variance * (count / (count - 1))).to(running_var), momentum)
    made = centred * torch.rsqrt(variance + eps).view(shape)
    if weight is not None:
        made = made * weight.view(shape)
    if bias is not None:
        made = made + bias.view(shape)
    return made.to(x.dtype)


class _Together(TorchFunctionMode):
    """While it is entered, batch normalisation in training is that of all processes."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is functional.batch_norm and _argument(args, kwargs, 5, "training", False):
            names = ("input", "running_mean", "running_var", "weight", "bias")
            tensors = [_argument(args, kwargs, place, name, None) for place, name in enumerate(names)]
            return batch_norm(*tensors, _argument(args, kwargs, 6, "momentum", 0.1), _argument(args, kwargs, 7, "eps", 1e-5))
        if function is torch.batch_norm and args[5]:
            x, weight, bias, running_mean, running_var, _, momentum, eps = args[:8]
            return batch_norm(x, running_mean, running_var, weight, bias, momentum, eps)
        return function(*args, **kwargs)


def _argument(args: Any, kwargs: Any, place: int, name: str, default: Any) -> Any:
    return args[place] if len(args) > place else kwargs.get(name, default)


class _Call:
    """A call of a net that is going on: own rows went in, all rows come out. Calls inside it are left alone."""

    open: _Call | None = None

    def __init__(self, net: nn.Module, first: Tensor) -> None:
        self.name, self.count = type(net).__name__, len(first)
        self.own = parallel.shares(self.count)[parallel.rank()]
        self.together, self.stream = _Together(), _Stream(first.device)
        self.together.__enter__()
        _Call.open = self

    def end(self) -> None:
        """Whatever has become of it."""
        self.together.__exit__(None, None, None)
        _Call.open = None

    def gathered(self, answer: Any) -> Any:
        """Everyone's rows of tensors in tuples, lists and dicts. Raises StageError for anything else."""
        if isinstance(answer, Tensor) and answer.dim() and len(answer) == self.own.stop - self.own.start:
            return Gather.apply(answer, self.count)
        if isinstance(answer, dict):
            return {name: self.gathered(item) for name, item in answer.items()}
        if isinstance(answer, (tuple, list)):
            made = [self.gathered(item) for item in answer]
            return type(answer)(*made) if hasattr(answer, "_fields") else type(answer)(made)
        if answer is None:
            return None
        raise StageError(f"{self.name}: answers with more than rows of the batch; set its `coupled = True` for torchrun")


def _opened(net: nn.Module, args: tuple[Any, ...]) -> tuple[_Call | None, tuple[Any, ...]]:
    """The call and its arguments; none where the batch is not to be shared out."""
    whole = _Call.open is not None or getattr(net, "coupled", False) or not args or not isinstance(args[0], Tensor)
    if whole or not args[0].dim() or len(args[0]) < parallel.world():
        return None, args
    call = _Call(net, args[0])
    rows = (item.rows(call.own) if hasattr(item, "rows") else item for item in args[1:])
    return call, (args[0][call.own], *rows)


class _Hooks:
    """A net's forward hooks."""

    def __init__(self) -> None:
        self.calls: list[_Call | None] = []

    def before(self, net: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The own rows."""
        call, args = _opened(net, args)
        self.calls.append(call)
        return args

    def after(self, _net: nn.Module, _args: tuple[Any, ...], answer: Any) -> Any:
        """Everyone's answers; called, without an answer, also where the net has failed."""
        call = self.calls.pop()
        if call is None:
            return None
        call.end()
        if answer is None:
            return None
        call.stream.join()
        return call.gathered(answer)


def _method(net: nn.Module, name: str) -> Any:
    """A method of the net that is called in place of forward, shared out likewise."""
    plain = getattr(net, name)

    def method(*args: Any, **kwargs: Any) -> Any:
        call, own = _opened(net, args)
        if call is None:
            return plain(*own, **kwargs)
        try:
            answer = plain(*own, **kwargs)
        finally:
            call.end()
        call.stream.join()
        return call.gathered(answer)

    return method


class _Stream:
    """The device's random numbers while the processes compute different rows: each draws its own, then all go on alike.

    So a net without dropout computes as one process would; with dropout it is another draw of the same kind.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.generator = torch.cuda.default_generators[device.index or 0] if device.type == "cuda" else torch.default_generator
        self.before = self.generator.get_state()
        if parallel.rank():
            digest = hashlib.sha256(self.before.numpy().tobytes() + bytes([parallel.rank() % 256])).digest()
            self.generator.manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        self.own = self.generator.get_state()

    def join(self) -> None:
        """Go on from the first process's state; every process knows by itself whether numbers were drawn."""
        state = self.generator.get_state()
        if torch.equal(state, self.own):
            self.generator.set_state(self.before)
            return
        state = state.to(self.device)
        parallel.alike([state])
        self.generator.set_state(state.cpu())


@contextmanager
def shared_out(net: nn.Module) -> Iterator[None]:
    """Calls of the net, and of what it names in `called` (methods, parts), share out their rows while this is entered.

    Nothing changes where there is one process. Entered twice for one net it is as if once.
    """
    if parallel.world() == 1 or id(net) in _shared:
        yield
        return
    hooks, named = _Hooks(), getattr(net, "called", ())
    methods = [name for name in named if not isinstance(getattr(net, name), nn.Module)]
    handles = [net.register_forward_pre_hook(hooks.before), net.register_forward_hook(hooks.after, always_call=True)]
    _shared.add(id(net))
    for name in methods:
        object.__setattr__(net, name, _method(net, name))
    try:
        with ExitStack() as parts:
            for name in set(named) - set(methods):
                parts.enter_context(shared_out(getattr(net, name)))
            yield
    finally:
        _shared.discard(id(net))
        for handle in handles:
            handle.remove()
        for name in methods:
            object.__delattr__(net, name)
