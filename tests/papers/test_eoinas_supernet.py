"""EoiNAS's supernet: edges, mixing, giving up operations with inheritance, sizes."""

import copy
import dataclasses
import itertools

import pytest
import torch
from torch import nn

from stages.lib import macs
from stages.lib.darts import OPERATIONS, Genotype
from stages.lib.darts.network import Cell
from stages.papers.eoinas.noise import NOISE, Noise
from stages.papers.eoinas.settings import CANDIDATES
from stages.papers.eoinas.supernet import MixedCell, Space, Supernet, macs_of, sources

torch.set_num_threads(1)

SOME = ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_3x3")
SPACE = Space((1, 8, 8), 10, SOME, nodes=2, cells=3, channels=4, stem="cifar", dense=False)


def uniform(net: Supernet) -> dict[str, torch.Tensor]:
    return {name: torch.full((len(edges), len(edges[0])), 1.0 / len(edges[0])) for name, edges in net.kept.items()}


def one_hot(net: Supernet, chosen: dict[str, list[str]]) -> dict[str, torch.Tensor]:
    rows = {name: [[float(op == chosen[name][e]) for op in ops] for e, ops in enumerate(net.kept[name])] for name in net.kept}
    return {name: torch.tensor(row) for name, row in rows.items()}


@pytest.mark.parametrize(("nodes", "edges"), [(1, 2), (2, 5), (4, 14)])
def test_edges(nodes, edges):
    assert dataclasses.replace(SPACE, nodes=nodes).edges == edges == len(sources(nodes))
    assert sources(2) == [0, 1, 0, 1, 2]


def test_candidates_are_those_of_the_darts_space():
    assert CANDIDATES == OPERATIONS


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
@pytest.mark.parametrize("dense", [False, True])
def test_closed_form_of_the_macs_is_what_runs(stem, dense):
    space = dataclasses.replace(SPACE, stem=stem, dense=dense, image=(3, 32, 24), operations=OPERATIONS)
    net = Supernet(space)

    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net(x, uniform(self.net))

    x = torch.randn(2, 3, 32, 24)
    assert macs.count(Mixed(), x) == net.macs() == macs_of(space, net.kept)
    net.drop({name: ["sep_conv_3x3"] * 5 for name in net.kept})
    assert macs.count(Mixed(), x) == net.macs()
    assert net(x, uniform(net)).shape == ((2, 10, 32, 24) if dense else (2, 10))


def test_no_candidate_learns_scale_or_shift_and_pools_are_normalised():
    net = Supernet(dataclasses.replace(SPACE, operations=OPERATIONS))
    for cell in net.blocks:
        norms = [module for module in cell.modules() if isinstance(module, nn.BatchNorm2d)]
        assert norms and not any(norm.affine for norm in norms)
        assert isinstance(cell.edges[0].ops["max_pool_3x3"][1], nn.BatchNorm2d)


def test_giving_up_operations_shrinks_the_net_and_changes_nothing_else():
    """Every edge gives up its own operation; what stays is bit-identical."""
    torch.manual_seed(0)
    net = Supernet(SPACE).eval()
    x = torch.randn(4, 1, 8, 8)
    before, sizes = copy.deepcopy(net.state_dict()), [macs.parameters(net)]
    for _ in range(len(SOME) - 1):
        weighted = [op for op in ("sep_conv_3x3", "dil_conv_3x3") if op in net.kept["normal"][0]]
        # Edge 0 always loses an operation with weights, if there is one, the others another one each.
        dropped = {
            name: [(weighted or edges[0])[0] if e == 0 else edge[e % len(edge)] for e, edge in enumerate(edges)]
            for name, edges in net.kept.items()
        }
        gone = {name: [set(edge) - {op} for edge, op in zip(net.kept[name], dropped[name], strict=True)] for name in net.kept}
        net.drop(dropped)
        assert {name: [set(edge) for edge in edges] for name, edges in net.kept.items()} == gone
        sizes.append(macs.parameters(net))
        after = net.state_dict()
        assert set(after) <= set(before) and all(torch.equal(after[key], before[key]) for key in after)
        assert all(list(edge.ops) == net.kept[cell.name][e] for cell in net.blocks for e, edge in enumerate(cell.edges))
        assert net(x, uniform(net)).shape == (4, 10)
    # Strictly, while some edge still has an operation with weights to give up.
    assert all(later < earlier for earlier, later in itertools.pairwise(sizes))
    assert sizes[-1] < sizes[0] and all(len(edge) == 1 for edges in net.kept.values() for edge in edges)


