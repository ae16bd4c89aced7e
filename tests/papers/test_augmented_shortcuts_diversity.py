"""Diversity of tokens: what the measures do not see, and every inequality of the theory."""

import math

import pytest
import torch
from torch.nn import functional as F

from stages.lib.vit.parts import Attention
from stages.papers.augmented_shortcuts import diversity
from stages.papers.augmented_shortcuts.shortcuts import Paths

torch.set_num_threads(1)
TOKENS, WIDTH, HEADS, BATCH = 9, 12, 3, 6


@pytest.fixture
def z() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(BATCH, TOKENS, WIDTH, dtype=torch.float64) + 0.5


def stochastic(*shape: int, sharp: float = 2.0) -> torch.Tensor:
    """Random row-stochastic matrices."""
    return torch.softmax(sharp * torch.randn(*shape, dtype=torch.float64), -1)


def spectral(weight: torch.Tensor) -> torch.Tensor:
    return torch.linalg.matrix_norm(weight, ord=2)


# --- measures -------------------------------------------------------------------------------------


def test_residual_is_the_distance_to_the_nearest_matrix_of_equal_rows(z):
    found = diversity.residual(z)
    nearest = (z - z.mean(1, keepdim=True)).square().sum((1, 2)).sqrt()
    assert torch.allclose(found, nearest)
    for _ in range(20):
        other = z.mean(1, keepdim=True) + 0.1 * torch.randn(BATCH, 1, WIDTH, dtype=torch.float64)
        assert ((z - other).norm(dim=(1, 2)) >= found).all()


def test_what_residual_does_not_see(z):
    row = torch.randn(WIDTH, dtype=torch.float64)
    assert torch.allclose(diversity.residual(z + row), diversity.residual(z))
    assert torch.allclose(diversity.residual(z[:, torch.randperm(TOKENS)]), diversity.residual(z))
    assert diversity.residual(row.expand(2, TOKENS, WIDTH)).abs().max() < 1e-12


def test_relative_and_cosine_at_their_ends(z):
    alike = torch.ones(2, TOKENS, WIDTH, dtype=torch.float64)
    assert diversity.relative(alike).abs().max() < 1e-12 and torch.allclose(diversity.cosine(alike), torch.ones(2).double())
    apart = torch.eye(TOKENS, dtype=torch.float64)[None]
    assert float(diversity.cosine(apart)) == pytest.approx(0.0)
    assert torch.allclose(diversity.relative(3.0 * z), diversity.relative(z)) and (diversity.relative(z) < 1).all()
    assert float(diversity.relative(torch.zeros(1, 3, 2))) == 0.0
    pairs = [F.cosine_similarity(z[0, i], z[0, j], dim=0) for i in range(TOKENS) for j in range(TOKENS) if i != j]
    assert float(diversity.cosine(z)[0]) == pytest.approx(float(torch.stack(pairs).mean()))


# --- inequalities of 3.2(c) -----------------------------------------------------------------------


@pytest.mark.parametrize("sharp", [0.0, 0.5, 2.0, 20.0])
def test_attention_mixes_at_most_by_lambda(z, sharp):
    weights = stochastic(BATCH, TOKENS, TOKENS, sharp=sharp)
    factor = diversity.mixing(weights).sqrt()
    assert (diversity.residual(weights @ z) <= factor * diversity.residual(z) + 1e-12).all()
    centring = torch.eye(TOKENS, dtype=torch.float64) - 1.0 / TOKENS
    largest = torch.linalg.eigvalsh(weights.transpose(1, 2) @ centring @ weights)[:, -1]
    assert torch.allclose(diversity.mixing(weights), largest, atol=1e-12)


def test_linear_maps_elementwise_maps_and_sums(z):
    weight = torch.randn(WIDTH, WIDTH, dtype=torch.float64)
    before = diversity.residual(z)
    assert (diversity.residual(z @ weight) <= spectral(weight) * before).all()
    assert (diversity.residual(F.gelu(4 * z)) <= diversity.GELU_SLOPE * 4 * before).all()
    other = torch.randn_like(z)
    assert (diversity.residual(2 * z - 3 * other) <= 2 * before + 3 * diversity.residual(other)).all()


def test_gelus_slope_is_below_the_constant():
    x = torch.linspace(-6, 6, 20001, dtype=torch.float64, requires_grad=True)
    F.gelu(x).sum().backward()
    assert 1.1289 < float(x.grad.max()) < diversity.GELU_SLOPE
    assert float(x.detach()[x.grad.argmax()]) == pytest.approx(math.sqrt(2), abs=1e-3)


@torch.no_grad()
def module(seed: int, small: float = 1.0) -> tuple[Attention, torch.Tensor]:
    """An attention module without output bias to speak of, its weights scaled, and its heads' norms."""
    torch.manual_seed(seed)
    attention = Attention(WIDTH, HEADS).double()
    attention.qkv.weight.mul_(small)
    value = attention.qkv.weight[2 * WIDTH :]
    return attention, diversity.head_norms(value, attention.proj.weight, HEADS)


@torch.no_grad()
def test_head_norms_are_those_of_the_products():
    attention, norms = module(0)
    value, size = attention.qkv.weight[2 * WIDTH :], WIDTH // HEADS
    for h in range(HEADS):
        rows = slice(h * size, (h + 1) * size)
        assert float(norms[h]) == pytest.approx(float(spectral(attention.proj.weight[:, rows] @ value[rows])))


@torch.no_grad()
@pytest.mark.parametrize("seed", range(5))
def test_module_bounds(z, seed):
    attention, norms = module(seed, small=0.1 if seed % 2 else 1.0)
    answers, weights = attention.project(attention.attend(z)[0]), attention.attend(z)[1]
    factor, before = diversity.attention_factor(weights, norms), diversity.residual(z)
    assert (diversity.residual(answers) <= factor * before * (1 + 1e-12)).all()
    floor = diversity.shortcut_floor(factor)
    assert (diversity.residual(z + answers) >= floor * before * (1 - 1e-12)).all()
    assert seed % 2 == 0 or (floor > 0).all()
    paths = Paths(WIDTH, 2, 4).double()
    path_norms = torch.stack([spectral(part) for part in paths.projection.dense().chunk(2)])
    ceiling = diversity.augmented_ceiling(factor, path_norms)
    assert (diversity.residual(z + answers + paths(z)) <= ceiling * before).all()


def test_uniform_attention_collapses_and_a_shortcut_keeps(z):
    uniform = torch.full((TOKENS, TOKENS), 1.0 / TOKENS, dtype=torch.float64)
    assert diversity.residual(uniform @ z).abs().max() < 1e-12 and float(diversity.mixing(uniform)) < 1e-12
    assert (diversity.residual(z + uniform @ z) > 0).all()


def test_gelu_is_half_the_identity_and_an_even_part_that_all_tokens_share(z):
    even = (F.gelu(z) + F.gelu(-z)) / 2
    assert torch.allclose(F.gelu(z), z / 2 + even) and (even >= 0).all()
    centred = z - z.mean(1, keepdim=True)
    assert (diversity.relative(F.gelu(centred)) < diversity.relative(centred)).all()
