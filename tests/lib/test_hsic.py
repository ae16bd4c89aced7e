"""HSIC: what defines it, and what it tells of dependent and independent variables."""

import pytest
import torch

from stages.lib import hsic

WIDTHS = (1.0, 2.0, 4.0, 8.0, 16.0)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def kernels(n: int = 30) -> tuple[torch.Tensor, torch.Tensor]:
    return hsic.gaussian_kernel(normal(n, 4), WIDTHS), hsic.gaussian_kernel(normal(n, 3, seed=1), WIDTHS)


def test_the_definition_with_the_centring_matrix():
    k, ell = kernels()
    n = len(k)
    h = torch.eye(n, dtype=torch.float64) - 1.0 / n
    assert torch.allclose(hsic.centred(k), h @ k @ h, atol=1e-12)
    assert float(hsic.hsic(k, ell)) == pytest.approx(float(torch.trace(h @ k @ h @ ell)) / (n - 1) ** 2)


def test_centring():
    k, ell = kernels()
    once = hsic.centred(k)
    assert torch.allclose(once.sum(0), torch.zeros(len(k), dtype=torch.float64), atol=1e-10)
    assert torch.allclose(once.sum(1), torch.zeros(len(k), dtype=torch.float64), atol=1e-10)
    assert torch.allclose(hsic.centred(once), once, atol=1e-12)
    both = (hsic.centred(k) * hsic.centred(ell)).sum() / (len(k) - 1) ** 2
    assert float(both) == pytest.approx(float(hsic.hsic(k, ell)))


def test_not_negative_symmetric_and_zero_for_a_constant():
    k, ell = kernels()
    assert float(hsic.hsic(k, ell)) >= -1e-10
    assert float(hsic.hsic(k, ell)) == pytest.approx(float(hsic.hsic(ell, k)))
    constant = hsic.gaussian_kernel(torch.ones(len(k), 2, dtype=torch.float64), WIDTHS)
    assert float(hsic.hsic(k, constant)) == pytest.approx(0.0, abs=1e-14)
    assert float(hsic.hsic_linear(k, torch.ones(len(k), 3, dtype=torch.float64))) == 0.0


def test_a_joint_permutation_changes_nothing():
    x, y, order = normal(40, 3), normal(40, 2, seed=1), torch.randperm(40, generator=torch.Generator().manual_seed(2))
    before = hsic.hsic_linear(hsic.gaussian_kernel(x, WIDTHS), y)
    after = hsic.hsic_linear(hsic.gaussian_kernel(x[order], WIDTHS), y[order])
    assert float(before) == pytest.approx(float(after))


def test_dependent_variables_have_more():
    x = normal(200, 1)
    dependent, independent = x.sin() + 0.1 * normal(200, 1, seed=1), normal(200, 1, seed=2)
    k = hsic.gaussian_kernel(x, [1.0])
    values = [float(hsic.hsic(k, hsic.gaussian_kernel(y, [1.0]))) for y in (dependent, independent)]
    assert values[0] > 20 * values[1]


def test_the_linear_form_is_the_same_and_ignores_a_shift():
    x, y = normal(5, 20, 4), normal(20, 3, seed=1)
    k = hsic.gaussian_kernel(x, WIDTHS)
    direct = hsic.hsic(k, hsic.linear_kernel(y))
    assert direct.shape == (5,)
    assert torch.allclose(hsic.hsic_linear(k, y), direct)
    assert torch.allclose(hsic.hsic_linear(k, y + 7.0), direct)


def test_gaussian_mixture_of_standardised_features_does_not_saturate():
    for features in (16, 65, 197):
        x = hsic.standardised(5.0 + 0.01 * normal(128, features))
        assert torch.allclose(x.mean(0), torch.zeros(features, dtype=torch.float64), atol=1e-9)
        assert torch.allclose(x.std(0, correction=0), torch.ones(features, dtype=torch.float64), atol=1e-6)
        k = hsic.gaussian_kernel(x, WIDTHS)
        outside = (k.sum() - k.trace()) / (128 * 127)
        assert 0.05 < float(outside) < 0.95
        assert torch.allclose(k.diagonal(), torch.ones(128, dtype=torch.float64))


def test_a_constant_feature_is_zero_after_standardising():
    x = torch.cat([normal(10, 1), torch.full((10, 1), 3.0, dtype=torch.float64)], 1)
    assert not hsic.standardised(x)[:, 1].any()


def test_distances():
    x = normal(2, 6, 3)
    assert torch.allclose(hsic.squared_distances(x).sqrt(), torch.cdist(x, x), atol=1e-6)
