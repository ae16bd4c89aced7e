"""What surrounds the loop: BN statistics measured anew, distillation, quantised weights and their bits."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from stages.lib import models
from stages.lib.errors import StageError
from stages.papers.discriminant_information_pruning import precision
from stages.papers.discriminant_information_pruning.distillation import distillation_loss
from stages.papers.discriminant_information_pruning.recalibration import recalibrate


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """As in the stages; small products are slower with more."""
    torch.set_num_threads(1)


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return models.preresnet([1, 1], [4, 6], 3, in_channels=1, image=8).eval()


# --- recalibration ----------------------------------------------------------------------------------------------------


def test_statistics_become_the_average_of_the_batches():
    norm = nn.BatchNorm2d(3).eval()
    x = torch.randn(60, 3, 4, 4) * 3 + 5
    recalibrate(norm, x, 2, 20)
    assert torch.allclose(norm.running_mean, x.mean((0, 2, 3)), atol=1e-5)
    variance = torch.stack([part.transpose(0, 1).flatten(1).var(1) for part in x.split(20)]).mean(0)
    assert torch.allclose(norm.running_var, variance, atol=1e-4)
    assert norm.momentum == 0.1
    assert not norm.training


def test_no_pass_changes_nothing_and_weights_stay():
    model = net()
    before = copy.deepcopy(model.state_dict())
    recalibrate(model, torch.randn(20, 1, 8, 8), 0, 10)
    assert all(torch.equal(a, before[name]) for name, a in model.state_dict().items())
    recalibrate(model, torch.randn(20, 1, 8, 8), 1, 10)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


# --- distillation -----------------------------------------------------------------------------------------------------


def test_the_terms_of_the_loss():
    teacher, student = net(0), net(1)
    x, y = torch.randn(10, 1, 8, 8), torch.arange(10) % 3
    plain = F.cross_entropy(student(x), y)
    assert torch.allclose(distillation_loss(teacher, 4.0, 0.0, 0.0)(student, x, y), plain)
    soft = F.kl_div((student(x) / 4).log_softmax(1), (teacher(x) / 4).softmax(1), reduction="batchmean")
    assert torch.allclose(distillation_loss(teacher, 4.0, 0.5, 0.0)(student, x, y), plain + 8 * soft, atol=1e-5)
    with torch.no_grad():
        aims, seen = [], []
        for model, found in ((teacher, aims), (student, seen)):
            for block in range(2):
                found.append(F.normalize(model.segment(model.stem(x), 0, block + 1).flatten(1), dim=1))
        gap = sum((a - b).square().sum() for a, b in zip(aims, seen)) / 10
    assert torch.allclose(distillation_loss(teacher, 4.0, 0.0, 0.3)(student, x, y), plain + 0.3 * gap, atol=1e-5)


def test_a_student_like_its_teacher_only_sees_the_labels():
    teacher = net()
    x, y = torch.randn(10, 1, 8, 8), torch.arange(10) % 3
    student = copy.deepcopy(teacher)
    value = distillation_loss(teacher, 4.0, 1.0, 1.0)(student, x, y)
    assert torch.allclose(value, F.cross_entropy(student(x), y), atol=1e-6)
    value.backward()
    assert all(p.grad is None for p in teacher.parameters())


# --- quantiser --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_errors_stay_within_half_a_step_and_levels_within_the_grid(bits):
    weight = torch.randn(5, 4, 3, 3)
    found = precision.quantised(weight, torch.full((5,), bits))
    size = weight.abs().flatten(1).amax(1) / (2 ** (bits - 1) - 1)
    assert ((found - weight).abs().flatten(1).amax(1) <= size / 2 + 1e-6).all()
    for channel, step in zip(found, size):
        levels = (channel / step).round()
        assert torch.allclose(channel, levels * step, atol=1e-6)
        assert levels.abs().max() == 2 ** (bits - 1) - 1


def test_no_bits_prune_and_a_channel_of_zeros_stays():
    weight = torch.randn(3, 4)
    weight[2] = 0
    found = precision.quantised(weight, torch.tensor([0, 8, 4]))
    assert not found[0].any()
    assert not found[2].any()
    assert torch.allclose(found[1], weight[1], atol=0.02)


def test_the_gradient_passes_straight_through():
    weight = torch.randn(3, 4, requires_grad=True)
    (precision.quantised(weight, torch.tensor([2, 3, 4])) * torch.arange(12.0).view(3, 4)).sum().backward()
    assert torch.equal(weight.grad, torch.arange(12.0).view(3, 4))


# --- allocation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("levels", "mean"), [([2, 4, 8], 3), ([2, 3, 4], 3), ([2, 4, 8], 4), ([0, 2, 4], 3), ([2, 4, 8], 2)])
def test_mean_bits_are_met_exactly(levels, mean):
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        errors = torch.rand(16, len(levels), generator=generator).sort(1, descending=True).values
        bits = precision.allocate(torch.rand(16, generator=generator), errors, levels, mean)
        assert float(bits.double().mean()) == mean
        assert set(bits.tolist()) <= set(levels)


def test_bits_do_not_fall_with_the_score_for_equal_errors():
    scores = torch.tensor([0.1, 5.0, 0.2, 1.0, 0.5, 3.0, 0.05, 2.0])
    errors = torch.tensor([0.3, 0.06, 0.001]).expand(8, 3)
    bits = precision.allocate(scores, errors, [2, 4, 8], 4)
    ordered = bits[scores.argsort()]
    assert (ordered[1:] >= ordered[:-1]).all()
    assert ordered[-1] > ordered[0]


def test_bits_of_a_net_leave_the_first_convolution_and_the_head():
    model = net()
    names = precision.layers(model)
    assert "stem.conv" not in names
    assert "blocks.0.conv1" in names
    bits = {name: torch.full((model.get_submodule(name).out_channels,), 3) for name in names}
    thin = copy.deepcopy(model)
    precision.attach(thin, bits)
    x = torch.randn(4, 1, 8, 8)
    during = thin(x)
    precision.bake(thin, bits)
    assert thin.state_dict().keys() == model.state_dict().keys()
    assert torch.equal(thin(x), during)
    assert torch.equal(thin.stem.conv.weight, model.stem.conv.weight)
    for name in names:
        found, whole = (m.get_submodule(name).weight for m in (thin, model))
        assert torch.allclose(found, precision.quantised(whole, bits[name]))
    assert precision.mean_bits(bits) == 3


@pytest.mark.parametrize(
    ("levels", "mean"), [([], 3), ([4, 2], 3), ([1, 2], 2), ([2, 2, 4], 3), ([2, 4], 5), ([2, 32], 3), ([-1, 2], 1)]
)
def test_impossible_levels_are_refused(levels, mean):
    with pytest.raises(StageError, match="precision"):
        precision.check(levels, mean)
