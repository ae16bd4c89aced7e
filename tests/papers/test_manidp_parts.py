"""Gates, thresholds, losses and cost of ManiDP: the specification's invariants."""

import copy
import math

import pytest
import torch
from torch.nn import functional as F

from stages.lib import macs, models
from stages.lib.data import Split
from stages.lib.errors import StageError
from stages.papers.manidp import gated, levels, losses, matching, nets, thresholds
from stages.papers.manidp.arms import ARMS
from stages.papers.manidp.cost import cost_model
from stages.papers.manidp.experiment import spearman
from stages.papers.manidp.gates import OPEN, Gate, hidden_width
from stages.papers.manidp.sliced import Sliced
from stages.papers.manidp.training import Objective, Trainee, freezing_epoch


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def warm(net, x, rate=0.6):
    """Settled BN statistics and thresholds at a keep rate: what training leaves."""
    net.train()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    for gate in net.gates:
        gate.forget()
    with torch.no_grad():
        net(x)
        for gate in net.gates:
            gate.threshold.copy_(thresholds.threshold(gate.average(), rate))
    return net.eval()


@pytest.fixture
def small():
    """A gated net with thresholds set, and images."""
    x = torch.randn(12, 3, 16, 16)
    return warm(gated.gate(nets.resnet_bare([1, 2], [8, 16], image=16), 2), x), x


# --- gates and nets -------------------------------------------------------------------------------


def test_fresh_gates_are_open_and_gates_of_one_leave_the_dense_net():
    dense = nets.resnet_bare([1, 1], [8, 16], image=16).eval()
    net, x = gated.gate(dense, 2).eval(), torch.randn(4, 3, 16, 16)
    _, trace = net.trace(x)
    for mask, p in zip(trace.masks, trace.saliencies, strict=True):
        assert torch.equal(mask, p)
    for gate in net.gates:
        gate.reset(0.0)
        assert float(gate.threshold) == OPEN
    assert torch.equal(net(x), dense(x))


def test_gate_widths_of_the_official_code():
    assert [hidden_width(c, 2) for c in (16, 64, 79, 80, 128, 512)] == [16, 64, 79, 40, 64, 256]
    gate = Gate(16, 128, 2)
    assert gate.squeeze.bias is None
    assert bool((gate.excite.bias == 1).all())


def test_bare_shortcuts_have_no_normalisation():
    net = nets.resnet_cifar(20)
    assert [len(b.downsample) for b in net.blocks if b.downsample is not None] == [1, 1]
    assert macs.parameters(net) == macs.total(net.record()).params == 272282
    assert macs.count_record(net.record()) == macs.total(net.record()).macs == 40813184


def test_features_are_taken_before_the_mask_and_the_second_gate_sees_the_masked_map(small):
    net, x = small
    block, first, second = net.net.blocks[0], net.gates[0], net.gates[1]
    with torch.no_grad():
        _, trace = net.trace(x)
        stem = net.net.stem(x)
        h = F.relu(block.bn1(block.conv1(stem)))
        assert torch.allclose(trace.features[0], h.mean((2, 3)), atol=1e-6)
        h = h * first(stem).mask[:, :, None, None]
        assert torch.allclose(trace.saliencies[1], second(h).saliency, atol=1e-6)
        assert torch.allclose(trace.features[1], block.bn2(block.conv2(h)).mean((2, 3)), atol=1e-6)


def test_statistics_are_kept_in_train_mode_only_and_images_do_not_depend_on_their_batch(small):
    net, x = small
    before = [gate.total.clone() for gate in net.gates]
    with torch.no_grad():
        first, second, alone = net(x), net(x), net(x[3:4])
    assert torch.equal(first, second)
    assert torch.allclose(first[3:4], alone, atol=1e-5)
    assert all(torch.equal(a, gate.total) for a, gate in zip(before, net.gates, strict=True))
    net.train()(x)
    assert int(net.gates[0].seen) == 24
    assert not torch.equal(before[0], net.gates[0].total)


