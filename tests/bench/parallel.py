"""Training in several processes and in mixed precision: how far losses are from those of one process in single precision."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.bench.table import Row
from tests.lib.test_parallel import results

CASES = {
    "plain": "losses that compare the images of a batch, batch normalisation",
    "adamw": "the same with AdamW and clipped gradients",
    "method": "a loss that calls a part of the net",
}


def rows() -> list[Row]:
    """The largest difference of an epoch's loss, 20 steps of uneven batches; the reference is the change over the training."""
    with tempfile.TemporaryDirectory() as folder:
        alone = results(1, ",".join([*CASES, "mixed"]), Path(folder, "1"))
        several = {count: results(count, ",".join(CASES), Path(folder, str(count))) for count in (2, 3)}
    made = [
        _row(f"{count} processes against one: {text}", several[count][case]["history"], alone[case]["history"], "<= 0.001")
        for count in several
        for case, text in CASES.items()
    ]
    return [*made, _row("bfloat16 against single precision", alone["mixed"]["history"], alone["plain"]["history"], "<= 0.1")]


def _row(name: str, losses: list[float], reference: list[float], goal: str) -> Row:
    apart = max(abs(a - b) for a, b in zip(losses, reference, strict=True))
    fallen = max(reference) - min(reference)
    return Row(f"{name}: loss apart, and by how much it falls", f"{apart:.1e}", f"{fallen:.2f}", apart / fallen, goal)
