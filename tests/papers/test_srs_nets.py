"""Nets with SRS: replacement at every call site, the batched sweep, translators and flows."""

import dataclasses
import pickle

import numpy
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from stages.lib import macs, parallel, shares
from stages.lib.data import noise
from stages.lib.errors import StageError
from stages.lib.models import construct
from stages.papers.srs import densities, grammar, peers, sweep
from stages.papers.srs.bleu import bleu
from stages.papers.srs.flow import Block, spectral_norms
from stages.papers.srs.generation import Flows
from stages.papers.srs.layer import SRS
from stages.papers.srs.peers import SideBySide
from stages.papers.srs.replace import replace
from stages.papers.srs.settings import FLOW_ARMS, Activation, Generation, Grammar, Shape, Sweep, Translation
from stages.papers.srs.translation import Translators

torch.set_num_threads(1)
OPTIONS = Activation("arxiv", 5.0, 3.0, "project")
LANGUAGE = Grammar(6, 2, 3, 6, 0.3, 12, 6)


def srs_layer(site):
    return SRS()


# --- replacement ----------------------------------------------------------------------------------


class Reused(nn.Module):
    """One ReLU module at two places, a function at a third, a method at a fourth."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.relu = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 6, 1), nn.ReLU(inplace=True)

    def forward(self, x):
        h = self.relu(self.two(self.relu(self.one(x))))
        return (F.relu(h - 1).mean((2, 3)) - 0.1).relu()


def test_every_call_site_gets_a_layer_of_its_own():
    net, x = Reused(), torch.randn(2, 3, 5, 5)
    made, sites = replace(net, srs_layer, x)
    assert [site.channels for site in sites] == [4, 6, 6, 6]
    assert sum(isinstance(one, SRS) for one in made.modules()) == 4
    assert macs.parameters(made) == macs.parameters(net) + 2 * 4
    per_channel, _ = replace(net, lambda site: SRS((site.channels,)), x)
    assert macs.parameters(per_channel) == macs.parameters(net) + 2 * (4 + 6 + 6 + 6)
    frozen, _ = replace(net, lambda site: SRS(trainable=False), x)
    assert macs.parameters(frozen) == macs.parameters(net)
    assert not torch.equal(made(x), net(x)) and torch.equal(replace(net, lambda site: nn.ReLU(), x)[0](x), net(x))
    made(x).square().sum().backward()
    for site in sites[:3]:
        own = made.get_submodule(site.name)
        assert float(own.alpha.grad.abs()) > 0 and float(own.beta.grad.abs()) > 0
    copied = pickle.loads(pickle.dumps(made))
    assert torch.equal(copied(x), made(x))
    copied.load_state_dict(made.state_dict())


@pytest.mark.parametrize(
    ("name", "options", "count"),
    [("preresnet_cifar", {"depth": 20}, 19), ("vgg_cifar", {"depth": 16}, 13), ("resnet", {"depth": 18, "image": 32}, 17)],
)
def test_the_projects_nets_can_be_converted(name, options, count):
    net = construct(name, **options, classes=10)
    made, sites = replace(net, srs_layer, torch.randn(1, 3, 32, 32))
    assert len(sites) == count and macs.parameters(made) == macs.parameters(net) + 2 * count
    assert made.training == net.training and bool(made(torch.randn(2, 3, 32, 32)).isfinite().all())


def test_nets_that_cannot_be_converted_are_refused():
    class Branching(nn.Module):
        def forward(self, x):
            return F.relu(x) if x.sum() > 0 else x

    with pytest.raises(StageError, match="cannot be traced"):
        replace(Branching(), srs_layer, torch.ones(1, 1))
    with pytest.raises(StageError, match="calls no ReLU"):
        replace(nn.Sequential(nn.Linear(2, 2)), srs_layer, torch.ones(1, 2))


# --- the sweep ------------------------------------------------------------------------------------

SWEEP = Sweep(["relu", "srs", "prelu"], OPTIONS, 2, 6, [0.5, 1.0], 2, 10, 0.05, 0.9, 1e-3, 0.05, "cosine", [])


def flat(count: int):
    split = noise([1, 3, 3], 4, count)
    return dataclasses.replace(split, x=split.x.flatten(1))


def swept(params: Sweep, repetitions: list[int], normalised: bool) -> sweep.Trainee:
    train, tested = flat(40), flat(12)
    weights = sweep.initial(params, 9, 4, repetitions)
    made = sweep.Trainee(sweep.Nets(weights, params.arms, OPTIONS, normalised), params, train, tested, repetitions)
    for step in range(params.epochs * made.steps):
        made.loss(torch.arange(10) + 10 * (step % 4)).backward()
        made.after_step()
    return made


def reference(params: Sweep, arm: str, scale: float, repetition: int, normalised: bool) -> tuple[list[float], float]:
    """Losses of the steps and final accuracy of one net alone, with torch's own layers, SGD and clipping."""
    train, tested = flat(40), flat(12)
    one = dataclasses.replace(params, arms=[arm])
    place = [*params.scales].index(scale)
    weights = [weight[place] for weight in sweep.initial(one, 9, 4, [repetition])]
    layers, decayed, plain = [], [], []
    for i, weight in enumerate(weights):
        linear = nn.Linear(weight.shape[1], weight.shape[0], bias=i == len(weights) - 1 or not normalised)
        linear.weight.data.copy_(weight)
        if linear.bias is not None:
            linear.bias.data.zero_()
        layers.append(linear)
        decayed.append(linear.weight)
        if i < len(weights) - 1:
            layers += [nn.BatchNorm1d(weight.shape[0])] if normalised else []
            layers.append({"relu": nn.ReLU, "prelu": nn.PReLU, "srs": SRS}[arm]())
    net = nn.Sequential(*layers)
    plain = [p for p in net.parameters() if all(p is not q for q in decayed)]
    optimiser = torch.optim.SGD(
        [{"params": decayed, "weight_decay": 0.0}, {"params": plain, "weight_decay": 0.0}], lr=0.05, momentum=0.9
    )
    from stages.lib.optim import schedule
    from stages.lib.runtime import derive_seed

    rate, losses = schedule("cosine", 0.05, 8), []
    order = torch.randperm(40, generator=torch.Generator().manual_seed(derive_seed(repetition, "order")))
    for step in range(8):
        index = order[torch.arange(10) + 10 * (step % 4)]
        optimiser.zero_grad()
        loss = F.cross_entropy(net(train.x[index]), train.y[index])
        loss.backward()
        for weight in decayed:
            weight.grad += 1e-3 * weight.data
        nn.utils.clip_grad_norm_(net.parameters(), params.clip)
        for group in optimiser.param_groups:
            group["lr"] = rate(step)
        optimiser.step()
        losses.append(float(loss.detach()))
    net.eval()
    return losses, float((net(tested.x).argmax(1) == tested.y).float().mean())


