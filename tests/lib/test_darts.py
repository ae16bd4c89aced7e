"""The DARTS space: operations, genotypes, the discrete net, and its sizes to the digit."""

import copy

import pytest
import torch
from torch import nn

from stages.lib import macs, models, weights
from stages.lib.darts import (
    OPERATIONS,
    PUBLISHED,
    FactorizedReduce,
    Genotype,
    ReluConvBn,
    darts_record,
    operation,
    parse,
    preprocess,
    published,
)
from stages.lib.darts.genotype import CELLS
from stages.lib.darts.geometry import operation_layers
from stages.lib.darts.network import Cell, drop_path
from stages.lib.darts.plan import CellPlan, cell_plans
from stages.lib.errors import StageError

torch.set_num_threads(1)

# Parameters and MACs without the auxiliary head: CIFAR (C = 36, 20 cells, 32 px), ImageNet (C = 48, 14 cells, 224 px).
SIZES = {
    "darts_v1": (3169414, 500987520, 4510432, 505864704),
    "darts_v2": (3349342, 528359040, 4718752, 529911552),
    "pdarts": (3433798, 532174464, 4944352, 542819328),
    "gnas": (4142062, 639172224, 5818528, 639759360),
    "gnas_2": (3525598, 541768320, 5101312, 555322560),
}


def small(genotype: Genotype | None = None, **changes) -> dict:
    """The record of a small net on 16x16 images."""
    settings = {"cells": 3, "channels": 4, "image": [1, 16, 16], "classes": 10, **changes}
    return darts_record(genotype or published("gnas_2"), **settings)


# --- sizes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(SIZES))
def test_published_genotypes_have_their_sizes(name):
    cifar = macs.total(darts_record(published(name), 20, 36, [3, 32, 32], 10))
    imagenet = macs.total(darts_record(published(name), 14, 48, [3, 224, 224], 1000, "imagenet"))
    assert (cifar.params, cifar.macs, imagenet.params, imagenet.macs) == SIZES[name]
    assert set(PUBLISHED) == set(SIZES)


@pytest.mark.parametrize("image", [16, 13])
@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_closed_form_names_every_layer_and_agrees_with_what_runs(stem, image):
    for name in ("darts_v1", "pdarts", "gnas_2"):
        record = small(published(name), stem=stem, image=[3, image, image + 3])
        net = models.build(record)
        found = {cost.name: cost.params for cost in macs.closed_form(record)}
        held = {path: sum(p.numel() for p in module.parameters(recurse=False)) for path, module in net.named_modules()}
        assert found == {path: count for path, count in held.items() if count}
        assert macs.total(record).macs == macs.count(net, torch.randn(2, 3, image, image + 3))


@pytest.mark.slow
def test_a_published_net_counted_as_it_runs():
    assert macs.count_record(darts_record(published("gnas_2"), 20, 36, [3, 32, 32], 10)) == SIZES["gnas_2"][1]


