"""Greedy selection in one layer: the mathematics of sections 2, 3.4 and 3.5, without a net around it."""

from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stages.papers.dcp.losses import joint, reconstruction
from stages.papers.dcp.problem import LayerProblem, Objective, Solver
from stages.papers.dcp.selection import ChannelGroups, Limits, best, channel_scores, converged, select

REBUILD, BOTH, CLASSIFY = Objective(1.0, 0.0), Objective(1.0, 1.0), Objective(0.0, 1.0)
torch.set_num_threads(1)  # tiny tensors: more threads only wait for each other


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def make_problem(objective=REBUILD, channels=6, outputs=4, kernel=1, images=40, order=None, live=None, cls=LayerProblem):
    """A convolution with correlated inputs, the target of its own weight, and a fixed non-linear classifier behind it."""
    generator = torch.Generator().manual_seed(7)
    mix = torch.randn(channels, channels, generator=generator)
    features = torch.einsum("nchw,cd->ndhw", torch.randn(images, channels, 5, 5, generator=generator), mix)
    weight = torch.randn(outputs, channels, kernel, kernel, generator=generator)
    theta = torch.randn(3, outputs, generator=generator)
    if live is not None:
        features = features * live[None, :, None, None]
    if order is not None:
        features, weight = features[:, order], weight[:, order]
    layer = nn.Conv2d(channels, outputs, kernel, padding=kernel // 2, bias=False)
    layer.weight.data.copy_(weight)

    def run(part):
        output = layer(part)
        return output, F.relu(output + 0.5).mean((2, 3)) @ theta.T  # at 0 and without an offset ReLU has no gradient

    with torch.no_grad():
        targets = layer(features)
    labels = torch.randint(0, 3, (images,), generator=generator)
    return cls(layer, run, features, targets, labels, objective, gradient_batch=15)


@dataclass
class ExactProblem(LayerProblem):
    """Solves the inner problem of a 1x1 reconstruction exactly, by least squares."""

    def solve(self, mask, solver):
        chosen = mask.flatten()
        x = self.features[:, chosen].transpose(0, 1).flatten(1).T.double()
        y = self.targets.transpose(0, 1).flatten(1).T.double()
        solved = torch.zeros_like(self.start)
        solved[:, chosen, 0, 0] = torch.linalg.lstsq(x, y).solution.T.float()
        self.set_weight(solved)


# --- losses ---------------------------------------------------------------------------------------


def test_the_two_forms_of_reconstruction():
    output, target = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    q = output.numel()
    assert reconstruction(output, target, "paper") == pytest.approx(float((output - target).square().sum() / (2 * q)))
    assert reconstruction(output, target, "release") == pytest.approx(float(2 * reconstruction(output, target, "paper")))


def test_joint_loss_is_the_weighted_sum():
    output, target, logits, labels = torch.randn(4, 2, 3, 3), torch.randn(4, 2, 3, 3), torch.randn(4, 5), torch.arange(4)
    value = joint(output, target, logits, labels, rebuild=0.5, classify=2.0, form="release")
    assert value == pytest.approx(float(0.5 * F.mse_loss(output, target) + 2.0 * F.cross_entropy(logits, labels)))
    with pytest.raises(ValueError, match="needs logits"):
        joint(output, target, None, labels, rebuild=1.0, classify=1.0, form="release")


def test_gradient_at_zero_is_minus_the_correlation_of_input_and_target():
    problem = make_problem()
    problem.set_weight(torch.zeros_like(problem.start))
    loss, gradient = problem.gradient()
    n, _, h, w = problem.targets.shape
    correlation = torch.einsum("njhw,nkhw->jk", problem.targets, problem.features) / problem.targets.numel()
    assert torch.allclose(gradient[:, :, 0, 0], -2 * correlation, rtol=1e-4, atol=1e-5)
    assert loss == pytest.approx(float(problem.targets.square().mean()), rel=1e-5)
    paper = make_problem(Objective(1.0, 0.0, "paper"))
    paper.set_weight(torch.zeros_like(paper.start))
    assert torch.allclose(paper.gradient()[1], gradient / 2, rtol=1e-4, atol=1e-6)


def test_gradient_of_the_joint_loss_is_the_sum_and_batches_do_not_matter():
    parts = []
    for objective in (REBUILD, CLASSIFY, BOTH):
        problem = make_problem(objective, kernel=3)
        problem.set_weight(0.1 * problem.start)
        parts.append(problem.gradient()[1])
        problem.gradient_batch = 1000
        assert torch.allclose(problem.gradient()[1], parts[-1], atol=1e-5)
    assert torch.allclose(parts[0] + parts[1], parts[2], atol=1e-5)
    assert parts[1].norm() > 1e-3


def test_reconstruction_is_convex_and_quadratic():
    problem = make_problem(kernel=3)
    for _ in range(5):
        start, way = torch.randn_like(problem.start), torch.randn_like(problem.start)
        values = []
        for step in range(4):
            problem.set_weight(start + step * way)
            values.append(problem.loss())
        bend = [values[i] - 2 * values[i + 1] + values[i + 2] for i in range(2)]
        assert bend[0] > 0
        assert bend[1] == pytest.approx(bend[0], rel=1e-3)  # a quadratic bends alike everywhere


# --- scores ---------------------------------------------------------------------------------------


def test_the_two_scores():
    gradient = torch.randn(5, 3, 2, 2)
    kernels = torch.tensor([[float(gradient[j, k].norm()) for k in range(3)] for j in range(5)])
    assert torch.allclose(channel_scores(gradient, "release"), kernels.sum(0))
    whole = torch.stack([gradient[:, k].norm() for k in range(3)])
    assert torch.allclose(channel_scores(gradient, "paper"), whole)


def test_ties_go_to_the_lowest_index_and_taken_groups_never_return():
    scores = torch.tensor([1.0, 3.0, 3.0, 0.0])
    none = torch.zeros(4, dtype=torch.bool)
    assert best(scores, none, 3) == [1, 2, 0]
    assert best(scores, torch.tensor([False, True, False, False]), 3) == [2, 0, 3]
    assert best(torch.zeros(4), torch.tensor([True, False, False, False]), 2) == [1, 2]


@pytest.mark.parametrize("objective", [REBUILD, BOTH, CLASSIFY])
def test_selection_is_equivariant_to_a_permutation_of_channels(objective):
    order = torch.tensor([3, 5, 0, 1, 4, 2])
    plain = select(make_problem(objective), ChannelGroups(), Limits(4), Solver(0.001, batch=20))
    moved = select(make_problem(objective, order=order), ChannelGroups(), Limits(4), Solver(0.001, batch=20))
    assert [int(order[k]) for k in moved.order] == plain.order


def test_channels_without_gradient_come_last():
    live = torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0, 1.0])
    choice = select(make_problem(BOTH, live=live), ChannelGroups(), Limits(6), Solver(0.001))
    assert set(choice.order[:4]) == {1, 2, 4, 5}
    assert choice.order[4:] == [0, 3]


