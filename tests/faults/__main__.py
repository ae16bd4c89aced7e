"""Play every fault, and kills at many moments, and write the tables of what happens: python -m tests.faults."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

from tests.faults.faults import FAULTS, KILLS, MOMENTS, killed
from tests.faults.play import Fault, Played, play, prepare

REPORT = Path("reports/faults.md")
HEAD = """# Faults and what becomes of them

Each is played on a small pipeline of the project's own shape by `python -m tests.faults`; the tests play the same. Afterwards no
lock file records anything but what an undisturbed run records, and no committed stage runs again unless its result is gone.

| fault | what is seen of it | the next run |
| --- | --- | --- |
"""
KILLED = """
## `kill -9` at many moments

Each moment is a random while after the phase began (`make test-exhaustive` plays the same). What stages were committed by then
says how the moments are spread over a run.

| while | moments | stages committed before | the next run |
| --- | --- | --- | --- |
"""


def row(*cells: object) -> str:
    """A line of a table, shown as it is made."""
    text = "| " + " | ".join(map(str, cells)) + " |\n"
    print(text, end="", flush=True)
    return text


class Player:
    """Plays faults, each in a clone of its own below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.toys = prepare(folder)
        self._numbers = count()

    def __call__(self, fault: Fault) -> Played:
        """Play one.

        Raises:
            AssertionError: it left something wrong.
        """
        clone = self.folder / str(next(self._numbers)) / "repo"
        shutil.copytree(self.toys[fault.finished], clone, symlinks=True)
        return play(fault, clone, self.toys[True])


def kills(player: Player) -> Iterator[str]:
    """A row for each phase; two clones are played at a time, as the pipeline uses the processors half of the time."""
    for moment in MOMENTS:
        with ThreadPoolExecutor(2) as pool:
            done = list(pool.map(player, [killed(moment, seed) for seed in KILLS]))
        spread = Counter(one.committed for one in done)
        yield row(
            moment,
            len(done),
            ", ".join(f"{number} ({spread[number]}x)" for number in sorted(spread)),
            ", ".join(f"{outcome} ({times} of {len(done)})" for outcome, times in Counter(one.outcome for one in done).items()),
        )


def main() -> None:
    """Play all faults.

    Raises:
        SystemExit: one of them cannot be played here.
    """
    if not all(fault.possible for fault in FAULTS.values()):
        sys.exit("error: the faults of a network folder need root and /dev/fuse")
    with tempfile.TemporaryDirectory() as name:
        player = Player(Path(name))
        # What takes minutes is written as it comes, so that a run that is cut short has not been in vain.
        with REPORT.open("w", buffering=1) as report:
            report.write(HEAD)
            report.writelines(row(fault.what, *player(fault)[:2]) for fault in FAULTS.values())
            report.write(KILLED)
            report.writelines(kills(player))


if __name__ == "__main__":
    main()
