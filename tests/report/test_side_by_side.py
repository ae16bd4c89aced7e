"""Tasks in two processes: order, and what becomes of errors and of a process that dies."""

import os
import signal
from functools import partial

import pytest

from stages.lib.errors import StageError
from stages.report.side_by_side import side_by_side

two_cpus = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one CPU: all is done in this process")


def fail():
    raise StageError("no figure")


@pytest.mark.parametrize("count", [0, 1, 2, 3, 20])
def test_results_come_in_the_tasks_order(count):
    assert side_by_side([partial(pow, 2, power) for power in range(count)]) == [2**power for power in range(count)]


@two_cpus
def test_every_second_task_has_a_process_of_its_own():
    assert [found == os.getpid() for found in side_by_side([os.getpid] * 3)] == [True, False, True]


@pytest.mark.parametrize("place", [0, 1])
def test_an_error_is_the_callers(place):
    tasks = [partial(pow, 2, 2), partial(pow, 2, 3)]
    tasks[place] = fail
    with pytest.raises(StageError, match="no figure"):
        side_by_side(tasks)


@two_cpus
def test_a_process_that_dies_is_told():
    with pytest.raises(StageError, match="killed"):
        side_by_side([partial(pow, 2, 2), lambda: os.kill(os.getpid(), signal.SIGKILL)])