def test_a_frozen_gate_has_one_mask_for_all_images(small):
    net, x = small
    net.train()(x)
    matching.freeze_at(net, 0.6)
    masks = net.eval().trace(x)[1].masks
    assert all(torch.equal(m, m[:1].expand_as(m)) for m in masks)
    cost = cost_model(net)
    share = float(cost.of_counts(torch.stack([(m > 0).sum(1) for m in masks], 1), gates=False)[0]) / cost.dense
    assert 0.4 < share <= 0.6


def test_nets_without_basic_blocks_are_refused():
    for net in (models.preresnet([1], [4], 10, 3, 8), models.resnet(50, image=32)):
        with pytest.raises(StageError, match="basic blocks"):
            gated.gate(net)
    with pytest.raises(StageError, match="6 n"):
        nets.resnet_cifar(9)


# --- thresholds -----------------------------------------------------------------------------------


def test_remaining_share_falls_to_the_target():
    shares = [thresholds.remaining(e, 20, 0.6) for e in range(20)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] <= 1.0
    assert math.isclose(shares[-1], 0.6)
    assert math.isclose(thresholds.remaining(25, 20, 0.6), 0.6)


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.5, 0.7, 1.0])
def test_threshold_keeps_the_share_and_ties(rate):
    mu = torch.rand(20)
    cut = thresholds.threshold(mu, rate)
    assert int((mu >= cut).sum()) == math.ceil(round(rate * 20, 9))
    assert int((torch.ones(20) >= thresholds.threshold(torch.ones(20), rate)).sum()) == 20


def test_a_higher_threshold_never_enlarges_a_mask(small):
    net, x = small
    before = [m > 0 for m in net.trace(x)[1].masks[:1]]
    net.gates[0].threshold.mul_(1.2)
    after = net.trace(x)[1].masks[0] > 0
    assert not bool((after & ~before[0]).any())


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.01, float("nan")])
def test_keep_rates_out_of_range(rate):
    with pytest.raises(StageError, match="keep rate"):
        thresholds.remaining(0, 5, rate)


def test_means_that_are_not_numbers():
    with pytest.raises(StageError, match="NaN"):
        thresholds.threshold(torch.tensor([1.0, float("nan")]), 0.5)


def test_graded_thresholds_open_continuously():
    mu = torch.rand(8)
    counts = [int((mu >= thresholds.graded(mu, j / 100)).sum()) for j in range(101)]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (0, 8)


def test_matched_thresholds_meet_the_budget_and_leave_the_net(small):
    net, x = small
    before = [float(gate.threshold) for gate in net.gates]
    for budget in (0.3, 0.5):
        chosen = matching.thresholds_at(net, x, budget)
        assert [float(gate.threshold) for gate in net.gates] == before
        other = copy.deepcopy(net)
        matching.restore(other, chosen)
        share = matching.mean_share(other, x, cost_model(net))
        assert budget - 0.08 < share <= budget
    with pytest.raises(StageError, match="budget"):
        matching.thresholds_at(net, x, 0.01)


# --- losses ---------------------------------------------------------------------------------------


def test_ease_falls_from_one_to_nothing():
    found = losses.ease(torch.tensor([0.0, 0.25, 0.5, 0.999, 1.0, 3.0]), torch.tensor(1.0))
    assert torch.allclose(found, torch.tensor([1.0, 0.75, 0.5, 0.001, 0.0, 0.0]), atol=1e-6)
    assert torch.allclose(losses.ease(torch.tensor([0.5]), torch.tensor(1.0), 2.0), torch.tensor([0.25]))


@pytest.mark.parametrize("form", losses.FORMS)
def test_similarity_ignores_scale_and_order_and_sees_alignment(form):
    p, f = [torch.rand(6, 4), torch.rand(6, 4), torch.rand(6, 9)], [torch.randn(6, 4), torch.randn(6, 4), torch.randn(6, 9)]
    value = losses.similarity(p, f, form)
    order, scale = torch.randperm(6), torch.rand(6, 1) + 0.1
    assert torch.allclose(losses.similarity([q[order] for q in p], [g[order] for g in f], form), value, rtol=1e-4)
    assert torch.allclose(losses.similarity([q * scale for q in p], f, form), value, rtol=1e-4)
    assert float(losses.similarity([g * scale for g in f], f, form)) < 1e-4
    by_hand = [losses.cosines(q[None])[0] - losses.cosines(g[None])[0] for q, g in zip(p, f, strict=True)]
    wanted = sum(d.norm() ** 2 / 36 if form == "release" else d.norm() for d in by_hand)
    assert torch.allclose(value, wanted, rtol=1e-4)


