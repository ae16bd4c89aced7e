"""Data parallel runs: the same script in N processes, started by `torchrun --nproc-per-node N stages/...`.

Every process runs the whole script on the same seeds, so all hold the same weights and take the same decisions. A training
step shares out its batch (stages/lib/shares.py) and averages the gradients; the first process alone writes files. Without
torchrun there is one process and nothing here does anything.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import signal
import sys
from collections.abc import Iterable, Sequence
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

from stages.lib.errors import StageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

PATIENCE = timedelta(hours=6)  # a process may wait that long for another one that evaluates alone
PR_SET_PDEATHSIG = 1
_size = 1


def world() -> int:
    """Processes of this run."""
    return _size


def rank() -> int:
    """This process's number, 0 .. world() - 1; the first one writes."""
    return int(os.environ["RANK"]) if _size > 1 else 0


def start(device: torch.device) -> None:
    """Join the other processes if torchrun started this one: NCCL on GPUs, each with its own, Gloo on CPUs."""
    global _size
    wanted = int(os.environ.get("WORLD_SIZE", "1"))
    if wanted < 2 or _size > 1:
        return
    import torch
    from torch import distributed

    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    _end_with_launcher()
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    atexit.register(_leave)
    _size = wanted
    if rank():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  what is printed is printed once, to the end


def _end_with_launcher() -> None:
    """Have the kernel end this process with torchrun, whose death it would otherwise outlive, still writing (Linux)."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _leave() -> None:
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()


def barrier() -> None:
    """Wait for all processes."""
    if _size > 1:
        from torch import distributed

        distributed.barrier()


def shares(count: int) -> list[slice]:
    """Contiguous parts of `count` rows, one a process, as equal as they can be."""
    least, more = divmod(count, _size)
    edges = [least * number + min(number, more) for number in range(_size + 1)]
    return [slice(first, last) for first, last in pairwise(edges)]


def gather(part: Tensor, count: int) -> Tensor:
    """The `count` rows of which every process holds its share; no gradient flows (shares.Gather has one)."""
    if _size == 1:
        return part
    import torch
    from torch import distributed

    parts = shares(count)
    longest = parts[0].stop  # the first share is never the smaller one
    padded = part.new_zeros((longest, *part.shape[1:]))
    padded[: len(part)] = part
    received = [torch.empty_like(padded) for _ in parts]
    distributed.all_gather(received, padded)
    return torch.cat([rows[: share.stop - share.start] for rows, share in zip(received, parts, strict=True)])


def average(tensors: Iterable[nn.Parameter], flag: bool = False) -> bool:
    """Replace every gradient by its mean over the processes; returns whether any process raised the flag."""
    if _size == 1:
        return flag
    import torch

    gradients = [item.grad for item in tensors if item.grad is not None]
    raised = torch.tensor([float(flag)], device=gradients[0].device if gradients else None)
    mean([*gradients, raised])
    return bool(raised.item())


def mean(tensors: Sequence[Tensor]) -> None:
    """Replace every tensor by its mean over the processes, in place.

    One message for each kind of number, since small ones cost as much as large ones.
    """
    if _size == 1:
        return
    import torch
    from torch import distributed

    for kind in sorted({item.dtype for item in tensors}, key=str):
        same = [item for item in tensors if item.dtype == kind]
        flat = torch.cat([item.reshape(-1) for item in same])
        distributed.all_reduce(flat)
        flat /= _size
        for item, values in zip(same, flat.split([item.numel() for item in same]), strict=True):
            item.copy_(values.view_as(item))


def agreed(value: bool, device: torch.device | str, complaint: str) -> bool:
    """A finding that must be the same in all processes. Raises StageError with the complaint where it is not."""
    if _size > 1:
        import torch

        found = gather(torch.tensor([float(value)], device=device), _size)
        if bool((found != found[0]).any()):
            raise StageError(complaint)
    return value


def alike(tensors: Sequence[Tensor]) -> None:
    """Give all processes the first one's values, in place."""
    if _size > 1:
        from torch import distributed

        for item in tensors:
            distributed.broadcast(item.detach(), 0)
