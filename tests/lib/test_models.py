"""Nets: shapes, gradients, records, pivotal segments, and parity with torchvision."""

import copy
import json
import subprocess
import sys

import pytest
import torch

from stages.lib import models
from stages.lib.errors import StageError

NETS = {
    "preresnet-small": lambda: models.preresnet([2, 2, 2], [8, 16, 32], 10, 3, 32, {"kernel": 5, "stride": 4}),
    "preresnet-grey": lambda: models.preresnet([1, 1], [4, 8], 3, 1, 8),
    "preresnet-bottleneck": lambda: models.preresnet([1, 2], [4, 8], 5, 3, 16, bottleneck=True),
    "preresnet20": lambda: models.preresnet_cifar(20),
    "vgg11": lambda: models.vgg_cifar(11),
    "vgg-small": lambda: models.vgg([8, "M", 16, 16, "A"], 4, 9, 1),
    "resnet18": lambda: models.resnet(18, 7, 64),
    "resnet50": lambda: models.resnet(50, 7, 32),
}


@pytest.mark.parametrize("name", NETS)
def test_forward_and_backward_reach_every_weight(name):
    torch.manual_seed(0)
    net = NETS[name]()
    x = torch.randn(4, *net.record()["input"])
    logits = net(x)
    assert logits.shape == (4, net.record()["classes"])
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    assert sum(bool(p.grad.abs().sum() > 0) for p in net.parameters()) > len(list(net.parameters())) // 2


@pytest.mark.parametrize("name", NETS)
def test_segments_compose_to_the_forward_pass(name):
    net = NETS[name]().eval()
    x = torch.randn(2, *net.record()["input"])
    half = len(net.blocks) // 2
    h = net.segment(net.stem(x), 0, half)
    assert torch.equal(net.head(net.segment(h, half, None)), net(x))
    assert torch.equal(net.segment(h, half, half), h)


@pytest.mark.parametrize("name", NETS)
def test_record_round_trip_is_bit_equal(name):
    net = NETS[name]().eval()
    record = json.loads(json.dumps(net.record()))
    again = models.rebuild(record, copy.deepcopy(net.state_dict())).eval()
    x = torch.randn(2, *record["input"])
    assert again.record() == net.record()
    assert torch.equal(again(x), net(x))
    assert list(again.state_dict()) == list(net.state_dict())


@pytest.mark.parametrize("name", NETS)
def test_build_from_the_record_draws_the_same_weights_as_the_constructor(name):
    torch.manual_seed(3)
    net = NETS[name]()
    torch.manual_seed(3)
    again = models.build(net.record())
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), again.state_dict().values(), strict=True))


def test_rebuild_draws_no_random_number():
    net = NETS["preresnet-grey"]()
    before = torch.get_rng_state()
    models.rebuild(net.record(), net.state_dict())
    assert torch.equal(before, torch.get_rng_state())


def test_the_record_given_out_is_a_copy():
    net = NETS["preresnet-grey"]()
    net.record()["stages"][0][0]["mid"][0] = 99
    assert net.record()["stages"][0][0]["mid"] == [4]


@pytest.mark.parametrize("name", NETS)
def test_sites_name_matching_modules_in_forward_order(name):
    net = NETS[name]()
    sites = net.sites()
    assert len({site.name for site in sites}) == len(sites)
    assert [site.block for site in sites] == sorted(site.block for site in sites)
    for site in sites:
        width = net.get_submodule(site.consumer).in_channels
        assert net.get_submodule(site.producer).out_channels == width == net.get_submodule(site.norm).num_features
        assert any(net.get_submodule(site.consumer) is module for module in net.blocks[site.block].modules())


def test_number_of_blocks_and_sites_of_the_paper_nets():
    with torch.device("meta"):
        counts = {
            name: (len(net.blocks), len(net.sites()))
            for name, net in {
                "preresnet56": models.preresnet_cifar(56),
                "vgg19": models.vgg19_bn_cifar(),
                "resnet18": models.resnet(18),
                "resnet50": models.resnet(50),
            }.items()
        }
    assert counts == {"preresnet56": (27, 27), "vgg19": (16, 15), "resnet18": (8, 8), "resnet50": (16, 32)}


def test_first_block_of_a_stage_shares_its_activation_with_the_shortcut():
    net = NETS["preresnet-small"]()
    with torch.no_grad():
        for block in net.blocks:
            block.conv2.weight.zero_()
    h = -torch.rand(2, 8, 8, 8)
    net.eval()
    assert torch.equal(net.blocks[0](h), torch.zeros_like(h))  # BN is the identity here, ReLU clears negative features
    assert torch.equal(net.blocks[1](h), h)  # later blocks pass their raw input


def test_initial_weights_have_the_fan_out_scale():
    torch.manual_seed(0)
    weight = models.preresnet_cifar(20).blocks[8].conv2.weight
    assert weight.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.03)
    assert abs(weight.mean().item()) < 0.002


