"""The families of nets: closed forms against counted operations, names of modules, odd resolutions, refusals."""

import random

import pytest
import torch

from stages.lib import macs, models
from stages.lib.errors import StageError
from stages.papers.greedy_network_enlarging.allocation import Allocation, Slot, from_record, slots
from stages.papers.greedy_network_enlarging.ghost_stages import ghost_stages
from stages.papers.greedy_network_enlarging.nets import make_divisible, resized
from stages.papers.greedy_network_enlarging.settings import Base
from stages.papers.greedy_network_enlarging.space import Space, space_of

GHOST = {"depths": [1, 2, 2, 4, 2, 5], "widths": [16, 24, 40, 80, 112, 160], "resolution": 224}
BASES = {
    "plain": Base("plain", [1, 1, 1], [6, 8, 12], 8, {}),
    "ghostnet": Base("ghostnet", **GHOST, options={"generator": "large", "dropout": 0.3, "drop_path": 0.1}),
    "1x": Base("ghostnet", **GHOST, options={"generator": "1x", "dropout": 0.0, "drop_path": 0.0}),
    "efficientnet": Base(
        "efficientnet", [1, 2, 2, 3, 3, 4, 1], [16, 24, 40, 80, 112, 192, 320], 224, {"dropout": 0.2, "drop_path": 0.2}
    ),
}


def space(name: str, classes: int = 10) -> Space:
    return space_of(BASES[name], 1 if name == "plain" else 3, classes)