def test_similarities_are_positive_semidefinite_with_unit_diagonal():
    t = losses.cosines(torch.randn(1, 7, 5))[0]
    assert torch.allclose(t.diagonal(), torch.ones(7), atol=1e-5)
    assert float(torch.linalg.eigvalsh(t).min()) > -1e-5


def test_a_row_of_zeros_is_harmless():
    p = torch.rand(4, 5)
    p[1] = 0
    p.requires_grad_()
    value = losses.similarity([p], [torch.randn(4, 5)])
    value.backward()
    assert bool(value.isfinite())
    assert bool(p.grad.isfinite().all())


def test_one_image_has_no_similarities():
    with pytest.raises(StageError, match="batch of one"):
        losses.similarity([torch.rand(1, 4)], [torch.rand(1, 4)])


def objective(arm="manidp", **changes):
    settings = {"lam": 0.1, "gamma": 1.0, "exponent": 1.0, "detach_weight": False, "form": "release", "weight_decay": 0.0}
    return Objective(ARMS[arm], **{**settings, **changes})


def gradient(net, aim, x, y, bound=10.0):
    model = Trainee(copy.deepcopy(net), bound)
    aim(model, x, y).backward()
    return {name: p.grad for name, p in model.net.named_parameters() if p.grad is not None}


def test_without_the_terms_the_gradient_is_that_of_the_cross_entropy(small):
    net, x = small
    y = torch.arange(12) % 10
    found = gradient(net, objective(lam=0.0, gamma=0.0), x, y)
    plain = copy.deepcopy(net)
    F.cross_entropy(plain(x), y).backward()
    for name, p in plain.named_parameters():
        if p.grad is not None:
            assert torch.allclose(found[name], p.grad, atol=1e-7), name


def test_dropped_channels_learn_from_the_terms_but_not_from_the_task(small):
    net, x = small
    y = torch.arange(12) % 10
    dropped = (net.trace(x)[1].masks[0] == 0).all(0) & (net.trace(x)[1].saliencies[0] > 0).any(0)
    if not bool(dropped.any()):
        net.gates[0].threshold.fill_(float(net.trace(x)[1].saliencies[0].max(0).values.median()))
        dropped = (net.trace(x)[1].masks[0] == 0).all(0) & (net.trace(x)[1].saliencies[0] > 0).any(0)
    assert bool(dropped.any())
    rows = {
        terms: gradient(net, objective(lam=lam, gamma=gamma), x, y)["gates.0.excite.weight"][dropped]
        for terms, lam, gamma in (("none", 0.0, 0.0), ("sparsity", 0.1, 0.0), ("similarity", 0.0, 1.0))
    }
    assert float(rows["none"].abs().max()) == 0
    assert float(rows["sparsity"].abs().max()) > 0
    assert float(rows["similarity"].abs().max()) > 0


def test_weights_in_the_gradient_scale_that_of_the_cross_entropy(small):
    net, x = small
    y = torch.arange(12) % 10
    free = gradient(net, objective(gamma=0.0, detach_weight=True), x, y)["net.fc.bias"]
    held = gradient(net, objective(gamma=0.0), x, y)["net.fc.bias"]
    plain = gradient(net, objective(lam=0.0, gamma=0.0), x, y)["net.fc.bias"]
    assert torch.allclose(free, plain, atol=1e-7)
    assert float(held.norm()) < float(plain.norm())  # the factor 1 - lam l1 / t


