"""CLOSE's encoder, gates, curriculum and weight inheritance."""

import copy
import math

import pytest
import torch
from scipy import stats
from torch import nn

from stages.lib.errors import StageError
from stages.lib.gumbel import straight_through
from stages.papers.close import curriculum, inheritance, space
from stages.papers.close.arms import schedule_of
from stages.papers.close.encoder import FlowLayer
from stages.papers.close.gates import ArchitectureGate, NodeGate, RandomGate, nb201_encoder
from stages.papers.close.glow import GlowConv
from stages.papers.close.shape import EncoderShape, GateShape, gate_closed_form
from stages.papers.close.supernet import Supernet
from tests.papers.close_settings import GATE
from tests.papers.test_close_supernet import DENSE, IMAGE, SHAPE

PAPER = GateShape(EncoderShape(48, 48, 96, [128] * 5), [200] * 3, 0.1, 5.0)


def noise(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- encoder and gates ------------------------------------------------------------------------------


@pytest.mark.parametrize(("blocks", "size"), [(3, 246579), (4, 246780), (5, 246981)])
def test_parameters_of_the_papers_gate(blocks, size):
    assert sum(item.numel() for item in NodeGate(PAPER, blocks).parameters()) == size == gate_closed_form(PAPER, 5, blocks)


def test_a_flow_layer_by_hand():
    layer = FlowLayer(2, 3, 2)
    x, ops = torch.randn(4, 2), torch.randn(3, 2)
    edges = [(0, 1), (0, 2), (1, 2)]
    sources, targets = (torch.tensor(side) for side in zip(*edges))
    found = layer(x, sources, targets, ops, 1, 1)
    support = x @ layer.weight
    expected = torch.zeros(4, 3)
    expected[0] = support[0]
    for (source, target), op in zip(edges, ops):
        expected[target] += torch.sigmoid(layer.attention.weight @ op + layer.attention.bias) * support[source]
    torch.testing.assert_close(found, expected)
    half = layer(x, sources, targets, ops, 1, 2)
    torch.testing.assert_close(half[1:], expected[1:] / 2)  # a mean over two parallel edges
    assert layer.weight.abs().max() <= 1 / math.sqrt(3)


def test_none_carries_nothing_and_operations_matter():
    encoder = nb201_encoder(GATE.encoder)
    nothing = encoder(space.EDGES, (space.NONE,) * 6)
    assert not nothing[1:].any() and nothing[0].any()
    assert not torch.equal(encoder(space.EDGES, DENSE), encoder(space.EDGES, DENSE[::-1]))


@pytest.mark.parametrize("kind", [NodeGate, ArchitectureGate])
def test_gates_reach_active_blocks_only(kind):
    torch.manual_seed(0)
    gate = kind(GATE, 4).eval()
    z = gate.draw(DENSE, 2, noise())
    assert z.shape == (6, 2) and set(z.unique().tolist()) <= {0.0, 1.0} and (z.sum(1) == 1).all()
    (z * torch.randn(6, 2, generator=noise(1))).sum().backward()
    for block in range(4):
        rows = gate.mlp.last.weight.grad[gate.rows(block)]
        assert rows.any() if block < 2 else not rows.any()
    assert gate.encoder.op.grad.any()


def test_level_one_has_nothing_to_choose():
    for gate in (NodeGate(GATE, 3), RandomGate()):
        assert gate.draw(DENSE, 1, noise()) == gate.decide(DENSE, 1) == (0,) * 6


def test_decisions_are_the_largest_logits_and_sampling_follows_softmax():
    torch.manual_seed(0)
    gate = NodeGate(GATE, 3).eval()
    with torch.no_grad():
        gate.mlp.last.weight.mul_(8)
        logits = gate.logits(DENSE)
    assert gate.decide(DENSE, 3) == gate.decide(DENSE, 3) == tuple(logits.argmax(1).tolist())
    gate.logits = lambda architecture: logits
    generator, count = noise(), 1500
    for temperature in (0.2, 5.0):  # only the gradient depends on it
        gate.temperature = temperature
        draws = torch.stack([gate.draw(DENSE, 3, generator).detach() for _ in range(count // 3)])
        assert stats.chisquare(draws[:, 0].sum(0), torch.softmax(logits[0], 0) * (count // 3), sum_check=False).pvalue > 1e-3
    sampled = torch.tensor([gate.decide(DENSE, 3, generator)[3] for _ in range(count)])
    seen = torch.bincount(sampled, minlength=3)
    assert stats.chisquare(seen, torch.softmax(logits[3], 0) * count, sum_check=False).pvalue > 1e-3


def test_straight_through_is_one_hot_with_the_gradient_of_softmax():
    logits = torch.randn(6, 3, generator=noise(), requires_grad=True)
    weights, soft = torch.randn(6, 3, generator=noise(1)), torch.softmax(logits / 5.0, 1)
    (expected,) = torch.autograd.grad((soft * weights).sum(), logits, retain_graph=True)
    hard = straight_through(soft)
    assert set(hard.unique().tolist()) == {0.0, 1.0}
    (found,) = torch.autograd.grad((hard * weights).sum(), logits)
    torch.testing.assert_close(found, expected)


def test_the_random_gate_is_uniform_in_training_and_fixed_in_scores():
    gate, generator = RandomGate(), noise()
    draws = torch.tensor([gate.draw(DENSE, 3, generator) for _ in range(500)]).flatten()
    assert stats.chisquare(torch.bincount(draws, minlength=3)).pvalue > 1e-3
    assert gate.decide(DENSE, 3) == gate.decide(DENSE, 3)
    assert len({gate.decide(item, 3) for item in space.sample(30, 0)}) > 10


# --- curriculum -------------------------------------------------------------------------------------


def test_levels_of_the_papers_schedule():
    assert [curriculum.level([1, 201, 401], epoch) for epoch in (1, 200, 201, 400, 401)] == [1, 1, 2, 2, 3]
    assert curriculum.level([1] * 9 + [201, 201], 200) == 9 and curriculum.level([1] * 9 + [201, 201], 201) == 11


@pytest.mark.parametrize(
    ("schedule", "said"), [([], "epoch 1"), ([2, 3], "epoch 1"), ([1, 5, 3], "never fall"), ([1, 11], "the run has 10"),
                           ([1, 2, 3], "3 levels for 2 blocks")],
)  # fmt: skip
def test_schedules_that_do_not_fit(schedule, said):
    with pytest.raises(StageError, match=said):
        curriculum.check(schedule, 10, 2)


def test_schedules_of_the_arms():
    assert schedule_of("close", [1, 4, 7]) == schedule_of("random_gate", [1, 4, 7]) == (1, 4, 7)
    assert schedule_of("glow_1", [1, 4, 7]) == (1,)
    assert schedule_of("glow_3", [1, 4, 7]) == (1, 1, 1) and schedule_of("vanilla", [1, 4]) == (1,) * 6


def test_the_rate_falls_as_torchs_does():
    generator, optimiser = noise(), torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.05)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, patience=2, factor=0.5)
    ours = curriculum.Plateau(0.05, 2, 0.5)
    for loss in (1 + torch.rand(60, generator=generator)).tolist():
        theirs.step(loss)
        assert ours.step(loss) == optimiser.param_groups[0]["lr"]
    assert ours.lr < 0.01


# --- inheritance ------------------------------------------------------------------------------------


def test_a_new_block_is_its_own_weights_and_its_parents():
    net = Supernet(SHAPE, IMAGE, 10, 3)
    before = copy.deepcopy(net.state_dict())
    inheritance.inherit_blocks(net.stacks(), 2, 1)
    for name, value in net.state_dict().items():
        if name.endswith("blocks.2"):
            assert torch.equal(value, before[name] + before[name[:-1] + "1"])
        else:
            assert torch.equal(value, before[name])


def test_from_zero_it_is_its_parent_to_the_bit():
    conv = GlowConv(4, 3, 2)
    nn.init.zeros_(conv.blocks[1])
    inheritance.inherit_blocks([list(conv.blocks)], 1, 0)
    x = torch.randn(2, 4, 5, 5)
    assert torch.equal(conv(x, 1), conv(x, 0))


@pytest.mark.parametrize("kind", [NodeGate, ArchitectureGate])
def test_rows_of_the_gate_are_added_in_place(kind):
    gate = kind(GATE, 3)
    parameter, before = gate.mlp.last.weight, gate.mlp.last.weight.clone()
    inheritance.inherit_gate(gate, 1, 0, "inherit")
    assert gate.mlp.last.weight is parameter  # the tensor that the optimiser holds
    assert torch.equal(parameter[gate.rows(1)], before[gate.rows(1)] + before[gate.rows(0)])
    assert torch.equal(parameter[gate.rows(0) + gate.rows(2)], before[gate.rows(0) + gate.rows(2)])


@pytest.mark.parametrize(("rule", "changed"), [("last", 2), ("mlp", 4)])
def test_parts_of_the_gate_start_afresh(rule, changed):
    gate = NodeGate(GATE, 3)
    before = copy.deepcopy(gate.state_dict())
    inheritance.inherit_gate(gate, 1, 0, rule)
    differing = [name for name, value in gate.state_dict().items() if not torch.equal(value, before[name])]
    assert len(differing) == changed and all(name.startswith("mlp") for name in differing)


def test_parents():
    assert inheritance.parent_of(3, "prev", noise()) == 2
    generator = noise()
    assert {inheritance.parent_of(3, "random", generator) for _ in range(40)} == {0, 1, 2}
    with pytest.raises(StageError, match="wit_from=next"):
        inheritance.parent_of(3, "next", noise())
    with pytest.raises(StageError, match="gate_at_level=copy"):
        inheritance.inherit_gate(RandomGate(), 1, 0, "copy")