# --- operations -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize(("stride", "side"), [(1, 8), (2, 8), (2, 7)])
def test_every_operation_keeps_channels_and_halves_sides(name, stride, side):
    x = torch.randn(2, 5, side, side)
    for affine, norm in ((True, False), (False, True)):
        module = operation(name, 5, stride, affine, norm)
        assert module(x).shape == (2, 5, -(-side // stride), -(-side // stride))
        learnt = sum(p.numel() for p in module.parameters())
        assert learnt == sum(layer.params for layer in operation_layers(name, "", 5, stride, (side, side), affine))


def test_operations_compute_what_they_are_called():
    x = torch.randn(2, 4, 6, 6)
    assert operation("none", 4)(x).count_nonzero() == 0
    assert torch.equal(operation("skip_connect", 4)(x), x)
    corner = operation("avg_pool_3x3", 4)(x)[:, :, 0, 0]
    torch.testing.assert_close(corner, x[:, :, :2, :2].mean((2, 3)))  # padding is not counted
    normed = operation("max_pool_3x3", 4, affine=False, pool_norm=True)(x)
    torch.testing.assert_close(normed.mean((0, 2, 3)), torch.zeros(4), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("name", "reach"), [("sep_conv_3x3", 2), ("sep_conv_5x5", 4), ("dil_conv_3x3", 2), ("dil_conv_5x5", 4)]
)
def test_receptive_fields(name, reach):
    """How far one pixel is seen: two 3x3 in a row, two 5x5, one of dilation 2."""
    module = operation(name, 2, affine=False).eval()
    for parameter in module.parameters():
        nn.init.ones_(parameter)
    pixel = torch.zeros(1, 2, 17, 17)
    pixel[:, :, 8, 8] = 1.0
    rows = module(pixel)[0, 0].abs().sum(1).nonzero().flatten()
    assert (rows.min(), rows.max()) == (8 - reach, 8 + reach)


def test_factorized_reduce_sees_every_diagonal():
    module = FactorizedReduce(1, 2, affine=False).eval()
    nn.init.ones_(module.conv_1.weight)
    nn.init.ones_(module.conv_2.weight)
    x = torch.arange(16.0).view(1, 1, 4, 4)
    found = module(x) * (1 + module.bn.eps) ** 0.5
    torch.testing.assert_close(found[0, 0], x[0, 0, ::2, ::2])
    torch.testing.assert_close(found[0, 1], x[0, 0, 1::2, 1::2])


def test_preprocess_blocks():
    assert isinstance(preprocess(6, 4, halve=False), ReluConvBn)
    assert preprocess(6, 4, halve=True, affine=False)(torch.randn(2, 6, 8, 8)).shape == (2, 4, 4, 4)


def test_an_unknown_operation():
    with pytest.raises(StageError, match="sep_conv_7x7.*expected one of none, max_pool_3x3"):
        operation("sep_conv_7x7", 4)


# --- genotypes ------------------------------------------------------------------------------------


def test_genotypes_survive_json_and_know_their_nodes():
    for genotype in PUBLISHED.values():
        assert parse(genotype.record()) == genotype and genotype.nodes == 4


@pytest.mark.parametrize(
    ("place", "pair", "said"),
    [
        (0, ["sep_conv_3x3", 2], "node 2: predecessor '2'; expected a node from 0 to 1, else the cell is no DAG"),
        (3, ["sep_conv_3x3", 5], "else the cell is no DAG"),
        (3, ["sep_conv_3x3", -1], "else the cell is no DAG"),
        (3, ["sep_conv_3x3", "1"], "else the cell is no DAG"),
        (1, ["sep_conv_3x3", 0], "two different predecessors"),
        (2, ["none", 0], "operation 'none'"),
        (2, ["conv", 0], "operation 'conv'"),
        (2, [["conv"], 0], "expected one of max_pool_3x3"),
        (2, "conv", "list of .operation, predecessor. pairs"),
    ],
)
@pytest.mark.parametrize("cell", CELLS)
def test_what_is_no_genotype(cell, place, pair, said):
    record = copy.deepcopy(published("gnas").record())
    record["normal"][0][1], record["normal"][1][1] = 0, 1
    record[cell][place] = pair
    with pytest.raises(StageError, match=said):
        parse(record)


def test_records_of_another_shape():
    whole = published("gnas").record()
    for record in ([], {"normal": whole["normal"]}, {**whole, "normal": None}, {**whole, "normal": whole["normal"][:6]}):
        with pytest.raises(StageError, match="genotype"):
            parse(record)
    for pairs in ([], whole["normal"][:3]):
        with pytest.raises(StageError, match="two pairs for every node"):
            parse({**whole, "normal": pairs})
    with pytest.raises(StageError, match="expected one of darts_v1"):
        published("darts_v3")


# --- the net --------------------------------------------------------------------------------------


def test_a_node_is_the_sum_of_its_two_edges():
    plan = CellPlan(first=6, second=4, channels=4, reduction=False, halve=True, sides=(8, 8))
    cell = Cell(plan, (("skip_connect", 0), ("max_pool_3x3", 1), ("skip_connect", 2), ("avg_pool_3x3", 0))).eval()
    first, second = torch.randn(2, 6, 16, 16), torch.randn(2, 4, 8, 8)
    a, b = cell.preprocess_0(first), cell.preprocess_1(second)
    two = a + nn.functional.max_pool2d(b, 3, 1, 1)
    three = two + nn.functional.avg_pool2d(a, 3, 1, 1, count_include_pad=False)
    torch.testing.assert_close(cell(first, second), torch.cat([two, three], 1))


def test_widths_double_and_sides_halve_at_a_third_and_two_thirds():
    plans = cell_plans(20, 36, 4, "cifar", (32, 32))
    assert [plan.channels for plan in plans] == [36] * 6 + [72] * 7 + [144] * 7
    assert [index for index, plan in enumerate(plans) if plan.reduction] == [6, 13]
    assert [index for index, plan in enumerate(plans) if plan.halve] == [7, 14]
    assert plans[0].first == plans[0].second == 108 and plans[-1].sides == (8, 8)
    assert cell_plans(14, 48, 4, "imagenet", (28, 28))[0].halve


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_saved_and_loaded_nets_answer_alike(tmp_path, stem):
    net = models.build(small(stem=stem)).eval()
    weights.save_model(tmp_path / "net.safetensors", net)
    x = torch.randn(3, 1, 16, 16)
    assert torch.equal(weights.load_model(tmp_path / "net.safetensors")(x), net(x))


def test_drop_path_zeroes_samples_keeps_the_mean_and_spares_identities():
    torch.manual_seed(0)
    dropped = drop_path(torch.ones(4000, 1, 2, 2), 0.3)
    assert dropped.unique().tolist() == pytest.approx([0.0, 1 / 0.7])
    assert torch.equal(dropped.amax((1, 2, 3)), dropped.amin((1, 2, 3)))
    assert float(dropped.mean()) == pytest.approx(1.0, abs=0.05)
    skip = (("skip_connect", 0), ("skip_connect", 1))
    cell = Cell(CellPlan(4, 4, 4, False, False, (8, 8)), skip)
    x = torch.randn(2, 4, 8, 8)
    assert torch.equal(cell(x, x, 0.9), cell(x, x, 0.0))


def test_drop_path_acts_while_training_only():
    torch.manual_seed(0)
    net, x = models.build(small()), torch.randn(4, 1, 16, 16)
    net.drop = 0.5
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))


@pytest.mark.parametrize(("stem", "side", "head"), [("cifar", 32, 768), ("imagenet", 224, 768)])
def test_the_auxiliary_head_speaks_in_training_and_is_not_counted(stem, side, head):
    record = small(stem=stem, image=[3, side, side], channels=4, auxiliary=True)
    net = models.build(record)
    logits, aside = net.both(torch.randn(2, 3, side, side))
    assert logits.shape == aside.shape == (2, 10) and net.auxiliary.classifier.in_features == head
    assert net.eval().both(torch.randn(2, 3, side, side))[1] is None
    assert macs.total(record) == macs.total({**record, "auxiliary": False})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"auxiliary": True}, "the head needs 8"),
        ({"stem": "tiny"}, "cifar or imagenet"),
        ({"cells": 1}, "cells"),
        ({"channels": 0}, "channels"),
        ({"classes": 0}, "classes"),
    ],
)
def test_records_that_are_no_net(changes, said):
    with pytest.raises(StageError, match=said):
        small(**changes)
    with pytest.raises(StageError, match="no prunable channels"):
        models.family(small()).narrowed(small(), {})