def varied(found: Space, seed: int) -> Allocation:
    """A random net of the family, not larger than twice the base."""
    draw = random.Random(seed)
    base = found.base
    widths = [found.divisor * draw.randint(1, 2 * w // found.divisor) for w in base.widths]
    depths = [draw.randint(1, 3) for _ in base.depths]
    return Allocation(tuple(depths), tuple(widths), draw.choice([base.resolution // 2 + 1, base.resolution, 97]))


@pytest.mark.parametrize("name", list(BASES))
@pytest.mark.parametrize("seed", [0, 1])
def test_closed_form_counts_what_runs(name, seed):
    nets = space(name)
    for net in (nets.base, varied(nets, seed)):
        record = nets.record(net)
        assert macs.count_record(record) == nets.macs(net)
        with torch.device("meta"):
            assert macs.parameters(models.build(record)) == nets.parameters(net)


@pytest.mark.parametrize("name", list(BASES))
def test_layers_have_the_names_of_modules(name):
    nets = space(name)
    with torch.device("meta"):
        made = nets.build(nets.base)
    layers = nets.layers(nets.base)
    assert all(made.get_submodule(layer.name).weight.numel() == layer.weights for layer in layers)
    assert sum(layer.params for layer in layers) == macs.parameters(made)
    groups = nets.group_macs(nets.base)
    assert list(groups) == ["stem", *map(str, range(nets.base.stages)), "head"]
    assert sum(groups.values()) == nets.macs(nets.base) and all(groups[str(s)] for s in range(nets.base.stages))


@pytest.mark.parametrize("name", list(BASES))
def test_macs_rise_with_every_dimension(name):
    nets = space(name)
    for slot in slots(nets.base.stages):
        step = {"depth": 1, "width": nets.divisor, "resolution": 32}[slot.dimension]
        chain = [nets.base.with_value(slot, nets.base.value(slot) + i * step) for i in range(4)]
        cost = [nets.macs(net) for net in chain]
        assert cost == sorted(set(cost)), slot


def test_growing_a_stage_costs_more_than_the_stage():
    """Channels of stage 4 also set stage 5's first expansion."""
    nets = space("ghostnet")
    wider = nets.base.with_value(Slot("width", 4), 160)
    before, after = nets.group_macs(nets.base), nets.group_macs(wider)
    assert after["5"] > before["5"] and after["0"] == before["0"]


@pytest.mark.parametrize(("name", "side"), [("plain", 9), ("plain", 1), ("1x", 33), ("ghostnet", 31), ("efficientnet", 33)])
def test_forward_and_backward_at_odd_sides(name, side):
    """Down to maps of one pixel; images of another side are resized."""
    nets = space(name)
    net = Allocation(nets.base.depths, nets.base.widths, side)
    torch.manual_seed(0)
    made = nets.build(net).train()
    images = torch.randn(2, nets.channels, side + 3, side + 3)
    loss = made(images).square().mean()
    loss.backward()
    assert loss.isfinite() and all(p.grad is not None for p in made.parameters())
    made.eval()
    with torch.no_grad():
        assert torch.equal(made(images), made(resized(images, side)))


def test_drop_path_falls_on_later_blocks_and_keeps_the_mean():
    nets = space("ghostnet")
    blocks = [block for row in list(nets.build(nets.base).blocks)[:-1] for block in row]
    rates = [block.drop_path for block in blocks]
    assert rates == [pytest.approx(0.1 * b / 16) for b in range(16)]
    block = blocks[-1].train()
    block.drop_path = 0.5
    torch.manual_seed(0)
    x = torch.randn(1, 160, 4, 4).expand(400, -1, -1, -1)
    for norm in block.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.eval()
    with torch.no_grad():
        branch = block(x) - block.shortcut(x)
        block.eval()
        whole = block(x[:1]) - block.shortcut(x[:1])
    dropped = branch.flatten(1).abs().sum(1) == 0
    assert 0.4 < dropped.float().mean() < 0.6
    assert torch.allclose(branch[~dropped], 2 * whole.expand_as(branch[~dropped]), atol=1e-4)


def test_generators_differ_where_the_release_says():
    plain, large = (ghost_stages(generator, GHOST["depths"], GHOST["widths"]) for generator in ("1x", "large"))
    assert [block.hidden for block in plain[3]] == [240, 200, 184, 184]
    assert [block.hidden for block in large[3]] == [240, 200, 200, 200]
    assert [block.squeeze > 0 for row in plain for block in row] == (
        [False] * 3 + [True] * 2 + [False] * 4 + [True] * 2 + [True, False, True, False, True]
    )
    assert all(block.squeeze % 8 == 0 for row in large for block in row)


def test_rounding_to_a_divisor():
    assert [make_divisible(x, 4) for x in (1, 5.9, 6, 17.9)] == [4, 8, 8, 16 + 4]
    assert [make_divisible(x, 8) for x in (8.8, 19.2, 35.2)] == [8, 24, 32]
    assert all(make_divisible(x / 3, 8) >= 0.9 * x / 3 for x in range(1, 900))


@pytest.mark.parametrize(
    ("base", "said"),
    [
        (Base("lenet", [1], [4], 8, {}), "net.family=lenet"),
        (Base("plain", [1, 1], [4], 8, {}), "2 depths, 1 widths"),
        (Base("plain", [], [], 8, {}), "0 depths"),
        (Base("plain", [0], [4], 8, {}), "1 or more"),
        (Base("plain", [1], [4], 8, {"dropout": 0.1}), "exactly the keys"),
        (Base("ghostnet", [1, 1], [4, 4], 8, {"generator": "1x", "dropout": 0, "drop_path": 0}), "6 whole numbers"),
        (Base("ghostnet", **GHOST, options={"generator": "2x", "dropout": 0, "drop_path": 0}), "1x or large"),
        (Base("ghostnet", **GHOST, options={"generator": "1x", "dropout": 1, "drop_path": 0}), "dropout"),
        (Base("efficientnet", [1] * 7, [17] * 7, 224, {"dropout": 0, "drop_path": 0}), "multiple of 8"),
    ],
)
def test_bases_that_are_no_nets(base, said):
    with pytest.raises(StageError, match=said):
        space_of(base, 3, 10)


def test_records_go_round_and_foreign_ones_are_refused():
    net = Allocation((1, 2), (3, 4), 5)
    assert from_record(net.record()) == net
    for wrong in ({}, None, {"depths": [1], "widths": [2]}, {"depths": 1, "widths": 2, "resolution": 3}):
        with pytest.raises(StageError):
            from_record(wrong)
    made = space("plain").build(space("plain").base)
    assert made.sites() == [] and made.narrowed(made.record(), {}) == made.record()
    with pytest.raises(StageError, match="no prunable sites"):
        made.narrowed(made.record(), {"a": 1})


torch.set_num_threads(1)
