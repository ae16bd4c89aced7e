"""Tasks in two processes: order, and what becomes of an error."""

import os
from functools import partial

import pytest

from stages.lib.errors import StageError
from stages.report.side_by_side import side_by_side


def fail():
    raise StageError("no figure")


def test_results_come_in_the_tasks_order():
    assert side_by_side([partial(pow, 2, power) for power in range(20)]) == [2**power for power in range(20)]


def test_tasks_leave_this_process_alone():
    seen: list[int] = []
    found = side_by_side([lambda: seen.append(1) or os.getpid(), lambda: seen.append(2) or os.getpid()])
    if len(os.sched_getaffinity(0)) > 1:
        assert os.getpid() not in found
        assert not seen


def test_an_error_is_the_callers():
    with pytest.raises(StageError, match="no figure"):
        side_by_side([partial(pow, 2, 2), fail])
