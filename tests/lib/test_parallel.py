"""Training in several processes: the same losses and weights as in one, whatever the loss does with the batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stages.lib import parallel

ROOT = Path(__file__).resolve().parents[2]
WORKER = Path(__file__).with_name("parallel_worker.py")
TOLERANCE = 2e-5  # single precision after 20 steps in another order of summation
pytestmark = pytest.mark.slow


def launch(count: int, case: str, folder: Path, *more: str) -> subprocess.CompletedProcess:
    """Run a case in one process, or in several by torchrun."""
    folder.mkdir(exist_ok=True)
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"] if count > 1 else []
    command = [sys.executable, *launcher, str(WORKER), case, str(folder), *more]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def result(count: int, case: str, folder: Path, *more: str) -> dict:
    """What a case ends with."""
    done = launch(count, case, folder, *more)
    assert done.returncode == 0, done.stderr
    made = json.loads((folder / "result.json").read_text())
    assert made["alike"]
    return made


def close(first: list, second: list, tolerance: float = TOLERANCE) -> bool:
    """Whether nested lists of numbers are equal within an absolute tolerance."""
    if isinstance(first, list):
        return len(first) == len(second) and all(close(a, b, tolerance) for a, b in zip(first, second, strict=True))
    return abs(first - second) <= tolerance


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """The plain case in one process."""
    return result(1, "plain", tmp_path_factory.mktemp("alone"))


@pytest.mark.parametrize("count", [2, 3])
def test_losses_weights_statistics_and_answers_are_those_of_one_process(count: int, alone: dict, tmp_path: Path) -> None:
    found = result(count, "plain", tmp_path)
    for name in ("history", "weights", "logits"):
        assert close(alone[name], found[name]), name


@pytest.mark.parametrize("case", ["method", "adamw", "coupled"])
def test_nets_called_by_a_method_trained_by_adamw_or_computed_whole(case: str, tmp_path: Path) -> None:
    one, two = result(1, case, tmp_path / "one"), result(2, case, tmp_path / "two")
    assert close(one["history"], two["history"])
    assert close(one["weights"], two["weights"], 1e-4 if case == "adamw" else TOLERANCE)  # Adam divides by small roots


def test_dropout_draws_other_masks_and_all_processes_stay_alike(alone: dict, tmp_path: Path) -> None:
    found = result(2, "dropout", tmp_path)
    assert not close(alone["history"], found["history"])
    assert close(alone["history"], found["history"], 0.1)


def test_a_net_that_answers_with_more_than_rows_is_refused(tmp_path: Path) -> None:
    done = launch(2, "remembering", tmp_path)
    assert done.returncode
    assert "Remembering" in done.stderr and "coupled = True" in done.stderr


@pytest.mark.parametrize(("first", "then"), [(2, 1), (1, 2)])
def test_a_stop_that_reaches_one_process_stops_all_and_any_number_goes_on(first: int, then: int, alone: dict, tmp_path: Path):
    stopped = launch(first, "stop", tmp_path, "stop=7")
    assert stopped.returncode
    assert "after 7 of 20 steps" in stopped.stderr
    assert not (tmp_path / "result.json").exists()
    found = result(then, "stop", tmp_path)
    assert close(alone["history"], found["history"])
    assert close(alone["weights"], found["weights"])
    assert not list(tmp_path.glob("*.state"))


def test_only_the_first_process_prints_and_writes(alone: dict, tmp_path: Path) -> None:
    done = launch(2, "plain", tmp_path)
    assert done.stdout.count("epoch 1/4") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


@pytest.mark.parametrize("count", [1, 2])
def test_mixed_precision_keeps_the_loss(count: int, alone: dict, tmp_path: Path) -> None:
    found = result(count, "plain", tmp_path, "device=cpu+bfloat16")
    assert found["history"] != alone["history"]
    assert close(alone["history"], found["history"], 0.02)


def test_shares_cover_every_row_once() -> None:
    assert parallel.shares(5) == [slice(0, 5)]
