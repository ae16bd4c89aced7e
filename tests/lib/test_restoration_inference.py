"""EDSR's blocks, tiles and the self-ensemble."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stages.lib.errors import StageError
from stages.lib.restoration import blocks, degrade, ensemble, tiles

IPT = {"tile": 24, "stride": 6, "margin": 6}
SIZES = pytest.mark.parametrize("size", [(24, 24), (25, 61), (57, 31), (10, 70), (1, 5), (100, 23)])


def image(*size: int) -> torch.Tensor:
    return torch.rand(3, *size, generator=torch.Generator().manual_seed(sum(size))) * 255


# --- tiles ----------------------------------------------------------------------------------------


@SIZES
@pytest.mark.parametrize("settings", [IPT, {"tile": 24, "stride": 24, "margin": 0}, {"tile": 16, "stride": 5, "margin": 3}])
def test_tiling_the_identity_gives_the_image(size, settings):
    x = image(*size)
    assert torch.equal(tiles.tiled(lambda tile: tile, x, batch=7, **settings), x)


@SIZES
def test_tiling_an_offset_gives_the_offset(size):
    x = image(*size)
    assert torch.allclose(tiles.tiled(lambda tile: tile + 3, x, **IPT), x + 3, atol=1e-4)


@pytest.mark.parametrize("factor", [2, 3])
def test_tiling_enlarges_and_leaves_no_seams_where_the_margin_covers_the_reach(factor):
    """Bicubic enlargement looks two pixels far, less than the margin."""
    x = image(50, 41)
    found = tiles.tiled(lambda tile: degrade.upscale(tile, factor), x, factor=factor, **IPT)
    assert torch.allclose(found, degrade.upscale(x, factor), atol=1e-3)


def test_tiling_does_not_depend_on_the_batch_and_may_change_channels():
    x = image(40, 40)
    net = nn.Conv2d(3, 2, 3, padding=1)
    with torch.no_grad():
        found = [tiles.tiled(net, x, batch=batch, **IPT) for batch in (1, 64)]
    assert found[0].shape == (2, 40, 40)
    assert torch.allclose(*found, atol=1e-4)


def test_small_images_are_mirrored_not_repeated():
    x = torch.arange(4.0).view(1, 1, 4)
    assert tiles.reflected(x, 1, 9).flatten().tolist() == [0, 1, 2, 3, 2, 1, 0, 1, 2]
    assert tiles.reflected(torch.ones(1, 1, 1), 3, 2).shape == (1, 3, 2)
    assert tiles.reflected(x, 1, 4) is x


def test_tiles_that_leave_gaps_are_refused():
    assert tiles.starts(50, 24, 12) == [0, 12, 24, 26]
    assert tiles.starts(24, 24, 12) == [0]
    for stride, margin in ((13, 6), (0, 6), (1, 12), (6, -1)):
        with pytest.raises(StageError, match="gaps"):
            tiles.tiled(lambda tile: tile, image(30, 30), tile=24, stride=stride, margin=margin)


# --- self-ensemble --------------------------------------------------------------------------------


def test_the_eight_turns_are_distinct_and_undone():
    x = image(5, 7)
    turned = [ensemble.turn(x, way) for way in range(ensemble.TURNS)]
    assert len({(tuple(y.shape), y.numpy().tobytes()) for y in turned}) == 8
    for way, y in enumerate(turned):
        assert torch.equal(ensemble.turn_back(y, way), x)


def test_the_ensemble_of_an_equivariant_function_is_the_function():
    x = image(9, 14)
    assert torch.allclose(ensemble.self_ensemble(lambda y: y * 2 + 1, x), x * 2 + 1)
    assert torch.allclose(ensemble.self_ensemble(lambda y: degrade.upscale(y, 2), x), degrade.upscale(x, 2), atol=1e-3)


def test_the_ensemble_is_equivariant_itself():
    torch.manual_seed(0)
    net = nn.Conv2d(3, 3, 3, padding=1)
    x = image(8, 6)
    with torch.no_grad():
        plain = ensemble.self_ensemble(net, x)
        for way in range(ensemble.TURNS):
            turned = ensemble.self_ensemble(net, ensemble.turn(x, way))
            assert torch.allclose(ensemble.turn_back(turned, way), plain, atol=1e-3)
        assert not torch.allclose(plain, net(x), atol=1)


# --- EDSR -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channels", "count", "factor", "parameters"),
    [
        (256, 32, 2, 40_729_603),
        (256, 32, 3, 43_680_003),
        (256, 32, 4, 43_089_923),
        (64, 16, 2, 1_369_859),
    ],
)
def test_edsr_has_the_published_numbers_of_parameters(channels, count, factor, parameters):
    with torch.device("meta"):
        net = blocks.EDSR(channels, count, factor, res_scale=0.1)
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert not any("mean" in name for name in net.state_dict())


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
@pytest.mark.parametrize("skip", [True, False])
def test_edsr_enlarges(factor, skip):
    net = blocks.EDSR(4, 1, factor, bicubic_skip=skip, unit=255)
    assert net(image(7, 9)[None]).shape == (1, 3, 7 * factor, 9 * factor)
    with pytest.raises(StageError, match="scale factor 5"):
        blocks.EDSR(4, 1, 5)


def test_the_skip_makes_an_untrained_net_bicubic():
    x = image(6, 6)[None]
    net = blocks.EDSR(4, 1, 2, bicubic_skip=True)
    nn.init.zeros_(net.last.weight)
    nn.init.zeros_(net.last.bias)
    assert torch.equal(net(x), degrade.upscale(x, 2))
    net.bicubic_skip = False
    assert torch.allclose(net(x), 255 * torch.tensor(blocks.MEAN).view(1, 3, 1, 1).expand(1, 3, 12, 12))


def test_the_unit_scales_what_the_net_computes_with():
    """Biases apart a ReLU net is homogeneous, so its unit cancels."""
    torch.manual_seed(0)
    net = blocks.EDSR(4, 2, 2)
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
    x = image(6, 6)[None]
    plain = net(x)
    net.unit = 255.0
    assert torch.allclose(net(x), plain, atol=1e-2)


def test_mean_shifts_undo_each_other():
    x = image(4, 4)[None]
    assert torch.allclose(blocks.MeanShift(1)(blocks.MeanShift(-1)(x)), x, atol=1e-4)
    mean = blocks.MeanShift(-1)(torch.zeros(1, 3, 1, 1)).flatten() / -255
    assert mean.tolist() == pytest.approx(blocks.MEAN)


def test_a_block_scales_its_branch_only():
    torch.manual_seed(0)
    x = torch.randn(1, 4, 5, 5)
    block = blocks.ResBlock(4, 5, res_scale=0.1)
    branch = block.conv2(torch.relu(block.conv1(x)))
    assert torch.allclose(block(x), x + 0.1 * branch)
    assert sum(p.numel() for p in blocks.ResBlock(64, 5).parameters()) == 2 * (64 * 64 * 25 + 64)
