"""The block-circulant projection: its forms agree, forward and backward, and it has the structure that it should have."""

import pytest
import torch
from torch.nn import functional as F

from stages.lib.errors import StageError
from stages.papers.augmented_shortcuts import partial
from stages.papers.augmented_shortcuts.circulant import FORMS, BlockCirculant

torch.set_num_threads(1)
SIZES = [(12, 12, 4), (15, 15, 3), (24, 48, 4), (48, 24, 4), (30, 30, 1), (8, 8, 8), (21, 42, 3), (96, 192, 4)]


def circulant(inputs: int, outputs: int, blocks: int, form: str = "auto", radix: int = 0, seed: int = 0) -> BlockCirculant:
    """A projection with weights of the seed, in float64."""
    torch.manual_seed(seed)
    made = BlockCirculant(inputs, outputs, blocks, form).double()
    made.radix = radix or made.radix
    return made


def divisors(number: int) -> list[int]:
    return [r for r in range(1, number + 1) if number % r == 0]


def answers(made: BlockCirculant, x: torch.Tensor, back: torch.Tensor) -> list[torch.Tensor]:
    """Output and the gradients of input, weight and bias."""
    x = x.clone().requires_grad_()
    made.zero_grad()
    y = made(x)
    y.backward(back)
    return [y.detach(), x.grad, made.weight.grad.clone(), made.bias.grad.clone()]


@pytest.mark.parametrize("size", SIZES)
def test_all_forms_agree_forward_and_backward(size):
    inputs, outputs, blocks = size
    x, back = torch.randn(3, 5, inputs, dtype=torch.float64), torch.randn(3, 5, outputs, dtype=torch.float64)
    wanted = answers(circulant(*size, "dense"), x, back)
    others = [circulant(*size, "fft")] + [circulant(*size, "partial", r) for r in divisors(min(inputs, outputs) // blocks)]
    for other in others:
        for one, two in zip(wanted, answers(other, x, back), strict=True):
            assert torch.allclose(one, two, rtol=0, atol=1e-10)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("width", [192, 384, 768])
def test_single_precision_keeps_five_digits(width, form):
    torch.manual_seed(0)
    made, x = BlockCirculant(width, 2 * width, 4, form), torch.randn(7, width)
    with torch.no_grad():
        wanted = F.linear(x.double(), made.dense().double(), made.bias.double())
        assert (made(x) - wanted).abs().max() < 1e-5 * wanted.abs().max()


@pytest.mark.parametrize("size", [(12, 12, 3), (10, 20, 2)])
def test_weight_has_scipys_circulant_blocks(size):
    linalg = pytest.importorskip("scipy.linalg")
    made = circulant(*size)
    n, whole = made.length, made.dense().detach().numpy()
    for i, row in enumerate(made.weight.detach().numpy()):
        for j, column in enumerate(row):
            assert (whole[i * n : (i + 1) * n, j * n : (j + 1) * n] == linalg.circulant(column)).all()


def test_counts_structure_and_commuting_blocks():
    width, blocks = 24, 4
    made = circulant(width, width, blocks)
    whole, n = made.dense().detach(), made.length
    assert sum(p.numel() for p in made.parameters()) == blocks * width + width
    assert len(whole.unique()) == blocks * width
    block = whole[:n, n : 2 * n]
    assert torch.equal(block, block.roll((1, 1), (0, 1)))
    other = whole[n : 2 * n, :n]
    assert torch.allclose(block @ other, other @ block)


@pytest.mark.parametrize("form", FORMS)
def test_delta_kernels_are_identity_and_shift(form):
    made = circulant(24, 24, 4, form, 3 if form == "partial" else 0)
    x = torch.randn(5, 24, dtype=torch.float64)
    with torch.no_grad():
        for shift in (0, 1):
            made.bias.zero_(), made.weight.zero_()
            made.weight[range(4), range(4), shift] = 1.0
            shifted = x.view(5, 4, 6).roll(shift, -1).view(5, 24)
            assert torch.allclose(made(x), shifted, atol=1e-12)


def test_one_block_is_one_circulant_and_blocks_of_one_are_a_dense_map():
    assert circulant(7, 7, 1).weight.shape == (1, 1, 7)
    made = circulant(6, 6, 6)
    assert torch.equal(made.dense(), made.weight[:, :, 0])


def test_whole_transform_and_dense_form_are_the_ends_of_the_radix():
    assert partial.products(1) == 1 and partial.products(2) == 2 and partial.products(3) == 4 and partial.products(16) == 23
    made = circulant(24, 24, 4, "partial", 1)
    assert partial.small_matrices(made.weight, 1).shape == (1, 24, 24)
    assert torch.allclose(partial.small_matrices(made.weight, 1)[0].t(), made.dense())


def test_radix_by_width():
    found = [partial.best_radix(width, width, width // 4) for width in (16, 48, 192, 384, 768)]
    assert found[:3] == [1, 1, 1] and min(found[3:]) > 1 and found == sorted(found)


def test_kept_matrices_follow_the_weights():
    made = circulant(48, 48, 4, "partial", 4).eval()
    x = torch.randn(3, 48, dtype=torch.float64)
    for change in (lambda: made.weight.mul_(2.0), lambda: made.load_state_dict(circulant(48, 48, 4, seed=1).state_dict())):
        with torch.no_grad():
            before = made(x)
            assert torch.equal(made(x), before)
            change()
            assert torch.allclose(made(x), F.linear(x, made.dense(), made.bias)) and not torch.allclose(made(x), before)
    made.float()
    with torch.no_grad():
        assert made(x.float()).dtype == torch.float32
    assert made(x.float()).requires_grad


def test_half_precision_by_fft_is_computed_in_single():
    made = BlockCirculant(15, 15, 3, "fft")
    x = torch.randn(4, 15).half()
    assert made(x).dtype == torch.float16 and torch.allclose(made(x).float(), made(x.float()), atol=1e-2)


def test_initial_weights_follow_kaimings_rule():
    made = BlockCirculant(400, 400, 4)
    assert made.weight.abs().max() <= 400**-0.5 and made.bias.abs().max() <= 400**-0.5
    assert made.weight.detach().std() == pytest.approx((3 * 400) ** -0.5, rel=0.1)


@pytest.mark.parametrize(("width", "blocks"), [(12, 5), (12, 0), (12, 24)])
def test_blocks_that_do_not_divide_the_width(width, blocks):
    with pytest.raises(StageError, match="does not divide"):
        BlockCirculant(width, width, blocks)
    with pytest.raises(StageError, match="expected one of auto"):
        BlockCirculant(12, 12, 4, "sparse")
