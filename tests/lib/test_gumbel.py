"""Gumbel samples: proportions, limits, exact one-hot values and gradients."""

import pytest
import torch
from scipy import stats

from stages.lib.gumbel import gumbel_noise, gumbel_softmax, straight_through


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 5.0])
def test_the_largest_entry_is_a_draw_from_softmax_at_every_temperature(temperature):
    logits = torch.tensor([0.0, 1.0, -0.5, 0.3])
    draws = gumbel_softmax(logits.expand(20000, 4), temperature, generator(3)).argmax(-1)
    counts = torch.bincount(draws, minlength=4).numpy()
    assert stats.chisquare(counts, 20000 * torch.softmax(logits.double(), 0).numpy()).pvalue > 0.001


def test_soft_samples_are_distributions_and_one_hot_in_the_limit():
    logits = torch.randn(50, 7, generator=generator(1))
    soft = gumbel_softmax(logits, 1.0, generator(2))
    assert torch.all(soft > 0) and torch.allclose(soft.sum(-1), torch.ones(50))
    cold = gumbel_softmax(logits, 1e-4, generator(2))
    assert torch.equal(cold.argmax(-1), soft.argmax(-1)) and cold.max(-1).values.min() > 0.999


def test_straight_through_is_exactly_one_hot_with_the_gradient_of_the_soft_sample():
    logits = torch.randn(20, 5, generator=generator(1), requires_grad=True)
    weight = torch.randn(20, 5, generator=generator(2))
    soft = gumbel_softmax(logits, 5.0, generator(3))
    hard = straight_through(soft)
    assert set(hard.detach().unique().tolist()) == {0.0, 1.0} and torch.all(hard.sum(-1) == 1)
    (hard * weight).sum().backward()
    expected = torch.autograd.grad((gumbel_softmax(logits, 5.0, generator(3)) * weight).sum(), logits)[0]
    torch.testing.assert_close(logits.grad, expected)


def test_noise_is_finite_and_repeats_with_its_generator():
    first, second = gumbel_noise((100000,), generator(5)), gumbel_noise((100000,), generator(5))
    assert torch.equal(first, second) and torch.isfinite(first).all()
    assert first.mean().item() == pytest.approx(0.5772, abs=0.02)
