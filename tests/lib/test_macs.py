"""MACs and parameters: closed form, dispatcher count and hand-made figures agree."""

import pytest
import torch
from torch import nn

from stages.lib import macs, models, surgery

NETS = {
    "preresnet-small": lambda: models.preresnet([2, 2, 2], [8, 16, 32], 10, 3, 32, {"kernel": 5, "stride": 4}),
    "preresnet-pool": lambda: models.preresnet(
        [1, 2], [6, 9], 4, 1, 31, {"kernel": 7, "stride": 2, "padding": 1, "pool": True}
    ),
    "preresnet-bottleneck": lambda: models.preresnet([2, 2], [6, 10], 5, 3, 17, bottleneck=True),
    "preresnet56": lambda: models.preresnet_cifar(56),
    "vgg11": lambda: models.vgg_cifar(11),
    "vgg19": lambda: models.vgg19_bn_cifar(),
    "vgg-odd": lambda: models.vgg([8, "M", 16, 16, "A"], 4, 13, 1),
    "resnet18": lambda: models.resnet(18),
    "resnet34": lambda: models.resnet(34, 10, 65),
    "resnet50": lambda: models.resnet(50),
    "resnet101": lambda: models.resnet(101),
}


@pytest.fixture(autouse=True)
def shapes_only():
    with torch.device("meta"):
        yield


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("eta", [0.0, 0.37])
def test_closed_form_equals_count(name, eta):
    net = NETS[name]()
    record = type(net).narrowed(net.record(), surgery.kept_widths(net, eta))
    total = macs.total(record)
    assert macs.count_record(record) == total.macs > 0
    assert macs.parameters(models.build(record)) == total.params


@pytest.mark.parametrize("name", NETS)
def test_closed_form_names_every_layer_with_weights(name):
    net = NETS[name]()
    costs = macs.closed_form(net.record())
    for cost in costs:
        assert sum(p.numel() for p in net.get_submodule(cost.name).parameters(recurse=False)) == cost.params
    assert {c.name for c in costs} == {path for path, module in net.named_modules() if list(module.parameters(recurse=False))}


def test_pilot_nets():
    net = NETS["preresnet-small"]()
    assert macs.total(net.record()).macs == 448320
    assert macs.total(type(net).narrowed(net.record(), surgery.kept_widths(net, 0.75))).macs == 144192


def test_single_layers_by_hand():
    conv = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2)
    assert macs.count(conv, torch.empty(5, 4, 9, 7)) == 6 * 2 * 9 * 5 * 4
    assert macs.count(nn.Linear(7, 3), torch.empty(2, 7)) == 21


def test_count_is_of_one_sample_and_keeps_the_mode():
    net = NETS["preresnet-small"]().train()
    assert macs.count(net, torch.empty(1, 3, 32, 32)) == macs.count(net, torch.empty(6, 3, 32, 32)) == 448320
    assert net.training


def test_attention_products_count():
    q = torch.empty(1, 2, 5, 8)

    class Attention(nn.Module):
        def forward(self, x):
            return nn.functional.scaled_dot_product_attention(x, x, x)

    assert macs.count(Attention(), q) == 2 * 2 * 5 * 5 * 8


def test_count_on_real_tensors_equals_count_on_shapes():
    with torch.device("cpu"):
        assert macs.count(NETS["preresnet-small"](), torch.randn(2, 3, 32, 32)) == 448320
