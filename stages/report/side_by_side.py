"""Independent tasks in two processes."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import TypeVar

from stages.lib.errors import StageError

T = TypeVar("T")
PROCESSES = 2  # as many CPUs as dvc.yaml asks for (meta: threads) where this is used


def side_by_side(tasks: Sequence[Callable[[], T]]) -> list[T]:
    """The tasks' results, in the tasks' order; every second task is done by a process of its own.

    Tasks need not be picklable, results must be. Where there is one CPU, or no safe fork, all are done here. Where a task
    raises, so does this. (Not a pool: one whose owner is killed waits for work for ever.) Raises StageError if the other
    process dies.
    """
    if len(tasks) < PROCESSES or not sys.platform.startswith("linux") or len(os.sched_getaffinity(0)) < PROCESSES:
        return [task() for task in tasks]
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    other = context.Process(target=_answer, args=(sender, tasks[1::2]))
    other.start()
    sender.close()
    try:
        here = [task() for task in tasks[::2]]
        there, error = receiver.recv()
    except EOFError:
        raise StageError("a process that worked beside this one was killed; run the stage again") from None
    except BaseException:
        other.terminate()
        raise
    finally:
        other.join()
    if error:
        raise error
    results = [*here, *there]
    results[::2], results[1::2] = here, there
    return results


def _answer(sender: Connection, tasks: Sequence[Callable[[], object]]) -> None:
    try:
        sender.send(([task() for task in tasks], None))
    except Exception as error:
        sender.send(([], error))
