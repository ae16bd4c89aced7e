"""Independent tasks in two processes."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
PROCESSES = 2  # as many CPUs as dvc.yaml asks for (meta: threads) where this is used
_tasks: Sequence[Callable[[], object]] = ()


def side_by_side(tasks: Sequence[Callable[[], T]]) -> list[T]:
    """The tasks' results, in the tasks' order. Where a task raises, so does this.

    Tasks need not be picklable, results must be. Where there is one CPU, or no safe fork, all are done here.
    """
    count = min(PROCESSES, len(tasks), len(os.sched_getaffinity(0)) if sys.platform.startswith("linux") else 1)
    if count < 2:
        return [task() for task in tasks]
    with multiprocessing.get_context("fork").Pool(count, _take, (tasks,)) as pool:
        return pool.map(_run, range(len(tasks)), chunksize=1)


def _take(tasks: Sequence[Callable[[], object]]) -> None:
    global _tasks
    _tasks = tasks


def _run(index: int) -> object:
    return _tasks[index]()
