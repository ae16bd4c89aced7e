"""IPT's net: exact sizes, attention against torch's own, task isolation, reduction to one task, initial weights."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from stages.lib import macs
from stages.lib.errors import StageError
from stages.papers.ipt import cost, pretrain, training
from stages.papers.ipt.arms import PRETRAINED
from stages.papers.ipt.attention import Attention
from stages.papers.ipt.experiment import build, fresh
from stages.papers.ipt.network import IPT, reduced
from stages.papers.ipt.peers import DnCNN
from stages.papers.ipt.settings import Contrastive, Net
from stages.papers.ipt.tasks import OFFICIAL, task

ROOT = Path(__file__).parents[2]
torch.set_num_threads(1)
SMALL = Net(
    features=4, image=12, patch_dim=3, heads=3, layers=2, ratio=2, head_blocks=1, head_kernel=3, positions="once", mlp=True,
    norm=True, init="torch", input_skip=False, unit=64.0,
)  # fmt: skip
CONTRAST = Contrastive(weight=0.1, form="code", tau=0.07, max_tokens=0)


def net_of(tasks=OFFICIAL, **changes) -> IPT:
    torch.manual_seed(0)
    return IPT(tasks, dataclasses.replace(SMALL, **changes)).eval()


def colours(count: int = 2, side: int = 12) -> torch.Tensor:
    return 255 * torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def settings(scale: str, monkeypatch) -> pretrain.Config:
    monkeypatch.chdir(ROOT)
    return pretrain.main.configure([f"scale={scale}", "arm=ipt", "seed=100"])


# --- sizes ----------------------------------------------------------------------------------------


def test_the_papers_net_has_the_official_size_to_the_digit(monkeypatch):
    net = settings("paper", monkeypatch).net
    assert (net.width, net.hidden, net.tokens) == (576, 2304, 256)
    with torch.device("meta"):
        assert macs.parameters(IPT(["sr2"], net)) == 115_460_419
        assert macs.parameters(IPT(OFFICIAL, net)) + cost.SHIFT_PARAMETERS == 118_892_394
    assert cost.parameters(dataclasses.replace(net, layers=4), OFFICIAL) + cost.SHIFT_PARAMETERS == 44_482_410
    # The formulas of one layer: attention 4 d^2, feed-forward 8 d^2 + 5 d, norms of 2 d each.
    d, n = net.width, net.tokens
    assert cost.encoder_layer(net) == cost.Cost(12 * d**2 + 9 * d, 12 * n * d**2 + 2 * n**2 * d)
    assert cost.decoder_layer(net) == cost.Cost(16 * d**2 + 11 * d, 16 * n * d**2 + 4 * n**2 * d)


@pytest.mark.parametrize("name", ["sr2", "sr3", "sr4", "derain"])
@pytest.mark.parametrize("changes", [{}, {"positions": "none", "mlp": False}, {"norm": False, "positions": "every"}])
def test_closed_form_is_what_is_counted(name, changes):
    net = dataclasses.replace(SMALL, **changes)
    with torch.device("meta"):
        model = IPT([name], net)
        assert macs.parameters(model) == cost.parameters(net, [name])
        assert macs.count(model, torch.empty(1, 3, 12, 12)) == cost.macs(net, name)


@pytest.mark.parametrize("scale", ["small", "medium"])
def test_peers_are_of_equal_size(monkeypatch, scale):
    found = settings(scale, monkeypatch)
    for name in ("sr2", "denoise30"):
        own = cost.parameters(found.net, [name])
        edsr = macs.parameters(build(PRETRAINED["edsr_pretrained"], [name], found.net, found.peers))
        assert abs(edsr / own - 1) < 0.1, (name, own, edsr)
    dncnn = macs.parameters(DnCNN(found.peers, found.net))
    assert abs(dncnn / cost.parameters(found.net, ["denoise30"]) - 1) < 0.05


# --- parts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("alike", [3, 2, 0])
def test_attention_is_torchs_without_biases(alike):
    torch.manual_seed(0)
    own, other = Attention(12, 3), nn.MultiheadAttention(12, 3, bias=False, batch_first=True)
    other.load_state_dict({"in_proj_weight": own.in_proj.detach(), "out_proj.weight": own.out_proj.weight.detach()})
    query = torch.randn(2, 5, 12)
    key = query if alike >= 2 else torch.randn(2, 7, 12)
    value = key if alike == 3 else torch.randn(2, key.shape[1], 12)
    assert torch.allclose(own(query, key, value), other(query, key, value)[0], atol=1e-6)


def test_tokens_are_unfoldings_and_go_back():
    net = net_of(layers=1).body
    h = torch.randn(2, 4, 12, 12)
    own = nn.functional.pixel_unshuffle(h, 3).flatten(2).transpose(1, 2)
    assert torch.equal(own, nn.functional.unfold(h, 3, stride=3).transpose(1, 2))
    features, tokens = net(h, torch.zeros(16, 36))
    assert torch.equal(features, nn.functional.fold(tokens.transpose(1, 2), 12, 3, stride=3))


def test_the_decoder_starts_from_the_memory_and_is_told_the_task():
    net = net_of()
    body, h = net.body, torch.randn(1, 4, 12, 12)
    z = nn.functional.pixel_unshuffle(h, 3).flatten(2).transpose(1, 2)
    z = z + body.linear(z) + body.position
    for layer in body.encoder:
        z = layer(z, None)
    memory, query = z, net.queries["sr3"]
    for layer in body.decoder:
        normed = layer.norm1(z)
        z = z + layer.attention(normed + query, normed + query, normed)
        z = z + layer.cross(layer.norm2(z) + query, memory, memory)
        z = z + layer.mlp(layer.norm3(z))
    assert torch.allclose(body(h, query)[1], z + body.mlp(z), atol=1e-5)
    assert not torch.allclose(body(h, query)[1], body(h, net.queries["sr4"])[1])


@pytest.mark.parametrize("name", OFFICIAL)
def test_outputs_have_the_tasks_size_and_no_other_image_size_is_taken(name):
    net, side = net_of(), 12 * task(name).scale
    assert net(colours(), name).shape == (2, 3, side, side)
    with pytest.raises(StageError, match="tiles of 12"):
        net(colours(1, 13), name)


def test_a_fresh_net_with_input_skip_leaves_images_as_they_are():
    net, x = net_of(["denoise30"], input_skip=True), colours()
    assert torch.equal(net(x), x)


def test_initial_weights():
    with_norms, without = net_of(), net_of(norm=False)
    for stack in (with_norms.body.encoder, with_norms.body.decoder):
        for name, value in stack[0].state_dict().items():
            assert torch.equal(value, stack[1].state_dict()[name])
    bound = 36**-0.5  # of the encoder's projections; the decoder's are Xavier-uniform over the joint matrix
    assert 0.9 * bound < with_norms.body.encoder[0].attention.in_proj.abs().max() <= bound
    xavier = (6 / (36 + 3 * 36)) ** 0.5
    assert bound < with_norms.body.decoder[0].cross.in_proj.abs().max() <= xavier
    assert net_of(init="mindspore").body.decoder[0].cross.in_proj.abs().max() <= bound
    assert not any(isinstance(module, nn.LayerNorm) for module in without.modules())
    assert float(without.body.linear.weight.detach().std()) == pytest.approx(1 / 36, rel=0.1)


# --- tasks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("contrast", [None, CONTRAST])
def test_a_step_reaches_the_body_and_one_tasks_parts_alone(contrast):
    net = net_of().train()
    training.objective(net, "sr2", colours(), colours(2, 24), contrast).backward()
    for name, parameter in net.named_parameters():
        part, _, rest = name.partition(".")
        mine = part == "body" or rest.split(".")[0] == "sr2"
        assert (parameter.grad is not None) == mine, name
        assert not mine or bool(parameter.grad.abs().sum() > 0) or "mlp.0.bias" in name, name


def test_both_losses_reach_the_body():
    """The official code applies the tail to the head's features in this branch, so that L1 leaves the body alone."""
    x, clean = colours(), colours(2, 24)
    found = []
    for weight in (0.0, 1.0):
        net = net_of().train()
        training.objective(net, "sr2", x, clean, dataclasses.replace(CONTRAST, weight=weight)).backward()
        found.append(net.body.encoder[0].mlp[0].weight.grad.clone())
    assert found[0].abs().sum() > 0 and (found[1] - found[0]).abs().sum() > 0


