"""Leverage scores, residuals, allocation and regrowth: the mathematics of CHEX without a net around it."""

import math
from itertools import pairwise

import pytest
import torch

from stages.papers.chex import allocation, leverage, regrowth
from stages.papers.chex.banks import bank, residual_shares
from stages.papers.chex.columns import ColumnParams

torch.set_num_threads(1)
CHANNELS = [8, 8, 16, 16, 32, 32]


def matrix(d: int = 40, c: int = 12, seed: int = 0) -> torch.Tensor:
    return torch.randn(d, c, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def scales(seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(c, generator=generator) for c in CHANNELS]


def cost(widths) -> int:
    return sum(w * 100 for w in widths) + 500


# --- leverage scores ------------------------------------------------------------------------------


def test_matrix_has_a_column_for_each_output_channel():
    weight = torch.randn(4, 3, 2, 2)
    w = leverage.columns(weight)
    assert w.shape == (12, 4)
    assert torch.equal(w[:, 1], weight[1].flatten().double())


@pytest.mark.parametrize("k", [1, 5, 12])
def test_scores_sum_to_k_and_lie_in_the_unit_interval(k):
    psi = leverage.leverage_scores(matrix(), k)
    assert float(psi.sum()) == pytest.approx(k)
    assert psi.min() >= -1e-12 and psi.max() <= 1 + 1e-12


def test_scores_do_not_see_rotations_of_the_rows_and_follow_the_columns():
    w, order = matrix(), torch.randperm(12, generator=torch.Generator().manual_seed(1))
    rotation = torch.linalg.qr(matrix(40, 40, 2))[0]
    psi = leverage.leverage_scores(w, 5)
    assert torch.allclose(leverage.leverage_scores(rotation @ w, 5), psi)
    assert torch.allclose(leverage.leverage_scores(w[:, order], 5), psi[order])


def test_masked_columns_have_no_score_and_are_kept_last():
    w = matrix()
    w[:, [2, 7]] = 0
    assert leverage.leverage_scores(w, 5)[[2, 7]].max() < 1e-20
    assert leverage.kept_columns(w, 10).tolist() == [0, 1, 3, 4, 5, 6, 8, 9, 10, 11]


def test_equal_scores_go_to_the_lower_index():
    assert leverage.kept_columns(torch.eye(6, dtype=torch.float64), 6).tolist() == [0, 1, 2, 3, 4, 5]
    w = torch.cat([matrix(20, 1)] * 5, dim=1)
    assert leverage.kept_columns(w, 1).tolist() == [0]


def test_l1_and_the_fallback_where_k_exceeds_the_rows():
    w = matrix(3, 6)
    largest = w.abs().sum(0).argsort(descending=True)
    assert leverage.kept_columns(w, 2, "l1").tolist() == largest[:2].sort().values.tolist()
    assert leverage.kept_columns(w, 5).tolist() == largest[:5].sort().values.tolist()


def test_residuals_of_kept_and_spanned_columns_are_zero():
    w = matrix()
    w[:, 9] = w[:, :3] @ torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    eps = leverage.residuals(w, torch.arange(5))
    assert eps[[0, 1, 2, 3, 4, 9]].max() < 1e-10
    wanted = torch.linalg.lstsq(w[:, :5], w).solution
    assert torch.allclose(eps, (w - w[:, :5] @ wanted).square().sum(0), atol=1e-10)


def test_dependent_kept_columns_span_no_more_than_they_do():
    w = matrix()
    w[:, 1] = w[:, 0]
    assert torch.allclose(leverage.residuals(w, torch.tensor([0, 1])), leverage.residuals(w, torch.tensor([0])), atol=1e-10)
    nothing = torch.zeros(40, 12, dtype=torch.float64)
    assert leverage.residual_share(nothing, torch.tensor([0])) == 0.0


def test_no_choice_beats_the_best_approximation_of_its_rank():
    w = matrix()
    tail = float(torch.linalg.svdvals(w)[5:].square().sum())
    for score in ("leverage", "l1"):
        assert float(leverage.residuals(w, leverage.kept_columns(w, 5, score)).sum()) >= tail - 1e-9


def test_scores_avoid_redundant_filters_that_norms_prefer():
    params = ColumnParams(inputs=72, channels=32, redundant=24, directions=4, loudness=1.5, noise=0.1, kept=16)
    assert bank(params, 3).shape == (72, 32)
    found = residual_shares(params, 3)
    assert found["bound"] <= found["chex"] < found["l1"]
    assert found == residual_shares(params, 3) != residual_shares(params, 4)


# --- allocation -----------------------------------------------------------------------------------


@pytest.mark.parametrize("sparsity", [0.1, 0.29, 0.5, 0.6])
def test_dropped_channels_are_one_more_than_the_share(sparsity):
    total = sum(CHANNELS)
    assert total - sum(allocation.widths(scales(), sparsity)) == int(round(sparsity * total, 9)) + 1
    assert allocation.place(0.29, 100) == 29


def test_widths_fall_with_sparsity_and_no_layer_is_emptied():
    found = [allocation.widths(scales(), share / 20) for share in range(21)]
    assert found[0] == CHANNELS
    assert all(a >= b for wide, thin in pairwise(found) for a, b in zip(wide, thin))
    small = [torch.full((8,), 1e-3), torch.ones(8)]
    assert allocation.widths(small, 0.6)[0] == 1


def test_pruned_channels_count_as_pruned_again():
    gammas = scales()
    gammas[4][:] = 0
    assert allocation.widths(gammas, 0.3)[4] == 1


def test_budget_is_met_to_a_channel_and_rests_where_it_cannot_be():
    gammas = scales()
    for target in (2000, 4321, 9000):
        found = allocation.widths(gammas, allocation.sparsity_at_cost(gammas, cost, target))
        assert abs(cost(found) - target) <= 100
    for gamma in gammas:
        gamma[2:] = 0
    assert allocation.widths(gammas, allocation.sparsity_at_cost(gammas, cost, 9000)) == [2] * 6


def test_uniform_widths_meet_the_budget_with_equal_shares():
    found = allocation.uniform_widths(CHANNELS, cost, 0.4 * cost(CHANNELS))
    assert abs(cost(found) / cost(CHANNELS) - 0.4) < 0.03
    assert max(abs(w / c - found[-1] / 32) for w, c in zip(found, CHANNELS)) <= 1 / 16
    assert allocation.uniform_widths(CHANNELS, cost, 1e9) == CHANNELS
    assert allocation.uniform_widths(CHANNELS, cost, 0) == [1] * 6


# --- regrowth -------------------------------------------------------------------------------------


def test_regrowing_factor_falls_by_cosine_to_exactly_zero():
    found = [regrowth.decayed(0.3, t, 12) for t in range(14)]
    assert found[0] == 0.3 and found[12] == found[13] == 0.0
    assert found[6] == pytest.approx(0.15)
    assert all(a > b for a, b in pairwise(found[:13]))


def test_probabilities_are_the_softmax_of_residuals():
    w, kept = matrix(), torch.tensor([0, 3, 4])
    free = torch.tensor([1, 2, 5, 6, 7, 8, 9, 10, 11])
    p = regrowth.probabilities(w, kept, free)
    eps = leverage.residuals(w, kept)[free]
    assert float(p.sum()) == pytest.approx(1.0)
    assert torch.allclose(p.log() - p.log()[0], eps - eps[0])
    assert torch.allclose(regrowth.probabilities(w, kept, free, "uniform"), torch.full((9,), 1 / 9, dtype=torch.float64))


def test_the_unkept_duplicate_is_the_least_likely():
    w = matrix(40, 8)
    w[:, 5] = w[:, 2]
    kept = leverage.kept_columns(w, 7)
    assert len({2, 5} & set(kept.tolist())) >= 1
    kept = torch.tensor([0, 2, 3])
    free = torch.tensor([1, 4, 5, 6, 7])
    assert free[regrowth.probabilities(w, kept, free).argmin()] == 5


def test_entropy_is_relative_to_no_preference():
    assert regrowth.entropy(torch.full((8,), 1 / 8)) == pytest.approx(1.0)
    assert regrowth.entropy(torch.tensor([1.0, 0.0, 0.0])) == pytest.approx(0.0)
    assert regrowth.entropy(torch.tensor([1.0])) == 1.0
    assert math.isfinite(regrowth.entropy(torch.tensor([])))


def test_draws_are_without_replacement_and_seeded():
    free, p = torch.tensor([3, 5, 8, 9]), torch.tensor([0.1, 0.0, 0.2, 0.7], dtype=torch.float64)

    def draw(count, seed=0):
        return regrowth.drawn(p, free, count, torch.Generator().manual_seed(seed)).tolist()

    assert draw(0) == [] and draw(4) == draw(9) == [3, 5, 8, 9]
    assert draw(3) == draw(3) == [3, 8, 9]
    counts = torch.tensor([draw(1, seed)[0] for seed in range(400)]).bincount(minlength=10)
    assert counts[9] > counts[8] > counts[3] > counts[5] == 0