def test_decay_leaves_gates_alone(small):
    net, x = small
    y = torch.arange(12) % 10
    decayed, plain = (gradient(net, objective(lam=0.0, gamma=0.0, weight_decay=w), x, y) for w in (0.1, 0.0))
    assert torch.allclose(decayed["net.fc.weight"], plain["net.fc.weight"] + 0.1 * net.net.fc.weight, atol=1e-6)
    assert torch.equal(decayed["gates.0.excite.bias"], plain["gates.0.excite.bias"])


# --- cost and execution ---------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda: nets.resnet_bare([1, 2], [8, 16], image=16), lambda: models.resnet(18, image=64)])
@pytest.mark.parametrize("rate", [0.2, 0.6, 1.0])
def test_sliced_execution_is_the_masked_one(make, rate):
    x = torch.randn(6, 3, 64, 64) if make().record()["kind"] == "resnet" else torch.randn(6, 3, 16, 16)
    net = warm(gated.gate(make(), 2, 0.1), x, rate)
    with torch.no_grad():
        wanted = net(x)
    thin, allowed = Sliced(net), 1e-5 * max(1.0, float(wanted.abs().max()))
    assert float((thin(x.clone()) - wanted).abs().max()) < allowed
    for i in range(6):
        assert float((thin(x[i : i + 1].clone()) - wanted[i]).abs().max()) < allowed


def test_sliced_execution_with_nothing_active(small):
    net, x = small
    for place, threshold in ((0, 1e6), (3, 1e6)):
        net.gates[place].threshold.fill_(threshold)
    with torch.no_grad():
        assert float((Sliced(net)(x.clone()) - net(x)).abs().max()) < 1e-5


def test_sliced_execution_of_a_static_net(small):
    net, x = small
    net.train()(x)
    matching.freeze_at(net, 0.6)
    with torch.no_grad():
        assert float((Sliced(net)(x.clone()) - net.eval()(x)).abs().max()) < 1e-5


def test_cost_is_what_the_sliced_net_computes(small):
    net, x = small
    cost, trace = cost_model(net), net.trace(x)[1]
    thin = Sliced(net)
    for i in range(3):
        skipped = sum(  # the second gate reads active channels only; the formula counts it whole
            int((trace.masks[g][i] == 0).sum()) * net.gates[g + 1].squeeze.out_features for g in range(0, len(net.gates), 2)
        )
        counted = macs.count(thin, x[i : i + 1].clone())
        assert counted + skipped == int(cost.per_image(trace)[i])
    assert bool(((cost.per_image(trace) / cost.dense) <= 1 + cost.gates / cost.dense).all())


def test_audited_sizes_of_the_gates():
    record = gated.gate(nets.resnet_cifar(20)).record()
    whole, dense = macs.total(record), macs.total(record["net"])
    assert (whole.params - dense.params, whole.macs - dense.macs) == (62624, 61952)


# --- data and statistics --------------------------------------------------------------------------


def split(count=50):
    return Split(torch.zeros(count, 1, 4, 4), torch.zeros(count, dtype=torch.int64), ("a",), (0.5,), (0.25,), "x", "train")


def test_noise_levels_are_the_noise():
    noisy, level = levels.with_levels(split(400), 0.3, 1)
    assert 0 <= float(level.min()) <= float(level.max()) <= 0.3
    assert spearman(noisy.x.std((1, 2, 3)), level) > 0.8
    assert torch.equal(levels.with_levels(split(400), 0.3, 1)[0].x, noisy.x)
    assert torch.equal(levels.with_levels(split(), 0.0, 1)[0].x, split().x)
    with pytest.raises(StageError, match="noise"):
        levels.with_levels(split(), -0.1, 1)


def test_spearman_agrees_with_scipy():
    from scipy.stats import spearmanr

    a, b = torch.randint(0, 5, (40,)), torch.randn(40)
    assert math.isclose(spearman(a, b), spearmanr(a.numpy(), b.numpy()).statistic, abs_tol=1e-12)
    assert spearman(torch.ones(5), torch.rand(5)) == 0.0


def test_static_pruning_freezes_within_the_run():
    assert [freezing_epoch(10, s) for s in (0.01, 0.5, 0.99)] == [1, 5, 9]