def test_the_order_of_tasks_means_nothing():
    net, other = net_of(), net_of(tuple(reversed(OFFICIAL)))
    other.load_state_dict(net.state_dict())
    assert all(torch.equal(net(colours(), name), other(colours(), name)) for name in OFFICIAL)


@pytest.mark.parametrize("name", OFFICIAL)
def test_a_six_task_net_cut_down_to_one_task_answers_bit_for_bit_the_same(name):
    net, one = net_of(), net_of([name])
    one.load_state_dict(reduced(net.state_dict(), name, name))
    assert torch.equal(one(colours()), net(colours(), name))


def test_a_new_noise_level_starts_from_another_ones_parts():
    net, one = net_of(), net_of(["denoise70"])
    one.load_state_dict(reduced(net.state_dict(), "denoise70", "denoise50"))
    assert torch.equal(one(colours()), net(colours(), "denoise50"))
    mixed = reduced(net.state_dict(), "denoise70", "sr2", "denoise50")
    assert torch.equal(mixed["queries.denoise70"], net.queries["sr2"])
    assert torch.equal(mixed["tails.denoise70.1.weight"], net.tails["denoise50"][1].weight)
    with pytest.raises(StageError, match="no head or tail"):
        reduced(net.state_dict(), "denoise70", "denoise10")


def test_tasks_without_a_head_are_refused():
    with pytest.raises(StageError, match="choose one of them"):
        net_of()(colours())
    for name in ("sr5", "denoise0", "denoise100", "deblur"):
        with pytest.raises(StageError, match="expected sr2"):
            task(name)


def test_repetitions_give_the_initial_weights(monkeypatch):
    found = settings("smoke", monkeypatch)
    for arm in PRETRAINED.values():
        first, again, other = (fresh(arm, OFFICIAL, found.net, found.peers, seed).state_dict() for seed in (100, 100, 101))
        assert all(torch.equal(first[name], again[name]) for name in first)
        assert not all(torch.equal(first[name], other[name]) for name in first)


# --- peers ----------------------------------------------------------------------------------------


def test_peers_take_any_size(monkeypatch):
    found = settings("smoke", monkeypatch)
    edsr = build(PRETRAINED["edsr_pretrained"], ["sr3"], found.net, found.peers).eval()
    assert edsr(colours(1, 17)).shape == (1, 3, 51, 51)
    dncnn = DnCNN(dataclasses.replace(found.peers, dncnn_depth=5), found.net).eval()
    assert dncnn(colours(1, 17)).shape == (1, 3, 17, 17)
    assert sum(isinstance(module, nn.Conv2d) for module in dncnn.modules()) == 5
    assert torch.equal(dncnn(colours()), colours())
