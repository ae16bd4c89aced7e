"""SRS itself: values, derivatives, stability, the feasible set, signal statistics; the layer and its peers."""

import copy
import math
import pickle

import pytest
import torch
from torch.nn import functional as F

from stages.lib.errors import StageError
from stages.papers.srs import feasible, layer, peers, slopes
from stages.papers.srs.activation import composed, srs
from stages.papers.srs.layer import SRS
from stages.papers.srs.settings import Activation

torch.set_num_threads(1)
PAIRS = [(5.0, 3.0), (3.0, 2.0), (2.0, 3.0), (5.0, 5.0), (0.3, 0.8), (1.0, 2.7)]
OPTIONS = Activation("arxiv", 5.0, 3.0, "project")


def doubles(*values: float) -> list[torch.Tensor]:
    return [torch.tensor(value, dtype=torch.float64) for value in values]


def naive(x: torch.Tensor, alpha: torch.Tensor, beta: torch.Tensor) -> torch.Tensor:
    """The definition, literally."""
    return x / (x / alpha + torch.exp(-x / beta))


# --- the function ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("alpha", "beta"), PAIRS)
def test_values_bounds_and_monotonicity(alpha, beta):
    pair = doubles(alpha, beta)
    zero = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (at_zero,) = torch.autograd.grad(srs(zero, *pair), zero)
    assert float(srs(zero.detach(), *pair)) == 0.0 and float(at_zero) == pytest.approx(1.0, abs=1e-14)
    x = torch.linspace(-1e3, 1e3, 400001, dtype=torch.float64)
    y, least = srs(x, *pair), alpha * beta / (beta - math.e * alpha)
    assert (
        float(y.min()) >= least - 1e-12
        and float(y.max()) <= alpha
        and float(srs(torch.tensor(9.0 * beta, dtype=torch.float64), *pair)) < alpha
    )
    assert abs(float(x[y.argmin()]) + beta) <= 0.005
    assert float(srs(torch.tensor(-beta, dtype=torch.float64), *pair)) == pytest.approx(least, rel=1e-12)
    assert bool((y.sign() * x.sign() >= 0).all())
    step = y.diff()
    assert bool((step[(x[:-1] > -100 * beta) & (x[1:] < -beta)] <= 0).all())
    assert bool((step[(x[:-1] > -beta) & (x[1:] < 20 * beta)] > 0).all())


@pytest.mark.parametrize(("alpha", "beta"), PAIRS)
def test_the_stable_form_is_the_definition(alpha, beta):
    x, pair = torch.linspace(-30, 30, 2001, dtype=torch.float64), doubles(alpha, beta)
    torch.testing.assert_close(srs(x, *pair), naive(x, *pair), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(), (3,)])
def test_gradients_first_and_second(shape):
    torch.manual_seed(0)
    x = (3 * torch.randn(4, 3, dtype=torch.float64)).requires_grad_()
    alpha = (4 + torch.rand(shape, dtype=torch.float64)).requires_grad_()
    beta = (2 + torch.rand(shape, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(srs, (x, alpha, beta))
    assert torch.autograd.gradgradcheck(srs, (x, alpha, beta))


def test_gradients_have_the_closed_forms_and_signs():
    x = torch.linspace(-20, 20, 401, dtype=torch.float64).requires_grad_()
    alpha, beta = (one.expand(401).clone().requires_grad_() for one in doubles(5.0, 3.0))
    own = torch.autograd.grad(srs(x, alpha, beta).sum(), (x, alpha, beta))
    other = torch.autograd.grad(composed(x, alpha, beta).sum(), (x, alpha, beta))
    with torch.no_grad():
        d, f = x / 5 + torch.exp(-x / 3), srs(x, alpha, beta)
        closed = ((1 + x / 3) * torch.exp(-x / 3) / d**2, (f / 5) ** 2, -(x**2) * torch.exp(-x / 3) / (9 * d**2))
    for a, b, c in zip(own, other, closed, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(a, c, rtol=1e-12, atol=1e-14)
    assert bool((own[1] >= 0).all()) and bool((own[2] <= 0).all())


def test_second_derivative_at_zero_is_that_of_both_sides():
    def second(at: float) -> float:
        x = torch.tensor(at, dtype=torch.float64, requires_grad=True)
        (first,) = torch.autograd.grad(srs(x, *doubles(5.0, 3.0)), x, create_graph=True)
        return float(torch.autograd.grad(first, x)[0])

    assert second(0.0) == pytest.approx(second(1e-9), abs=1e-6) == pytest.approx(second(-1e-9), abs=1e-6)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float16])
def test_extreme_inputs_are_finite_where_the_definition_is_not(kind):
    x = torch.tensor([-1e4, -400.0, -1.0, 0.0, 1.0, 400.0, 1e4]).to(kind).requires_grad_()
    alpha, beta = (torch.tensor(value, requires_grad=True) for value in (5.0, 3.0))
    y = srs(x, alpha, beta)
    gradients = torch.autograd.grad(y.sum(), (x, alpha, beta))
    assert y.dtype == kind and gradients[0].dtype == kind and all(bool(one.isfinite().all()) for one in (y, *gradients))
    plain = torch.tensor([-400.0], requires_grad=True)
    assert bool(torch.autograd.grad(naive(plain, alpha, beta).sum(), plain)[0].isnan())


def test_nan_stays_nan_and_touches_nothing_else():
    y = SRS()(torch.tensor([1.0, math.nan]))
    assert bool(y[1].isnan()) and bool(y[0].isfinite())


# --- statistics -----------------------------------------------------------------------------------


def test_moments_by_quadrature_agree_with_samples():
    pair = doubles(5.0, 3.0)
    found, y = (
        slopes.moments(lambda z: srs(z, *pair)),
        srs(torch.randn(10**6, generator=torch.Generator().manual_seed(0)), *map(torch.Tensor.float, pair)),
    )
    assert found.mean == pytest.approx(float(y.mean()), abs=5e-3) and found.square == pytest.approx(
        float(y.square().mean()), abs=5e-3
    )


@pytest.mark.parametrize(("alpha", "beta"), [*PAIRS[:-1], (20.0, 0.5), (1.0, 0.95 * math.e)])
def test_slope_bounds(alpha, beta):
    exact = slopes.extrema(alpha, beta)
    x = torch.linspace(-10 * beta, 40 * beta, 200001, dtype=torch.float64).requires_grad_()
    (steep,) = torch.autograd.grad(srs(x, *doubles(alpha, beta)).sum(), x)
    assert float(steep.max()) == pytest.approx(exact.greatest, rel=1e-5) and float(steep.min()) == pytest.approx(
        exact.least, rel=1e-5
    )
    bound, most = float(slopes.lipschitz(torch.tensor(alpha), torch.tensor(beta))), max(exact.greatest, -exact.least)
    assert most <= bound <= 1.004 * most


def test_equal_parameters_have_slope_one_at_most():
    found = slopes.extrema(4.0, 4.0)
    assert found.greatest == pytest.approx(1.0, abs=1e-12) and found.greatest_at == pytest.approx(0.0, abs=1e-6)


# --- the feasible set and the layer ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("alpha", "beta"), [(1.0, 3.0), (1.0, math.e), (0.0, 1.0), (-1.0, 1.0), (1.0, 0.0), (math.nan, 1.0), (1.0, math.inf)]
)
def test_poles_and_values_that_are_not_positive_are_refused(alpha, beta):
    with pytest.raises(StageError):
        SRS(alpha=alpha, beta=beta)


