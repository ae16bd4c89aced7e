"""CLOSE beyond NAS-Bench-201: cells of the DARTS space, sharing groups and the ResNet space of NDS."""

import copy
import random

import pytest
import torch
from torch.nn import functional

from stages.lib import macs
from stages.lib.darts import published
from stages.lib.errors import StageError
from stages.papers.close import audit, inheritance, search
from stages.papers.close.darts_net import DartsGate, DartsSupernet, edges_of
from stages.papers.close.groups import Groups, grown
from stages.papers.close.nds_net import NdsArchitecture, NdsGate, NdsSupernet, SlicedConv
from stages.papers.close.shape import DartsShape, EncoderShape, GateShape, NdsShape

GATE = GateShape(EncoderShape(8, 8, 8, [8, 8]), [16], 0.0, 5.0)
DARTS = DartsShape(cells=3, channels=2, nodes=4)
NDS = NdsShape(stages=3, depths=[1, 3, 6], widths=[4, 8], stem=4, criteria="max")
IMAGE = (3, 16, 16)
CELL = published("gnas")


# --- DARTS ------------------------------------------------------------------------------------------


def test_edges_of_a_genotype():
    assert edges_of(published("darts_v1").normal) == [(1, 2), (0, 2), (0, 3), (1, 3), (0, 4), (1, 4), (0, 5), (2, 5)]


def test_one_hot_gates_give_what_block_numbers_give():
    torch.manual_seed(0)
    net, x = DartsSupernet(DARTS, IMAGE, 10, 3), torch.randn(2, *IMAGE)
    blocks = {"normal": (0, 1, 2, 0, 1, 2, 0, 1), "reduce": (2, 2, 1, 1, 0, 0, 1, 2)}
    gates = {kind: functional.one_hot(torch.tensor(each), 3).float() for kind, each in blocks.items()}
    torch.testing.assert_close(net(x, CELL, gates), net(x, CELL, blocks), rtol=1e-4, atol=1e-5)
    other = {**blocks, "normal": (1, 1, 2, 0, 1, 2, 0, 1)}
    assert not torch.equal(net(x, CELL, other), net(x, CELL, blocks))


def test_gates_of_both_kinds_learn_and_inherit():
    torch.manual_seed(0)
    net, gate = DartsSupernet(DARTS, IMAGE, 10, 3), DartsGate(GATE, 4, 3)
    gates = gate.draw(CELL, 2, torch.Generator().manual_seed(0))
    assert {kind: tuple(z.shape) for kind, z in gates.items()} == {"normal": (8, 2), "reduce": (8, 2)}
    functional.cross_entropy(net(torch.randn(4, *IMAGE), CELL, gates), torch.arange(4)).backward()
    for kind in gate.kinds.values():
        assert kind.mlp.last.weight.grad[:2].any() and not kind.mlp.last.weight.grad[2].any()
    assert all(stack[2].grad is None for stack in net.stacks())
    before = copy.deepcopy(gate.state_dict())
    inheritance.inherit_gate(gate, 1, 0, "inherit")
    for kind in gate.kinds:
        name = f"kinds.{kind}.mlp.3.weight"
        assert torch.equal(gate.state_dict()[name][1], before[name][1] + before[name][0])


def test_reductions_have_blocks_of_both_strides_and_no_running_statistics():
    net = DartsSupernet(DARTS, IMAGE, 10, 2)
    assert [sorted(cell.glow) for cell in net.cells] == [["1"], ["1", "2"], ["1", "2"]]
    assert not any("running" in name for name in net.state_dict())
    stacks = net.stacks()
    assert all(len(stack) == 2 and stack[0].shape == stack[1].shape for stack in stacks)
    own = sum(item.numel() for stack in stacks for item in stack[1:])
    assert own == macs.parameters(DartsSupernet(DARTS, IMAGE, 10, 3)) - macs.parameters(net)


def test_a_random_genotype_is_computed():
    net, gate = DartsSupernet(DARTS, IMAGE, 10, 2), DartsGate(GATE, 4, 2)
    genotype = search.random_genotype(4, random.Random(0))
    assert net(torch.randn(2, *IMAGE), genotype, gate.decide(genotype, 2)).isfinite().all()
    assert audit.darts_pairs() == 1076746950455072400


# --- groups -----------------------------------------------------------------------------------------


def spans(groups: Groups) -> list[tuple[int, int]]:
    return [(left, right) for left, right, _ in groups.spans]


def test_orders_of_splitting_by_hand():
    assert [spans(grown(8, count, "pre"))[0] for count in (1, 2, 3, 4)] == [(0, 8), (0, 4), (0, 2), (0, 1)]
    assert spans(grown(8, 3, "max")) == [(0, 2), (2, 4), (4, 8)]
    assert spans(grown(8, 4, "max")) == [(0, 2), (2, 4), (4, 6), (6, 8)]
    assert spans(grown(8, 5, "pre")) == [(0, 1), (1, 2), (2, 3), (3, 4), (4, 8)]


@pytest.mark.parametrize("criteria", ["max", "pre"])
@pytest.mark.parametrize("positions", [1, 7, 23])
def test_groups_partition_the_positions(criteria, positions):
    groups = Groups.whole(positions)
    for count in range(1, positions + 1):
        gate = groups.gate()
        assert len(gate) == positions and set(gate) == set(range(count))
        assert [left for left, _ in spans(groups)] == [0, *(right for _, right in spans(groups)[:-1])]
        if count < positions:
            after, parent = groups.split(criteria)
            moved = [place for place in range(positions) if after.gate()[place] != gate[place]]
            assert {gate[place] for place in moved} == {parent} and {after.gate()[place] for place in moved} == {count}
            groups = after
    with pytest.raises(StageError, match="no group can be split"):
        groups.split(criteria)


def test_criteria_that_do_not_exist():
    with pytest.raises(StageError, match="cl_criteria=min"):
        Groups.whole(4).split("min")
    with pytest.raises(StageError, match="expected 1 or more"):
        Groups.whole(0)


# --- the ResNet space -------------------------------------------------------------------------------


def test_narrow_convolutions_are_the_first_channels():
    conv, x = SlicedConv(8, 6, 3), torch.randn(3, 5, 4, 4)
    torch.testing.assert_close(conv(x, 4), conv(x, 6)[:, :4])
    wide = torch.cat([x, torch.zeros(3, 3, 4, 4)], 1)
    torch.testing.assert_close(conv(wide, 6), conv(x, 6))


def test_positions_use_the_block_of_their_group():
    torch.manual_seed(0)
    net, gate = NdsSupernet(NDS, IMAGE, 10, 3), NdsGate(NDS)
    x, deep = torch.randn(2, *IMAGE), NdsArchitecture((6, 1, 3), (8, 4, 8))
    first = net(x, deep, gate.draw(deep, 1, None))
    for stack in net.stacks():
        stack[1].data.zero_()
    inheritance.inherit_blocks(net.stacks(), 1, 0)
    assert torch.equal(net(x, deep, gate.decide(deep, 2)), first)  # zero initial weights: an exact copy
    with torch.no_grad():
        net.shared[0][1].first.weight.mul_(-1)
    assert not torch.equal(net(x, deep, gate.decide(deep, 2)), first)
    shallow = NdsArchitecture((1, 1, 1), (4, 8, 4))
    assert torch.equal(net(x, shallow, gate.decide(shallow, 1)), net(x, shallow, gate.decide(shallow, 3)))


def test_more_blocks_than_positions():
    with pytest.raises(StageError, match="expected 1 to 5"):
        NdsSupernet(NDS, IMAGE, 10, 6)
