"""Play every fault and write the table of what happens: python -m tests.faults."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from tests.faults.faults import FAULTS
from tests.faults.play import play, prepare

REPORT = Path("reports/faults.md")
HEAD = """# Faults and what becomes of them

Each is played on a small pipeline of the project's own shape by `python -m tests.faults`; the tests play the same. Afterwards no
lock file records anything but what an undisturbed run records, and no committed stage runs again unless its result is gone.

| fault | what is seen of it | the next run |
| --- | --- | --- |
"""


def main() -> None:
    """Play all faults, each in a clone of its own.

    Raises:
        SystemExit: one of them cannot be played here.
    """
    if not all(fault.possible for fault in FAULTS.values()):
        sys.exit("error: the faults of a network folder need root and /dev/fuse")
    rows = []
    with tempfile.TemporaryDirectory() as name:
        toys = prepare(Path(name))
        for number, fault in enumerate(FAULTS.values()):
            clone = shutil.copytree(toys[fault.finished], Path(name, str(number), "repo"), symlinks=True)
            rows.append("| " + " | ".join((fault.what, *play(fault, clone, toys[True]))) + " |\n")
            print(rows[-1], end="", flush=True)
    REPORT.write_text(HEAD + "".join(rows))


if __name__ == "__main__":
    main()
