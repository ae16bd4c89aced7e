"""Seeds, devices and the instruction set."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import torch

from stages.lib import runtime
from stages.lib.errors import StageError

ROOT = Path(__file__).parents[2]


def draws() -> tuple[float, float, float]:
    return random.random(), float(numpy.random.random()), float(torch.rand(()))


def test_prepare_seeds_every_generator_and_sets_the_threads():
    before = torch.get_deterministic_debug_mode()
    try:
        assert runtime.prepare(1, "cpu", 3) == torch.device("cpu")
        first = draws()
        assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == (1, True)
        runtime.prepare(1, "cpu", 3)
        assert draws() == first
        runtime.prepare(1, "cpu", 4)
        assert all(one != other for one, other in zip(draws(), first, strict=True))
    finally:
        torch.set_deterministic_debug_mode(before)


@pytest.mark.parametrize(("threads", "device", "seed"), [(0, "cpu", 0), (1, "gpu", 0), (1, "cpu", -1)])
def test_impossible_settings_are_refused(threads, device, seed):
    with pytest.raises(StageError):
        runtime.prepare(threads, device, seed)


def test_device_auto_follows_the_machine(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert runtime.choose_device("auto").type == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert runtime.choose_device("auto").type == "cpu"
    with pytest.raises(StageError):
        runtime.choose_device("cuda")


def test_derived_seeds_differ_by_purpose_and_stay_the_same():
    assert runtime.derive_seed(0, "aux", 1) == runtime.derive_seed(0, "aux", 1)
    seeds = [runtime.derive_seed(s, name) for s in range(20) for name in ("a", "b", "ab")]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert runtime.derive_seed(7, "train") == 7697847470621320832  # a change would change every result


HASH = """
from stages.lib import runtime
runtime.prepare(1, "cpu", 0)
import torch
net = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3), torch.nn.Flatten(), torch.nn.Linear(16 * 36, 10))
net(torch.randn(8, 3, 8, 8)).logsumexp(1).sum().backward()
print(torch.backends.cpu.get_cpu_capability(), [float(p.grad.double().sum()).hex() for p in net.parameters()])
"""


def answer(before: str = "", **variables: str) -> str:
    """What HASH prints, after some code, under these variables, those of this process removed."""
    clean = {name: value for name, value in os.environ.items() if name not in runtime.INSTRUCTION_SET}
    run = subprocess.run(
        [sys.executable, "-c", before + HASH], cwd=ROOT, env={**clean, **variables}, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.slow
def test_the_instruction_set_is_fixed_unless_the_user_sets_it():
    chosen = answer()
    if torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512"):
        assert chosen.startswith("AVX2 ")
    assert answer(**runtime.INSTRUCTION_SET) == chosen
    assert answer("import torch") == chosen  # a warm process has torch loaded already
    assert answer(ATEN_CPU_CAPABILITY="default").startswith("DEFAULT ")
