"""CLOSE's supernet: shared blocks, one-hot gates, sizes, isomorphic cells, the batched table of truths."""

import pytest
import torch
from torch.nn import functional

from stages.lib import runtime
from stages.lib.data import Split
from stages.lib.errors import StageError
from stages.lib.gumbel import straight_through
from stages.papers.close import benchmark, scoring, space
from stages.papers.close.arms import build
from stages.papers.close.gates import FixedGate
from stages.papers.close.glow import GlowCell, GlowConv
from stages.papers.close.settings import Truth
from stages.papers.close.shape import Shape, closed_form
from stages.papers.close.standalone import Together
from stages.papers.close.supernet import Supernet
from tests.papers.close_settings import GATE, SUPERNETS

SHAPE = Shape([8, 16], 1, 2, 0.0)
IMAGE = (1, 8, 8)
DENSE = space.parse("|nor_conv_3x3~0|+|nor_conv_1x1~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|")


@pytest.fixture
def split() -> Split:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(80) % 10
    x = torch.randn(80, *IMAGE, generator=generator) + y.view(-1, 1, 1, 1) / 5
    return Split(x, y, tuple(map(str, range(10))), (0.0,), (1.0,), "sample")


@pytest.mark.parametrize("blocks", [1, 3, 6])
def test_parameters_follow_the_closed_form(blocks):
    for shape in (SHAPE, Shape([16, 32, 64], 5, 1, 0.1)):
        net = Supernet(shape, (3, 32, 32), 10, blocks)
        assert sum(item.numel() for item in net.parameters()) == closed_form(shape, 3, 10, blocks)


def test_one_block_is_the_vanilla_cell_with_its_edges_tied():
    tied, vanilla = GlowCell(8, 1), GlowCell(8, 6)
    for op, conv in vanilla.convs.items():
        for weight in conv.blocks:
            weight.data.copy_(tied.convs[op].blocks[0].data)
    x = torch.randn(4, 8, 6, 6)
    assert torch.equal(tied(x, DENSE, (0,) * 6), vanilla(x, DENSE, tuple(range(6))))


def test_one_hot_gates_in_training_give_what_evaluation_gives():
    torch.manual_seed(0)
    net = Supernet(SHAPE, IMAGE, 10, 3)
    x = torch.randn(6, *IMAGE)
    blocks = (0, 2, 1, 1, 0, 2)
    gates = functional.one_hot(torch.tensor(blocks), 3).float()
    torch.testing.assert_close(net(x, DENSE, gates), net(x, DENSE, blocks), rtol=1e-5, atol=1e-6)


def test_all_active_blocks_are_computed_and_no_other():
    conv = GlowConv(4, 3, 4)
    logits = torch.zeros(3, requires_grad=True)
    gate = straight_through(torch.softmax(logits + torch.tensor([0.0, 1.0, 0.0]), 0))
    conv.mixed(torch.randn(5, 4, 6, 6), gate).square().mul(torch.rand(5, 4, 6, 6)).sum().backward()
    assert (logits.grad != 0).all()
    assert [weight.grad is None for weight in conv.blocks] == [False, False, False, True]
    assert conv.blocks[1].grad.abs().max() > 0 and conv.blocks[0].grad.abs().max() == 0  # value 0 in the forward pass


def test_isomorphic_cells_agree_with_one_block_and_need_not_with_a_block_an_edge():
    torch.manual_seed(1)
    one, vanilla = Supernet(SHAPE, IMAGE, 10, 1), Supernet(SHAPE, IMAGE, 10, 6)
    x, differ = torch.randn(8, *IMAGE), 0
    groups = [members for members in space.classes().values() if len(members) > 1 and space.has_live_convolution(members[0])]
    for members in groups[::150]:
        first, *others = (one(x, item, (0,) * 6) for item in members[:3])
        for other in others:
            torch.testing.assert_close(other, first, rtol=1e-4, atol=1e-4)
        outs = [vanilla(x, item, tuple(range(6))) for item in members[:2]]
        differ += not torch.allclose(*outs, atol=1e-3)
    assert differ > 0