@pytest.mark.parametrize("normalised", [True, False])
def test_nets_side_by_side_are_the_nets_alone(normalised):
    made = swept(SWEEP, [3, 4], normalised)
    losses = made.losses.view(2, 3, 2, 3)
    for a, arm in enumerate(SWEEP.arms):
        alone, right = reference(SWEEP, arm, 1.0, 4, normalised)
        assert float(losses[0, a, 1, 1]) == pytest.approx(sum(alone[:4]) / 4, rel=2e-4)
        assert float(losses[1, a, 1, 1]) == pytest.approx(sum(alone[4:]) / 4, rel=2e-3)
        assert float(made.accuracies.view(2, 3, 2, 3)[1, a, 1, 1]) == pytest.approx(right, abs=0.1)


def test_repetitions_do_not_depend_on_their_company():
    together, alone = swept(SWEEP, [3, 4], True), swept(SWEEP, [4], True)
    torch.testing.assert_close(together.losses.view(2, 3, 2, 3)[:, :, 1:], alone.losses.view(2, 3, 1, 3), rtol=1e-4, atol=1e-5)


def test_initial_weights_are_paired_and_scaled():
    weights = sweep.initial(SWEEP, 9, 4, [0, 1])
    first = weights[0].view(3, 2, 3, 6, 9)
    torch.testing.assert_close(first[:, :, 1], 2 * first[:, :, 0])
    torch.testing.assert_close(first[0, :, :2], first[1, :, :2])
    assert not torch.equal(first[0, 0, 0], first[0, 1, 0])
    head = weights[-1].view(3, 2, 3, 4, 6)
    assert torch.equal(head[:, :, 0], head[:, :, 2])
    assert sweep.preserving("relu", OPTIONS) == pytest.approx(2**0.5, abs=1e-6)
    assert sweep.preserving("srs", OPTIONS) ** 2 == pytest.approx(1.1628, abs=1e-3)


