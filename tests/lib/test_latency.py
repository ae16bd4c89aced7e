"""Latency: order of fast and slow, fair turns, and no side effect on the nets."""

import time

import pytest
import torch
from torch import nn

from stages.lib import latency


class Sleeper(nn.Module):
    """Takes a known time, and notes when it was called."""

    def __init__(self, seconds, calls):
        super().__init__()
        self.seconds, self.calls = seconds, calls

    def forward(self, x):
        self.calls.append(self.seconds)
        time.sleep(self.seconds)
        return x


def test_median_lies_between_the_quartiles_and_near_the_truth():
    found = latency.measure(Sleeper(0.004, []), torch.zeros(1), repeats=5, warmup=1)
    assert found.repeats == len(found.samples) == 5
    assert 0.004 <= found.first_quartile <= found.median <= found.third_quartile
    assert found.median < 0.5


def test_slower_net_is_seen_as_slower():
    nets = {"slow": Sleeper(0.02, []), "fast": Sleeper(0.004, [])}
    found = latency.compare(nets, torch.zeros(1), repeats=5, warmup=0)
    assert found["fast"].median < found["slow"].median
    assert latency.speedup(found["slow"], found["fast"]) > 1.5


def test_nets_take_turns_and_the_order_turns():
    calls = []
    nets = {name: Sleeper(seconds, calls) for name, seconds in {"a": 0.003, "b": 0.0031, "c": 0.0032}.items()}
    latency.compare(nets, torch.zeros(1), repeats=3, warmup=0)
    calls = calls[3 * latency.CALIBRATION :]
    rounds = [calls[3 * i : 3 * i + 3] for i in range(3)]
    assert [sorted(r) for r in rounds] == [[0.003, 0.0031, 0.0032]] * 3
    assert [r[0] for r in rounds] == [0.003, 0.0031, 0.0032]


def test_short_calls_are_grouped():
    calls = []
    latency.measure(Sleeper(0, calls), torch.zeros(1), repeats=2, warmup=0)
    assert len(calls) > 10


def test_modes_and_gradients_are_left_alone():
    net, still = nn.BatchNorm1d(3).train(), nn.BatchNorm1d(3).eval()
    latency.compare({"a": net, "b": still}, torch.randn(4, 3), repeats=1)
    assert net.training
    assert not still.training
    assert torch.equal(net.running_mean, torch.zeros(3))


@pytest.mark.parametrize(("nets", "repeats"), [({}, 3), ({"a": nn.Identity()}, 0)])
def test_nothing_to_measure_is_refused(nets, repeats):
    with pytest.raises(ValueError, match="at least one"):
        latency.compare(nets, torch.zeros(1), repeats)