# --- the greedy loop ------------------------------------------------------------------------------


class Watched(LayerProblem):
    """Notes the weight before and after each inner solve."""

    def solve(self, mask, solver):
        before = self.layer.weight.detach().clone()
        super().solve(mask, solver)
        self.__dict__.setdefault("notes", []).append((mask.clone(), before, self.layer.weight.detach().clone()))


@pytest.mark.parametrize("per_step", [1, 2, 4])
def test_warm_start_exact_zeros_and_no_duplicates(per_step):
    problem = make_problem(BOTH, kernel=3, cls=Watched)
    choice = select(problem, ChannelGroups(), Limits(5, per_step), Solver(0.01, batch=10, passes=2))
    assert len(choice.order) == len(set(choice.order)) == 5 == int(choice.chosen.sum())
    known = torch.zeros(6, dtype=torch.bool)
    for mask, before, after in problem.notes:
        new = mask.flatten() & ~known
        assert 1 <= int(new.sum()) <= per_step
        assert torch.equal(before[:, new], problem.start[:, new])  # columns start at W0
        assert not after[:, ~mask.flatten()].any()  # exactly zero, momentum and decay notwithstanding
        assert not torch.equal(after[:, new], before[:, new])
        known = mask.flatten()
    assert torch.equal(problem.layer.weight.detach(), problem.notes[-1][2])