def test_a_last_batch_of_one_is_refused():
    with pytest.raises(StageError, match="last batch of one"):
        swept(dataclasses.replace(SWEEP, batch=13), [0], True)


# --- translation ----------------------------------------------------------------------------------


def test_grammar_by_hand_and_translations_are_invertible():
    table = numpy.array([[1, 2, 0], [2, 0, 1]])
    t = grammar.FIRST
    assert grammar.translate([t, t + 1, t + 2, grammar.SEPARATOR, t], table) == [t, t, t + 2, grammar.SEPARATOR, t + 1]
    assert grammar.translate([t + 1, t], table) == [t + 1, t + 2]
    found = grammar.pairs(LANGUAGE, 50, 0, "train")
    for source, target in zip(found.source, found.target, strict=True):
        assert (source != grammar.PAD).sum() + 2 == (target != grammar.PAD).sum() and target[0] == grammar.BEGIN
    again, other = grammar.pairs(LANGUAGE, 50, 0, "train"), grammar.pairs(LANGUAGE, 50, 0, "test")
    assert (again.source == found.source).all() and not (other.source == found.source).all()


def test_bleu_by_hand():
    assert bleu([[1, 2, 3, 4, 5]], [[1, 2, 3, 4, 5]]) == pytest.approx(1.0)
    assert bleu([[1, 2, 3, 4]], [[1, 2, 3, 4, 5]]) == pytest.approx(numpy.exp(-0.25))
    assert bleu([[1, 2, 3, 4, 9]], [[1, 2, 3, 4, 5]]) == pytest.approx((4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    assert bleu([[1, 1, 1]], [[1, 2, 3]]) == 0.0


def translators(arms: list[str], repetitions: list[int]) -> Translators:
    params = Translation(arms, OPTIONS, LANGUAGE, Shape(8, 2, 12, 1, 1), 1, 6, 0.01, 0.1, 0.0)
    return Translators(params, repetitions)


def test_transformer_is_causal_ignores_padding_and_keeps_nets_apart():
    net = translators(["relu", "srs"], [0, 1]).net.eval()
    source = torch.tensor([[5, 6, 7, 0, 0]]).expand(4, 1, 5)
    target = torch.tensor([[1, 5, 6, 7]]).expand(4, 1, 4)
    logits = net.decode(target, *net.encode(source))
    later = target.clone()
    later[:, :, 3] = 8
    torch.testing.assert_close(net.decode(later, *net.encode(source))[:, :, :3], logits[:, :, :3])
    torch.testing.assert_close(net.decode(target, *net.encode(source[:, :, :3])), logits, rtol=1e-4, atol=1e-5)
    logits[1].sum().backward()
    assert all(float(p.grad[[0, 2, 3]].abs().sum()) == 0 for p in net.parameters() if p.grad is not None and len(p) == 4)


def test_arms_of_translators_share_weights_and_data():
    found = translators(["relu", "srs"], [2, 5])
    for name, value in found.net.named_parameters():
        if "act" not in name:
            assert torch.equal(value[:2], value[2:]), name
    assert not torch.equal(found.source[0], found.source[1])
    single = translators(["srs"], [5])
    a, b = found.loss(torch.arange(6)), single.loss(torch.arange(6))
    torch.testing.assert_close(found.losses[0, 3], single.losses[0, 0])
    assert float(a.detach()) > float(b.detach())


# --- flows ----------------------------------------------------------------------------------------

FLOW = Generation(["relu", "elu", "softplus", "swish", "srs"], OPTIONS, 2, 6, 0.9, 3.0, 24, 12, 1, 12, 0.05, 300)


def test_spectral_norms_are_exact():
    for shape in ((3, 2, 7), (3, 7, 2)):
        weight = torch.randn(shape)
        torch.testing.assert_close(spectral_norms(weight), torch.linalg.matrix_norm(weight, 2), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", FLOW_ARMS)
def test_slopes_are_those_of_autograd(name):
    act = peers.activation(name, 2, Activation("prcv", 5.0, 3.0, "project")).double()
    x = (3 * torch.randn(2, 50, 4, dtype=torch.float64)).requires_grad_()
    value, steep = act.with_slope(x)
    (wanted,) = torch.autograd.grad(value.sum(), x)
    torch.testing.assert_close(steep, wanted)
    torch.testing.assert_close(value, act(x))
    assert float(steep.abs().max()) <= float(act.lipschitz(2)[0]) + 1e-6


def trained_flow() -> Flows:
    torch.manual_seed(0)
    found = Flows(FLOW, "moons", [0, 1])
    for start in (0, 12):
        found.loss(torch.arange(start, start + 12)).backward()
        found.after_step()
    return found


def test_log_determinant_is_that_of_the_jacobian_and_the_inverse_inverts():
    found = trained_flow()
    x = torch.randn(10, 5, 2)
    z, change = found.net(x)
    for point in range(5):
        jacobian = torch.autograd.functional.jacobian(lambda one: found.net(one[:, None])[0][:, 0].sum(0), x[:, point])
        torch.testing.assert_close(change[:, point], torch.linalg.slogdet(jacobian.transpose(0, 1))[1], rtol=1e-4, atol=1e-5)
    assert float((found.net.inverse(z.detach(), 300) - x).abs().max()) < 1e-5
    assert {arm for arm, _ in found.measure("val")} == set(FLOW.arms)


def test_blocks_contract_by_what_is_asked_whatever_the_activation():
    act = SideBySide(["srs", "swish"], 1, Activation("prcv", 5.0, 3.0, "project"))
    block = Block(10 * torch.randn(2, 2, 16), 10 * torch.randn(2, 16, 2), torch.randn(2, 1, 16), act)
    first, second = block.matrices(0.9)
    a, b = 3 * torch.randn(2, 4000, 2), 3 * torch.randn(2, 4000, 2)
    with torch.no_grad():
        ratio = (block.residual(a, first, second) - block.residual(b, first, second)).norm(dim=2) / (a - b).norm(dim=2)
    assert float(ratio.max()) <= 0.9
    product = spectral_norms(first) * spectral_norms(second)
    torch.testing.assert_close(product * act.lipschitz(), torch.full((2,), 0.9))


def test_an_activation_taken_for_1_lipschitz_breaks_the_inverse():
    """One unit on a line, norms .97: SRS(2, 3) has slope 1.168, so g would stretch by 1.1 there."""
    act = SideBySide(["srs"], 1, Activation("prcv", 5.0, 3.0, "project"))
    block = Block(torch.tensor([[[0.97], [0.0]]]), torch.tensor([[[-0.97, 0.0]]]), torch.zeros(1, 1, 1), act)
    x = torch.linspace(-2, 1, 301).view(1, -1, 1) * torch.tensor([1.0, 0.0])
    with torch.no_grad():
        wrong = (x + block.residual(x, block.first, block.second))[0, :, 0].diff()
        right = (x + block.residual(x, *block.matrices(0.97**2)))[0, :, 0].diff()
    assert bool((wrong < 0).any()) and bool((right > 0).all())


def test_densities_are_scaled_and_refused_by_name():
    for name in densities.DENSITIES:
        x = densities.points(name, 4000, 0, "train")
        assert x.shape == (4000, 2) and abs(x.mean(0)).max() < 0.1 and abs(x.std(0) - 1).max() < 0.15
    with pytest.raises(StageError, match="no such density"):
        densities.points("spiral", 1, 0, "train")


# --- several processes ----------------------------------------------------------------------------


def test_nets_side_by_side_are_not_shared_out_to_processes(monkeypatch):
    """Their rows are nets: cut in two, the batch would fit half of the weights."""
    monkeypatch.setattr(parallel, "_size", 2)
    monkeypatch.setenv("RANK", "0")
    side_by_side, flows = swept(SWEEP, [0], True).net.eval(), Flows(FLOW, "moons", [0, 1]).net
    for net, x in ((side_by_side, torch.randn(9, 9, 5)), (flows, torch.randn(10, 7, 2))):
        alone = net(x)
        with shares.shared_out(net):
            torch.testing.assert_close(net(x), alone)