def test_a_pole_is_where_the_rule_says():
    x = torch.linspace(-20, 20, 400001, dtype=torch.float64)
    for beta, crosses in ((0.999 * math.e, False), (1.001 * math.e, True)):
        assert bool(((x + torch.exp(-x / beta)) <= 0).any()) == crosses


@pytest.mark.parametrize("constraint", feasible.CONSTRAINTS)
def test_an_adverse_step_leaves_no_pole(constraint):
    own = SRS((4,), constraint=constraint)
    with torch.no_grad():
        own.alpha.sub_(100.0)
        own.beta.add_(torch.tensor([100.0, 0.0, -50.0, 1.0]))
    if constraint == "project":
        layer.project(torch.nn.Sequential(own))
    alpha, beta = own.pair()
    assert bool((beta < math.e * alpha).all()) and bool((alpha > 0).all()) and bool((beta > 0).all())
    assert bool(own(torch.linspace(-50, 50, 404).view(-1, 4)).isfinite().all())


def test_projection_leaves_feasible_values_alone():
    own = SRS()
    before = copy.deepcopy(own.state_dict())
    own.project_()
    assert all(torch.equal(before[name], value) for name, value in own.state_dict().items())


def test_layouts_round_trip_and_pickling():
    x = torch.randn(2, 3, 4, 5)
    per_channel = SRS((3,), 4.0, 2.0)
    with torch.no_grad():
        per_channel.alpha.copy_(torch.tensor([3.0, 4.0, 5.0]))
    by_hand = torch.stack([srs(x[:, c], per_channel.alpha[c], per_channel.beta[c]) for c in range(3)], 1)
    torch.testing.assert_close(per_channel(x), by_hand)
    again = SRS((3,))
    again.load_state_dict(per_channel.state_dict())
    assert torch.equal(again(x), per_channel(x)) and torch.equal(pickle.loads(pickle.dumps(per_channel))(x), per_channel(x))
    frozen = SRS(trainable=False)
    assert not list(frozen.parameters()) and torch.equal(frozen(x), SRS()(x))


def test_wrong_names_are_refused():
    for wrong in (
        lambda: feasible.preset("keras"),
        lambda: SRS(constraint="none"),
        lambda: peers.activation("rleu", 1, OPTIONS),
    ):
        with pytest.raises(StageError, match=r"expected one of|choose of"):
            wrong()


def test_activations_side_by_side_are_the_single_ones():
    arms, x = ["relu", "prelu", "srs", "srs_channels"], torch.randn(8, 5, 6)
    both = peers.SideBySide(arms, 2, OPTIONS, channels=5)
    with torch.no_grad():
        both.each[1].weight.copy_(torch.tensor([0.1, 0.5]))
        both.each[2].alpha.copy_(torch.tensor([4.0, 6.0]))
    y = both(x)
    torch.testing.assert_close(y[:2], F.relu(x[:2]))
    torch.testing.assert_close(y[3], F.prelu(x[3], torch.tensor([0.5])))
    torch.testing.assert_close(y[5], srs(x[5], torch.tensor(6.0), torch.tensor(3.0)))
    assert both.each[3].alpha.shape == (2, 5) and both.slots(2) == slice(4, 6)