@pytest.mark.parametrize("depth", [18, 50])
def test_parity_with_torchvision(depth):
    pytest.importorskip("stages.lib.vision_compat")
    import torchvision

    torch.manual_seed(0)
    theirs = getattr(torchvision.models, f"resnet{depth}")(num_classes=11)
    ours = models.resnet(depth, 11)
    shapes = {name: tensor.shape for name, tensor in theirs.state_dict().items()}
    assert {name: tensor.shape for name, tensor in ours.state_dict().items()} == shapes
    for module in theirs.modules():  # statistics that a wrong wiring of BN would show
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        assert torch.allclose(ours.eval()(x), theirs.eval()(x), rtol=1e-5, atol=1e-5)


def test_importing_models_leaves_torchvision_out():
    code = "import sys, stages.lib.models; sys.exit('torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def corrupt(change):
    record = NETS["preresnet-small"]().record()
    change(record)
    return record


BAD = {
    "not a mapping": lambda: ["preresnet"],
    "no kind": lambda: {},
    "unknown kind": lambda: {"kind": "os.system"},
    "kind is a list": lambda: {"kind": ["vgg"]},
    "missing key": lambda: corrupt(lambda r: r.pop("stem")),
    "extra key": lambda: corrupt(lambda r: r.update(hook="import os")),
    "negative width": lambda: corrupt(lambda r: r["stages"][0][0].update(mid=[-8])),
    "zero width": lambda: corrupt(lambda r: r["stages"][0][0].update(mid=[0])),
    "float width": lambda: corrupt(lambda r: r["stages"][0][0].update(mid=[8.0])),
    "true as width": lambda: corrupt(lambda r: r["stages"][0][0].update(mid=[True])),
    "huge width": lambda: corrupt(lambda r: r["stages"][0][0].update(mid=[1 << 40])),
    "too many widths": lambda: corrupt(lambda r: r["stages"][0][0].update(mid=[8, 8, 8])),
    "widths that do not meet": lambda: corrupt(lambda r: r["stages"][1][0].update({"in": 9})),
    "empty stage": lambda: corrupt(lambda r: r["stages"].append([])),
    "stages is a word": lambda: corrupt(lambda r: r.update(stages="222")),
    "input smaller than the stem": lambda: corrupt(lambda r: (r.update(input=[3, 1, 1]), r["stem"].update(padding=0))),
    "vgg starts with a pooling": lambda: {"kind": "vgg", "input": [3, 8, 8], "classes": 2, "layers": ["M", 8]},
    "vgg starts with a list": lambda: {"kind": "vgg", "input": [3, 8, 8], "classes": 2, "layers": [[8]]},
    "vgg with a list inside": lambda: {"kind": "vgg", "input": [3, 8, 8], "classes": 2, "layers": [8, [8]]},
    "vgg with an unknown pooling": lambda: {"kind": "vgg", "input": [3, 8, 8], "classes": 2, "layers": [8, "X"]},
    "vgg pools more than there is": lambda: {
        "kind": "vgg",
        "input": [3, 4, 4],
        "classes": 2,
        "layers": [8, "M", "M", "M"],
    },
}


@pytest.mark.parametrize("name", BAD)
def test_bad_records_are_refused_in_one_line(name):
    with pytest.raises(StageError) as caught:
        models.build(BAD[name]())
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_weights_that_do_not_fit_the_record_are_refused():
    net = NETS["preresnet-small"]()
    with pytest.raises(StageError, match="do not fit"):
        models.rebuild(net.record(), NETS["preresnet-grey"]().state_dict())


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("os.system", {}),
        ("preresnet_cifar", {"depth": 57}),
        ("preresnet_cifar", {"deep": 56}),
        ("resnet", {"depth": 19}),
        ("vgg_cifar", {"depth": 12}),
        ("preresnet", {"blocks": [2, 2], "widths": [8], "classes": 10}),
        ("preresnet", {"blocks": [], "widths": [], "classes": 10}),
        ("preresnet", {"blocks": [2], "widths": [8], "classes": 10, "stem": {"dilation": 2}}),
        ("preresnet", {"blocks": [0], "widths": [8], "classes": 10}),
        ("vgg", {"layers": []}),
    ],
)
def test_constructors_refuse_what_they_cannot_build(name, options):
    with pytest.raises(StageError):
        models.construct(name, **options)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("preresnet", {"blocks": [1, 1], "widths": [4, 8]}),
        ("preresnet_cifar", {"depth": 8}),
        ("resnet", {"depth": 18}),
        ("vgg", {"layers": [4, "M", 6]}),
        ("vgg_cifar", {"depth": 11}),
    ],
)
def test_every_constructor_takes_what_follows_from_the_data(name, options):
    assert name in models.CONSTRUCTORS
    net = models.construct(name, **options, classes=4, in_channels=1, image=40)
    assert (net.record()["classes"], net.record()["input"]) == (4, [1, 40, 40])
    assert net(torch.randn(2, 1, 40, 40)).shape == (2, 4)
