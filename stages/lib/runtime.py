"""What must hold in a process before it computes: instruction set, threads, device, generators.

Import this module before anything is computed (stage.py does). Bytes differ between instruction sets and
between thread counts, so both are fixed: AVX2 is the set that every x86 server of the last ten years has.
It is slower than AVX-512 (some 15 % on small nets, 60 % on wide convolutions); a user who prefers speed to
equal bytes sets the variables below before the start.
"""

from __future__ import annotations

import hashlib
import os
import platform
import random
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from stages.lib import parallel
from stages.lib.errors import StageError

if TYPE_CHECKING:
    import torch

INSTRUCTION_SET = {
    "ATEN_CPU_CAPABILITY": "avx2",  # torch's own kernels
    "ONEDNN_MAX_CPU_ISA": "AVX2",  # convolutions
    "MKL_CBWR": "AVX2",  # matrix products
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # the fixed workspace that deterministic cuBLAS asks for
}
DEVICES = ("auto", "cpu", "cuda")
MIXED = "+bfloat16"  # after a device's name
_mixed = False


def pin_instruction_set() -> None:
    """Set the variables of INSTRUCTION_SET where the user has not.

    The libraries read them at their first computation, so torch may be loaded already (a warm process), unused.
    """
    for name, value in INSTRUCTION_SET.items():
        if platform.machine() in ("x86_64", "AMD64") or name.startswith("CUBLAS"):
            os.environ.setdefault(name, value)


def prepare(threads: int, device: str, seed: int) -> torch.device:
    """Fix threads, precision, deterministic algorithms and every generator, and join the other processes of a parallel run;
    return the device to compute on.

    Raises StageError if the thread count or the device is impossible here.
    """
    global _mixed
    import torch

    if threads < 1:
        raise StageError(f"threads={threads}: expected 1 or more")
    chosen = choose_device(device.removesuffix(MIXED))
    _mixed = device.endswith(MIXED)
    parallel.start(chosen)
    torch.set_num_threads(threads)
    # The same switch as use_deterministic_algorithms(True), which also imports the compiler (1.8 s).
    torch.set_deterministic_debug_mode("error")
    # Filling every fresh tensor with NaN is for hunting bugs; it costs time and changes no result.
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    seed_everything(seed)
    _warn_of_other_instructions()
    return chosen


def _warn_of_other_instructions() -> None:
    """Say so if something was computed before the pin, or the machine lacks AVX2: bytes will differ."""
    import torch

    wanted, found = os.environ.get("ATEN_CPU_CAPABILITY", ""), torch.backends.cpu.get_cpu_capability()
    if wanted and wanted.upper() != found.upper():
        print(f"warning: computing with {found}, not {wanted}: results may differ in the last digits", file=sys.stderr)


def choose_device(device: str) -> torch.device:
    """`auto` is CUDA where there is one. Raises StageError for unknown or absent devices."""
    import torch

    if device not in DEVICES:
        raise StageError(f"device={device}: expected one of {', '.join(DEVICES)}, or one of them with {MIXED}")
    if device == "cuda" and not torch.cuda.is_available():
        raise StageError("device=cuda: torch sees no CUDA device here; use device=auto or device=cpu")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def precision(device: torch.device | str) -> AbstractContextManager[object]:
    """What a net and its loss are computed in while training: single precision, or mixed with bfloat16 if `prepare` was asked.

    bfloat16 has the range of single precision, so the loss needs no scaling. Weights, updates and evaluation stay single.
    """
    import torch

    return torch.autocast(torch.device(device).type, torch.bfloat16) if _mixed else nullcontext()


def mixed() -> bool:
    """Whether `prepare` was asked for mixed precision."""
    return _mixed


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and torch's (all devices) generators from one number >= 0."""
    import numpy
    import torch

    if seed < 0:
        raise StageError(f"seed={seed}: expected 0 or more")
    random.seed(seed)
    numpy.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def installed(package: str) -> Path | None:
    """Folder of an installed package, found on the module path without importing it; None if absent."""
    places = (Path(entry or ".") / package for entry in sys.path)
    return next((place for place in places if (place / "__init__.py").is_file()), None)


def derive_seed(seed: int, *names: object) -> int:
    """A seed for one purpose, e.g. derive_seed(seed, "aux", 2): streams that do not overlap.

    The first 8 bytes of SHA-256 over the names, so it is the same on every machine; 0 <= result < 2**63.
    """
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


pin_instruction_set()
