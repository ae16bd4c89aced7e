"""DKP: kernels as groups, and its relation to DCP."""

import pytest
import torch
from torch import nn

from stages.papers.dcp.kernels import KernelGroups, freeze_zero_kernels, kernel_mask, kernel_scores, live_channels
from stages.papers.dcp.problem import Objective, Solver
from stages.papers.dcp.selection import ChannelGroups, Limits, channel_scores, select
from tests.papers.test_dcp_selection import BOTH, make_problem


def test_merged_per_channel_the_scores_are_dcps():
    gradient = torch.randn(5, 7, 3, 3)
    assert torch.allclose(kernel_scores(gradient).sum(0), channel_scores(gradient, "release"))
    assert torch.allclose(kernel_scores(gradient).norm(dim=0), channel_scores(gradient, "paper"))


class Merged(KernelGroups):
    """Kernels of one input channel tied together."""

    def count(self, weight):
        return weight.shape[1]

    def scores(self, gradient):
        return kernel_scores(gradient).sum(0)

    def expand(self, chosen, weight):
        return super().expand(chosen.repeat(weight.shape[0]), weight)


@pytest.mark.parametrize("per_step", [1, 2])
def test_merged_per_channel_dkp_selects_as_dcp(per_step):
    ours, theirs = make_problem(BOTH, kernel=3), make_problem(BOTH, kernel=3)
    merged = select(ours, Merged(), Limits(4, per_step), Solver(0.01, batch=10))
    channels = select(theirs, ChannelGroups(), Limits(4, per_step), Solver(0.01, batch=10))
    assert merged.order == channels.order
    assert torch.equal(ours.layer.weight, theirs.layer.weight)


def test_with_one_output_a_kernel_is_a_channel():
    objective = Objective(1.0, 0.0)
    ours, theirs = (make_problem(objective, outputs=1, kernel=3) for _ in range(2))
    kernels = select(ours, KernelGroups(), Limits(4), Solver(0.01, batch=10))
    assert kernels.order == select(theirs, ChannelGroups(), Limits(4), Solver(0.01, batch=10)).order


@pytest.mark.parametrize(("keep", "per_step"), [(1, 1), (7, 3), (24, 5)])
def test_kernel_sparsity_is_exact(keep, per_step):
    problem = make_problem(BOTH, kernel=3)
    choice = select(problem, KernelGroups(), Limits(keep, per_step), Solver(0.01, batch=10))
    assert int(kernel_mask(problem.layer.weight).sum()) == keep == len(set(choice.order))
    for group in choice.order:  # groups are numbered j c + k
        assert problem.layer.weight[group // 6, group % 6].any()


def test_channels_without_a_kernel_can_go():
    weight = torch.zeros(3, 5, 3, 3)
    weight[0, 4, 1, 1] = weight[2, 1, 0, 0] = 1.0
    assert live_channels(weight).tolist() == [1, 4]
    assert live_channels(torch.zeros(3, 5, 3, 3)).tolist() == [0]  # a layer keeps one channel


def test_restoring_undoes_what_a_step_does_to_zero_kernels_only():
    layer = nn.Conv2d(4, 3, 3)
    layer.weight.data[1, 2] = 0
    layer.weight.data[0, 0, 1, 1] = 0  # a zero inside a live kernel is not a zero kernel
    restore = freeze_zero_kernels([layer])
    layer.weight.data += 1.0
    moved = layer.weight.detach().clone()
    restore()
    assert not layer.weight[1, 2].any()
    moved[1, 2] = 0
    assert torch.equal(layer.weight.detach(), moved)
