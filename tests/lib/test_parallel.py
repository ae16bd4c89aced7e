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
CASES = "plain,method,adamw,coupled,dropout,mixed"
pytestmark = pytest.mark.slow


def launch(count: int, cases: str, folder: Path, *more: str) -> subprocess.CompletedProcess:
    """Run cases in one process, or in several by torchrun."""
    folder.mkdir(exist_ok=True)
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"] if count > 1 else []
    command = [sys.executable, *launcher, str(WORKER), cases, str(folder), *more]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def results(count: int, cases: str, folder: Path) -> dict[str, dict]:
    """What each case ends with."""
    done = launch(count, cases, folder)
    assert done.returncode == 0, done.stderr
    made = {case: json.loads((folder / f"{case}.json").read_text()) for case in cases.split(",")}
    assert all(one["alike"] for one in made.values())
    return made


def close(first: list, second: list, tolerance: float = TOLERANCE) -> bool:
    """Whether nested lists of numbers are equal within an absolute tolerance."""
    if isinstance(first, list):
        return len(first) == len(second) and all(close(a, b, tolerance) for a, b in zip(first, second, strict=True))
    return abs(first - second) <= tolerance


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """All cases in one process."""
    return results(1, CASES, tmp_path_factory.mktemp("alone"))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """All cases in two."""
    return results(2, CASES, tmp_path_factory.mktemp("pair"))


@pytest.mark.parametrize("case", ["plain", "method", "adamw", "coupled"])
def test_losses_weights_statistics_and_answers_are_those_of_one_process(case: str, alone: dict, pair: dict) -> None:
    one, two = alone[case], pair[case]
    assert close(one["history"], two["history"])
    assert close(one["weights"], two["weights"], 1e-4 if case == "adamw" else TOLERANCE)  # Adam divides by small roots
    assert close(one["logits"], two["logits"], 1e-4)


def test_three_processes_share_batches_that_three_does_not_divide(alone: dict, tmp_path: Path) -> None:
    found = results(3, "plain", tmp_path)["plain"]
    assert all(close(alone["plain"][name], found[name]) for name in ("history", "weights", "logits"))


def test_dropout_draws_other_masks_and_all_processes_stay_alike(alone: dict, pair: dict) -> None:
    assert not close(alone["dropout"]["history"], pair["dropout"]["history"])
    assert close(alone["dropout"]["history"], pair["dropout"]["history"], 0.1)


def test_mixed_precision_keeps_the_loss(alone: dict, pair: dict) -> None:
    for found in (alone["mixed"], pair["mixed"]):
        assert found["history"] != alone["plain"]["history"]
        assert close(alone["plain"]["history"], found["history"], 0.02)


def test_a_net_that_answers_with_more_than_rows_is_refused(tmp_path: Path) -> None:
    done = launch(2, "remembering", tmp_path)
    assert done.returncode
    assert "Remembering" in done.stderr and "coupled = True" in done.stderr


@pytest.mark.parametrize(("first", "then"), [(2, 1), (1, 2)])
def test_a_stop_that_reaches_one_process_stops_all_and_any_number_goes_on(first: int, then: int, alone: dict, tmp_path: Path):
    stopped = launch(first, "stop", tmp_path, "stop=7")
    assert stopped.returncode
    assert "after 7 of 20 steps" in stopped.stderr
    assert not (tmp_path / "stop.json").exists()
    done = launch(then, "stop", tmp_path)
    found = json.loads((tmp_path / "stop.json").read_text())
    assert done.stdout.count("resumed at epoch 2/4, step 2/5") == 1  # printed once, taken up by all
    assert close(alone["plain"]["history"], found["history"])
    assert close(alone["plain"]["weights"], found["weights"])
    assert [path.name for path in tmp_path.iterdir()] == ["stop.json"]  # no state, nothing half-written


def test_shares_cover_every_row_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parallel.shares(5) == [slice(0, 5)]
    monkeypatch.setattr(parallel, "_size", 3)
    assert parallel.shares(7) == [slice(0, 3), slice(3, 5), slice(5, 7)]
