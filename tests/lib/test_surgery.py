"""Surgery: masked equals thin in every family, kept counts, and refusals."""

import copy

import pytest
import torch
from torch import nn

from stages.lib import macs, models, surgery
from stages.lib.errors import StageError

NETS = {
    "preresnet": lambda: models.preresnet([2, 2, 2], [8, 16, 32], 10, 3, 32, {"kernel": 5, "stride": 4}),
    "preresnet-bottleneck": lambda: models.preresnet([2, 2], [6, 10], 5, 3, 16, bottleneck=True),
    "vgg": lambda: models.vgg([8, 12, "M", 16, 16, "M", 20, "A"], 10, 16),
    "resnet-basic": lambda: models.resnet(18, 9, 64),
    "resnet-bottleneck": lambda: models.resnet(50, 9, 32),
}


def lively(name, seed=0):
    """A net whose biases, BN scales and statistics are all far from their initial values."""
    torch.manual_seed(seed)
    net = NETS[name]().eval()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.5)
                module.running_mean.normal_(0, 0.5)
                module.running_var.uniform_(0.5, 2.0)
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                module.bias.normal_(0, 0.5)
    return net


def random_kept(net, eta=0.4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randperm(surgery.channels(net, site), generator=generator)[:width]
        for site, (name, width) in zip(net.sites(), surgery.kept_widths(net, eta).items(), strict=True)
    }


def gap(a, b, x):
    with torch.no_grad():
        ya, yb = a(x), b(x)
    return ((ya - yb).abs().max() / yb.abs().max().clamp(min=1)).item()


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("eta", [0.3, 0.75])
def test_masked_equals_thin(name, eta):
    net = lively(name)
    kept = random_kept(net, eta)
    x = torch.randn(3, *net.record()["input"])
    masked, thin = surgery.mask(net, kept), surgery.cut(net, kept)
    assert gap(masked, thin, x) < 1e-5
    assert gap(net, thin, x) > 1e-3  # the cut did something
    assert macs.parameters(thin) < macs.parameters(masked) == macs.parameters(net)


@pytest.mark.parametrize("name", NETS)
def test_one_site_alone(name):
    net = lively(name)
    x = torch.randn(2, *net.record()["input"])
    for site in (net.sites()[0], net.sites()[-1]):
        kept = {site.name: torch.tensor([1, 3])}
        assert gap(surgery.mask(net, kept), surgery.cut(net, kept), x) < 1e-5
        assert surgery.cut(net, kept).get_submodule(site.consumer).in_channels == 2


@pytest.mark.parametrize("name", NETS)
def test_keeping_everything_or_nothing_to_cut_changes_no_bit(name):
    net = lively(name)
    x = torch.randn(2, *net.record()["input"])
    for kept in ({}, random_kept(net, 0.0)):
        assert torch.equal(surgery.cut(net, kept)(x), net(x))
        assert torch.equal(surgery.mask(net, kept)(x), net(x))


@pytest.mark.parametrize("name", NETS)
def test_the_thin_net_rebuilds_from_its_record(name):
    thin = surgery.cut(lively(name), random_kept(lively(name)))
    again = models.rebuild(thin.record(), thin.state_dict()).eval()
    x = torch.randn(2, *thin.record()["input"])
    assert torch.equal(again(x), thin(x))
    assert [surgery.channels(thin, s) for s in thin.sites()] == list(surgery.kept_widths(lively(name), 0.4).values())


def test_cutting_twice_equals_cutting_once():
    net = lively("preresnet")
    site = net.sites()[3].name
    once = surgery.cut(net, {site: torch.tensor([2, 5, 11])})
    twice = surgery.cut(surgery.cut(net, {site: torch.tensor([0, 2, 5, 9, 11])}), {site: torch.tensor([1, 2, 4])})
    assert all(torch.equal(a, b) for a, b in zip(once.state_dict().values(), twice.state_dict().values(), strict=True))