def test_a_cell_without_a_path_gives_zeros():
    assert not GlowCell(4, 1)(torch.randn(2, 4, 3, 3), (space.CONV3, 0, 0, 0, 0, 0), (0,) * 6).any()


def test_scores_use_batch_statistics_and_leave_no_trace(split):
    net = Supernet(Shape([8, 16], 1, 1, 0.5), IMAGE, 10, 1).train()
    gate, before = FixedGate((0,) * 6), {name: value.clone() for name, value in net.state_dict().items()}
    first = scoring.scores(net, gate, [DENSE], split, 1)
    assert first == scoring.scores(net, gate, [DENSE], split, 1) and net.training  # no dropout
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any("running" in name for name in before)
    net.classifier.bias.data.fill_(float("nan"))
    with pytest.raises(StageError, match="NaN"):
        scoring.scores(net, gate, [DENSE], split, 1)


def test_arms_begin_with_the_same_weights():
    nets = {arm: build(arm, SHAPE, GATE, SUPERNETS, IMAGE, 10, 3).net.state_dict() for arm in ("close", "vanilla", "glow_1")}
    for name, value in nets["glow_1"].items():
        assert torch.equal(value, nets["close"][name]) and torch.equal(value, nets["vanilla"][name])
    assert not torch.equal(nets["close"]["stages.0.0.convs.3.blocks.1"], nets["close"]["stages.0.0.convs.3.blocks.0"])
    with pytest.raises(StageError, match="there is no such arm"):
        build("closed", SHAPE, GATE, SUPERNETS, IMAGE, 10, 3)


def test_images_that_are_too_small():
    with pytest.raises(StageError, match="leave nothing"):
        Supernet(Shape([4] * 5, 1, 1, 0.0), IMAGE, 10, 1)


# --- the table of truths ----------------------------------------------------------------------------


def test_nets_of_different_cells_side_by_side(split):
    cells = [*space.sample(7, 1), DENSE]
    nets = [benchmark.fresh(SHAPE, split, cell, 0) for cell in cells]
    together = Together(nets)
    for mode in (True, False):
        alone = torch.cat([net.train(mode)(split.x) for net in nets], 1)
        torch.testing.assert_close(together.train(mode)(split.x), alone, rtol=1e-4, atol=1e-5)


def test_the_table_does_not_depend_on_how_many_are_trained_at_once(split):
    device = runtime.prepare(1, "cpu", 0)
    params = Truth(seeds=1, seed=0, epochs=2, batch=20, lr=0.05, weight_decay=1e-4, together=5)
    cells = space.sample(7, 1)
    found = benchmark.together(SHAPE, cells, split, split, params, 0, device)
    assert found == pytest.approx(benchmark.one_by_one(SHAPE, cells, split, split, params, 0, device), abs=1 / 80 + 1e-9)
    assert len(set(found)) > 1


def test_isomorphic_cells_are_the_same_function_alone(split):
    groups = [members for members in space.classes().values() if len(members) > 1 and space.has_live_convolution(members[0])]
    for members in groups[::300]:
        outs = []
        for member in members[:2]:
            net = benchmark.fresh(SHAPE, split, member, 0).train()
            for cell in (cell for cells in net.stages for cell in cells):
                for conv in cell.convs.values():  # weights that follow from the operation, wherever it stands
                    torch.manual_seed(conv[1].kernel_size[0])
                    torch.nn.init.normal_(conv[1].weight, std=0.3)
            torch.manual_seed(0)
            for part in (net.stem, net.reductions, net.head):
                for weight in part.parameters():
                    torch.nn.init.normal_(weight, std=0.3)
            outs.append(net(split.x))
        torch.testing.assert_close(*outs, rtol=1e-3, atol=1e-3)