def test_masked_solver_is_torch_sgd_when_nothing_is_masked():
    ours, theirs = make_problem(BOTH, kernel=3), make_problem(BOTH, kernel=3)
    ours.solve(torch.ones(1, 6, 1, 1, dtype=torch.bool), Solver(0.02, 0.9, 0.01, batch=7, passes=2))
    optimiser = torch.optim.SGD([theirs.layer.weight], 0.02, 0.9, weight_decay=0.01, nesterov=True)
    for _ in range(2):
        for first in range(0, 40, 7):
            optimiser.zero_grad()
            theirs._loss(slice(first, min(first + 7, 40))).backward()
            optimiser.step()
    assert torch.allclose(ours.layer.weight, theirs.layer.weight, atol=1e-6)
    assert not torch.allclose(ours.layer.weight, ours.start, atol=1e-3)


def test_solver_also_moves_a_bias():
    problem = make_problem()
    problem.layer.bias = nn.Parameter(torch.ones(4))
    problem.solve(torch.ones(1, 6, 1, 1, dtype=torch.bool), Solver(0.05, batch=10))
    assert float(problem.layer.bias.detach().abs().max()) < 1.0  # the targets have none


def test_greedy_with_an_exact_solver_never_increases_the_loss():
    choice = select(make_problem(cls=ExactProblem), ChannelGroups(), Limits(6), Solver(0.0))
    assert len(choice.losses) == 7
    assert all(b <= a + 1e-9 for a, b in zip(choice.losses, choice.losses[1:]))
    assert choice.losses[-1] < 1e-9 * choice.losses[0]  # all channels rebuild the target


def test_gradient_is_taken_at_the_partial_weight():
    """Two equal channels: once one is in and re-fitted, the gradient of the other is gone; a static score would take both."""
    problem = make_problem(cls=ExactProblem, channels=3)
    problem.features = torch.stack([3 * torch.ones(40, 5, 5), 3 * torch.ones(40, 5, 5), torch.randn(40, 5, 5)], dim=1)
    problem.start = torch.ones(4, 3, 1, 1)
    problem.targets = F.conv2d(problem.features, problem.start)
    first = problem.features.new_zeros(3, dtype=torch.bool)
    problem.set_weight(torch.zeros_like(problem.start))
    static = best(ChannelGroups().scores(problem.gradient()[1]), first, 2)
    assert static == [0, 1]
    assert select(problem, ChannelGroups(), Limits(2), Solver(0.0)).order == [0, 2]


def test_nothing_pruned_and_no_step_leaves_the_weight_as_it_was():
    problem = make_problem(BOTH, kernel=3)
    choice = select(problem, ChannelGroups(), Limits(6, 2), Solver(0.0))
    assert torch.equal(problem.layer.weight.detach(), problem.start)
    assert choice.losses[0] > choice.losses[-1]


def test_a_given_order_is_followed_with_the_same_re_fit():
    order = torch.tensor([4, 0, 5, 1, 2, 3])
    problem = make_problem(BOTH, kernel=3)
    choice = select(problem, ChannelGroups(), Limits(3, 2), Solver(0.01), order)
    assert choice.order == [4, 0, 5]
    assert not torch.allclose(problem.layer.weight[:, 4], problem.start[:, 4])
    assert not problem.layer.weight[:, [1, 2, 3]].any()


# --- adaptive stop --------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", [REBUILD, BOTH])
def test_smaller_epsilon_never_keeps_fewer(objective):
    counts = [
        len(select(make_problem(objective, channels=8), ChannelGroups(), Limits(8, 1, eps), Solver(0.001)).order)
        for eps in (1e9, 0.3, 0.1, 0.03, 0.01, 0.0)
    ]
    assert counts == sorted(counts)
    assert counts[0] == 1  # one channel stays whatever the threshold
    assert counts[-1] == 8
    assert len(set(counts)) > 2


def test_equation_ten():
    assert not converged([10.0], 1e9)
    assert converged([10.0, 9.5], 0.05)
    assert not converged([10.0, 9.4], 0.05)
    assert converged([10.0, 2.0, 2.4], 0.05)  # an increase counts by its size
