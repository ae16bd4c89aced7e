"""CovSegNet's blocks and nets: sizes, shapes, series of modules, gradients."""

from pathlib import Path

import pytest
import torch
import yaml

from stages.lib import macs
from stages.lib.errors import StageError
from stages.papers.covsegnet import audit, blocks, nets, shakedown
from stages.papers.covsegnet.network import CovSegNet, cropped, padded
from stages.papers.covsegnet.settings import Net
from stages.papers.covsegnet.unet import UNet

ROOT = Path(__file__).parents[2]
STATED = yaml.safe_load((ROOT / "params/covsegnet/paper.yaml").read_text())["audit"]["nets"]
torch.set_num_threads(1)


@pytest.mark.parametrize("name", STATED)
def test_parameters_and_multiply_adds_are_the_stated_ones(name):
    stated = STATED[name]
    with torch.device("meta"):
        net = nets.build(nets.record(Net(**stated["net"]), stated["nd"], stated["input"][0]))
        x = torch.empty(1, *stated["input"])
        assert macs.count(net, x) == nets.multiply_adds(net.eval(), x) == stated["macs"]
    assert macs.parameters(net) == nets.parameters(net) == stated["parameters"]


@pytest.mark.parametrize("size", [(16, 16), (20, 12), (13, 17), (1, 5)])
@pytest.mark.parametrize("kind", [CovSegNet, UNet])
def test_output_has_the_size_of_the_input(kind, size):
    more = (2, "batch") if kind is CovSegNet else ("batch",)
    net = kind(2, 1, (2, 3, 4), *more).eval()
    assert net(torch.randn(2, 1, *size)).shape == (2, 1, *size)


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("size", [(5, 8, 8), (4, 7, 9)])
def test_volumes_too_and_a_flat_net_keeps_their_depth(size, flat):
    covsegnet = CovSegNet(3, 2, (4, 4), 1, "group", flat)
    for net in (covsegnet, UNet(3, 2, (4, 4), "group", flat)):
        assert net(torch.randn(1, 2, *size)).shape == (1, 1, *size)
    depths = []
    covsegnet.parts[0].blocks[1].register_forward_hook(lambda _, x, __: depths.append(x[0].shape[2]))
    covsegnet(torch.randn(1, 2, *size))
    assert depths == [size[0] if flat else (size[0] + 1) // 2]


def test_padding_is_undone_exactly():
    x = torch.randn(1, 2, 5, 7, 9)
    assert padded(x, 3, False).shape[2:] == (8, 8, 12) and padded(x, 3, True).shape[2:] == (5, 8, 12)
    assert torch.equal(cropped(padded(x, 3, False), x.shape[2:]), x)


def test_a_series_whose_later_modules_are_cut_off_is_the_single_module():
    torch.manual_seed(0)
    series, single = (CovSegNet(2, 1, (2, 4), stages, "batch").eval() for stages in (2, 1))
    single.parts.load_state_dict({key: value for key, value in series.parts.state_dict().items() if key.startswith("0.")})
    with torch.no_grad():
        series.head.weight[:, 2:] = 0
        single.head.weight.copy_(series.head.weight[:, :2])
        single.head.bias.copy_(series.head.bias)
        x = torch.randn(2, 1, 16, 16)
        assert torch.allclose(series(x), single(x), atol=1e-6)


def test_every_module_reaches_the_output_and_the_first_is_reached_through_the_last():
    torch.manual_seed(0)
    net, x = CovSegNet(2, 1, (2, 4), 2, "batch"), torch.randn(2, 1, 16, 16)
    first = net.parts[0].blocks[0][0][0].weight
    last = torch.autograd.grad(net.finest(x)[-1].square().sum(), first)[0]
    direct = torch.autograd.grad(net.finest(x)[0].square().sum(), first)[0]
    assert last.norm() > 0 and direct.norm() > 0
    net(x).square().mean().backward()
    assert all(one.grad is not None and one.grad.isfinite().all() for one in net.parameters())


def test_modules_are_in_series_not_parallel():
    """The second module's answer changes with the first one's decoder."""
    torch.manual_seed(0)
    net, x = CovSegNet(2, 1, (2, 4), 2, "batch").eval(), torch.randn(1, 1, 8, 8)
    before = net.finest(x)[1]
    with torch.no_grad():
        net.parts[0].ups[0].block[0][0].weight.neg_()
    assert not torch.allclose(before, net.finest(x)[1])


@pytest.mark.parametrize("nd", [2, 3])
def test_transitions_are_equivariant_to_a_mirror(nd):
    """Pooling by two and interpolation back, along the last axis."""
    x = torch.randn(1, 2, *[8] * nd)
    for how in ("max", "mean"):
        small = blocks.pooled(x, [4] * nd, how)
        assert torch.allclose(blocks.pooled(x.flip(-1), [4] * nd, how), small.flip(-1), atol=1e-6)
    assert torch.allclose(blocks.grown(small.flip(-1), [8] * nd), blocks.grown(small, [8] * nd).flip(-1), atol=1e-6)


def test_pooling_keeps_means_and_maxima():
    x = torch.randn(2, 3, 8, 8)
    assert torch.allclose(blocks.pooled(x, (2, 2), "mean").mean(), x.mean(), atol=1e-6)
    assert torch.equal(blocks.pooled(x, (1, 1), "max")[..., 0, 0], x.amax((2, 3)))
    assert torch.equal(blocks.pooled(x, (2, 2), "max"), torch.nn.functional.adaptive_max_pool2d(x, 2))


def test_an_untrained_net_expects_few_lesions():
    net = nets.build(nets.record(Net("covsegnet", [2, 4], 1, "batch"), 2, 1), 0)
    assert net.head.bias.sigmoid().item() == pytest.approx(nets.PRIOR)


def test_saved_nets_come_back_and_others_are_refused(tmp_path):
    about = nets.record(Net("unet", [2, 4], 1, "batch"), 2, 1)
    net, x = nets.build(about, 3).eval(), torch.randn(1, 1, 8, 8)
    nets.save(tmp_path / "net.safetensors", net, about)
    assert torch.equal(nets.load(tmp_path / "net.safetensors", about)(x), net(x))
    with pytest.raises(StageError, match="another net"):
        nets.load(tmp_path / "net.safetensors", about | {"channels": [2, 5]})


def test_equal_seeds_give_equal_weights():
    about = nets.record(Net("covsegnet", [2, 4], 1, "batch"), 2, 1)
    one, two, other = (nets.build(about, seed).head.weight for seed in (1, 1, 2))
    assert torch.equal(one, two) and not torch.equal(one, other)


def test_rivals_are_of_equal_size_or_cost(monkeypatch):
    """Within two per cent at every scale that compares them, on slices of 32 x 32."""
    for scale in ("small", "medium"):
        part = yaml.safe_load((ROOT / f"params/covsegnet/{scale}.yaml").read_text())["ct_lesion"]["slices"]
        with torch.device("meta"):
            found = {name: nets.build(nets.record(Net(**part[name]), 2, 1)) for name in ("series", "unet_params", "unet_macs")}
            cost = {name: macs.count(net, torch.empty(1, 1, 32, 32)) for name, net in found.items()}
        size = {name: macs.parameters(net) for name, net in found.items()}
        assert size["unet_params"] == pytest.approx(size["series"], rel=0.02)
        assert cost["unet_macs"] == pytest.approx(cost["series"], rel=0.02)


def test_audit_agrees_to_the_digit(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(audit, "CSV", tmp_path / "audit.csv")
    audit.main([])
    lines = (tmp_path / "audit.csv").read_text().splitlines()
    assert len(lines) == 1 + 2 * len(STATED) and all(",True," in line for line in lines[1:])


@pytest.mark.slow
def test_shakedown_of_the_real_nets(monkeypatch):
    monkeypatch.chdir(ROOT)
    facts = shakedown.shake(shakedown.main.configure(["threads=1", "device=cpu"]), torch.device("cpu"))
    assert set(facts["parameters"]) == {"phase1", "two_phase"} and len(facts["folds"]) == 2