def test_a_one_hot_mixture_is_the_pruned_net_and_the_discrete_cell():
    torch.manual_seed(0)
    net, x = Supernet(SPACE).eval(), torch.randn(3, 1, 8, 8)
    # The third node edge of a cell that a genotype leaves out is `none`.
    chosen = {
        "normal": ["sep_conv_3x3", "skip_connect", "max_pool_3x3", "none", "dil_conv_3x3"],
        "reduce": ["max_pool_3x3", "sep_conv_3x3", "none", "skip_connect", "dil_conv_3x3"],
    }
    whole = net(x, one_hot(net, chosen))
    genotype = Genotype(
        normal=(("sep_conv_3x3", 0), ("skip_connect", 1), ("max_pool_3x3", 0), ("dil_conv_3x3", 2)),
        reduce=(("max_pool_3x3", 0), ("sep_conv_3x3", 1), ("skip_connect", 1), ("dil_conv_3x3", 2)),
    )
    first = second = net.stem(x)
    for plan, cell in zip(SPACE.plans(), net.blocks, strict=True):
        discrete = Cell(plan, genotype.cell(plan.reduction), affine=False, pool_norm=True).eval()
        discrete.preprocess_0, discrete.preprocess_1 = cell.preprocess_0, cell.preprocess_1
        used = [e for e, op in enumerate(chosen[cell.name]) if op != "none"]
        discrete.edges = nn.ModuleList(cell.edges[e].ops[chosen[cell.name][e]] for e in used)
        first, second = second, discrete(first, second)
    torch.testing.assert_close(net.fc(second.mean((2, 3))), whole)
    for _ in range(len(SOME) - 1):
        net.drop({
            name: [next(op for op in edge if op != chosen[name][e]) for e, edge in enumerate(edges)] for name, edges in net.kept.items()
        })  # fmt: skip
    torch.testing.assert_close(net(x, uniform(net)), whole)


def test_dropout_touches_skip_connections_while_training_only():
    plan = SPACE.plans()[0]
    cell = MixedCell(plan, [["skip_connect"]] * 5, 2)
    x, weights = torch.randn(8, 12, 8, 8), torch.ones(5, 1)
    torch.manual_seed(0)
    dropped = cell(x, x, weights, 0.5)
    assert not torch.equal(dropped, cell(x, x, weights, 0.0))
    cell.eval()
    assert torch.equal(cell(x, x, weights, 0.5), cell(x, x, weights, 0.0))


def test_noise_is_deterministic_differs_between_pictures_and_has_no_gradient():
    x = torch.randn(20, 4, 8, 8, requires_grad=True)
    found = Noise(2)(x)
    assert found.shape == (20, 4, 4, 4) and not found.requires_grad and torch.equal(found, Noise(2)(x))
    assert abs(float(found.mean())) < 0.1 and float(found.std()) == pytest.approx(1.0, abs=0.1)
    correlation = torch.corrcoef(torch.stack([found.flatten(), x.detach()[:, :, ::2, ::2].flatten()]))[0, 1]
    assert abs(float(correlation)) < 0.1
    space = dataclasses.replace(SPACE, operations=(*SOME[:-1], NOISE))
    assert Supernet(space).macs() < Supernet(SPACE).macs()