def test_widths_at_the_shortcut_stay():
    net = lively("resnet-bottleneck")
    thin = surgery.cut(net, random_kept(net, 0.75))
    for before, after in zip(net.blocks, thin.blocks, strict=True):
        assert before.conv1.in_channels == after.conv1.in_channels
        assert before.conv3.out_channels == after.conv3.out_channels


def test_given_net_is_untouched_and_shares_no_memory():
    net = lively("preresnet")
    before = copy.deepcopy(net.state_dict())
    kept = random_kept(net)
    thin, masked = surgery.cut(net, kept), surgery.mask(net, kept)
    with torch.no_grad():
        for p in (*thin.parameters(), *masked.parameters()):
            p.zero_()
    assert all(torch.equal(a, b) for a, b in zip(before.values(), net.state_dict().values(), strict=True))


def test_thin_net_trains_and_keeps_the_mode():
    net = lively("vgg").train()
    thin = surgery.cut(net, random_kept(net))
    assert thin.training
    assert not surgery.cut(net.eval(), {}).training
    thin(torch.randn(4, 3, 16, 16)).sum().backward()
    assert all(p.grad is not None for p in thin.parameters())


def test_mask_in_place_stops_momentum_from_reviving_columns():
    net = lively("preresnet").train()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    x, y = torch.randn(8, 3, 32, 32), torch.arange(8)
    nn.functional.cross_entropy(net(x), y).backward()
    optimiser.step()  # momentum now points somewhere for every column
    kept = random_kept(net)
    assert surgery.mask_(net, kept) is net
    optimiser.step()
    assert any(len(found) > len(kept[name]) for name, found in surgery.kept_channels(net).items())
    surgery.mask_(net, kept)
    assert all(torch.equal(found, kept[name].sort().values) for name, found in surgery.kept_channels(net).items())


def test_order_of_the_given_indices_does_not_matter():
    net = lively("vgg")
    site = net.sites()[1].name
    a, b = (surgery.cut(net, {site: torch.tensor(i)}) for i in ([4, 1, 7], [1, 4, 7]))
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize(
    ("channels", "eta", "kept"),
    [
        (16, 0, 16),
        (16, 0.3, 12),
        (64, 0.3, 45),
        (64, 0.7, 20),
        (512, 0.4, 308),
        (10, 0.3, 7),
        (100, 0.29, 71),
        (8, 0.75, 2),
        (1, 0.99, 1),
        (1000, 0.001, 999),
    ],
)
def test_kept_count(channels, eta, kept):
    assert surgery.kept_count(channels, eta) == kept


@pytest.mark.parametrize("eta", [-0.1, 1.0, 1.5, float("nan")])
def test_impossible_rates_are_refused(eta):
    with pytest.raises(StageError, match="eta"):
        surgery.kept_count(8, eta)


@pytest.mark.parametrize("index", [[], [0, 0], [-1], [8], [0.5], [True, False], [[0]]])
def test_impossible_channels_are_refused(index):
    net = lively("preresnet")
    with pytest.raises(StageError, match=r"blocks\.0\.conv2"):
        surgery.cut(net, {"blocks.0.conv2": torch.tensor(index)})


def test_unknown_site_is_refused():
    net = lively("preresnet")
    for operation in (surgery.cut, surgery.mask):
        with pytest.raises(StageError, match="no such site"):
            operation(net, {"blocks.0.conv1": torch.tensor([0])})


@pytest.mark.parametrize(("count", "expected"), [(45, 48), (44, 48), (40, 48), (39, 32), (3, 16), (63, 64), (64, 64)])
def test_aligned_widths_are_the_nearest_multiples(count, expected):
    assert surgery.aligned(count, 64, 16) == expected
    assert surgery.aligned(count, 64, 1) == count


def test_aligned_never_exceeds_the_layer():
    assert surgery.aligned(12, 12, 8) == 12
    assert surgery.aligned(3, 6, 8) == 6
    with pytest.raises(StageError):
        surgery.aligned(3, 6, 0)
