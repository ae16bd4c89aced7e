"""Selection through a whole net: what may change, what feeds a layer, what judges it."""

import copy
import functools
from dataclasses import replace

import pytest
import torch

from stages.lib import surgery
from stages.lib.errors import StageError
from stages.lib.models import preresnet, resnet, vgg
from stages.papers.dcp import forward, prunes, thinning
from stages.papers.dcp.arms import ARMS, find
from stages.papers.dcp.forward import only_trainable, run_to_pivot
from stages.papers.dcp.heads import Supervised, attach
from stages.papers.dcp.kernels import kernel_mask
from stages.papers.dcp.problem import Objective, Solver
from stages.papers.dcp.prunes import Recipe, prune_stage

IMAGES = torch.randn(20, 2, 8, 8, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(20) % 3


torch.set_num_threads(1)  # tiny tensors: more threads only wait for each other


def settled(net) -> Supervised:
    """A net with heads after each block, its BN statistics those of the images."""
    model = attach(net, range(1, len(net.blocks) + 1), 3, (2, 8, 8)).train()
    with torch.no_grad():
        for _ in range(30):
            model(IMAGES)
    return model.eval()


@functools.cache
def made(kind: str) -> Supervised:
    """One net of each kind."""
    torch.manual_seed(2)
    if kind == "plain":
        return settled(vgg([5, 6, "M", 7, 4], classes=3, in_channels=2, image=8))
    widths = [4, 6, 8] if kind == "basic" else [4, 5]
    ones = [1] * len(widths)
    return settled(preresnet(ones, widths, classes=3, in_channels=2, image=8, bottleneck=kind == "bottleneck"))


@pytest.fixture(params=["basic", "bottleneck", "plain"])
def model(request):
    return copy.deepcopy(made(request.param))


@pytest.fixture
def basic():
    return copy.deepcopy(made("basic"))


def recipe(arm="dcp", ratio=0.5, **more) -> Recipe:
    found = find(arm)
    aim = Objective(float(found.rebuild), float(found.classify))
    return replace(Recipe(found, ratio, 4, 0.1, aim, Solver(0.01, batch=10), "release", 0), **more)


def prune(model, chosen) -> tuple[Supervised, list]:
    pruned, results = copy.deepcopy(model), []
    for p in range(len(model.ends)):
        results += prune_stage(pruned, model, IMAGES, LABELS, p, chosen)
    return pruned, results


@pytest.mark.parametrize("arm", ["dcp", "reconstruction", "cross_entropy", "l1", "random", "l1_refit", "random_refit"])
@pytest.mark.parametrize("ratio", [0.3, 0.7])
def test_every_layer_keeps_exactly_its_share(model, arm, ratio):
    pruned, results = prune(model, recipe(arm, ratio))
    assert [r.site for r in results] == [s.name for s in model.net.sites()]
    for site, result in zip(model.net.sites(), results):
        weight = pruned.net.get_submodule(site.consumer).weight
        assert len(result.kept) == surgery.kept_count(weight.shape[1], ratio)
        live = weight.detach().abs().amax((0, 2, 3)) > 0
        assert live.nonzero().flatten().tolist() == result.kept.tolist()


def test_only_the_layers_weights_change(model):
    pruned, _ = prune(model, recipe())
    changed = {f"net.{s.consumer}.{kind}" for s in model.net.sites() for kind in ("weight", "bias")}
    for name, before in model.state_dict().items():
        if name not in changed:
            assert torch.equal(before, pruned.state_dict()[name]), name
    assert all(p.requires_grad for p in pruned.parameters())


def test_keeping_all_without_a_step_reproduces_the_net_exactly(model):
    pruned, results = prune(model, recipe(ratio=0.0, solver=Solver(0.0, weight_decay=0.1, batch=10)))
    thin = surgery.cut(pruned.net, {r.site: r.kept for r in results}).eval()
    assert torch.equal(pruned.net(IMAGES), model.net(IMAGES))
    assert torch.equal(thin(IMAGES), model.net(IMAGES))


@pytest.mark.parametrize("arm", ["dcp", "random", "dkp"])
def test_thin_net_answers_as_the_masked_one(model, arm):
    pruned, results = prune(model, recipe(arm, 0.7))
    thin = surgery.cut(pruned.net, {r.site: r.kept for r in results}).eval()
    assert torch.allclose(thin(IMAGES), pruned.net(IMAGES), atol=1e-5)
    assert not torch.allclose(thin(IMAGES), model.net(IMAGES), atol=1e-3)


def test_residual_widths_stay(basic):
    pruned, results = prune(basic, recipe(ratio=0.7))
    before, after = basic.net.record(), surgery.cut(pruned.net, {r.site: r.kept for r in results}).record()
    for ours, theirs in zip(before["stages"], after["stages"]):
        assert [(b["in"], b["out"]) for b in ours] == [(b["in"], b["out"]) for b in theirs]


def test_kernel_pruning_keeps_as_many_kernels_as_dcps_channels_have(model):
    pruned, results = prune(model, recipe("dkp", 0.5))
    for site, result in zip(model.net.sites(), results):
        weight = pruned.net.get_submodule(site.consumer).weight
        wanted = weight.shape[0] * surgery.kept_count(weight.shape[1], 0.5)
        assert int(kernel_mask(weight).sum()) == wanted == result.kernels


def test_adaptive_keeps_at_least_one_and_more_for_a_smaller_threshold(basic):
    kept = [sum(len(r.kept) for r in prune(basic, recipe("dcp_adapt", epsilon=e, steps=100))[1]) for e in (1e9, 0.05, 0.0)]
    assert kept[0] == len(basic.net.sites())
    assert kept[0] < kept[1] <= kept[2] == 4 + 6 + 8


def test_features_come_from_the_pruned_net_and_targets_from_the_whole_one(basic, monkeypatch):
    seen = []

    class Spy(prunes.LayerProblem):
        def __post_init__(self):
            super().__post_init__()
            seen.append((self.features, self.targets))

    monkeypatch.setattr(prunes, "LayerProblem", Spy)
    pruned, _ = prune(basic, recipe(ratio=0.7))
    for block, (cached, targets) in enumerate(seen):
        assert torch.allclose(cached.inputs, pruned.net.segment(pruned.net.stem(IMAGES), 0, block), atol=1e-6)
        whole = basic.net.segment(basic.net.stem(IMAGES), 0, block)
        with forward.captured(basic.net.blocks[block].conv2) as outputs:
            basic.net.blocks[block](whole)
        assert torch.equal(targets, outputs[0])
    assert not torch.allclose(seen[2][0].inputs, basic.net.segment(basic.net.stem(IMAGES), 0, 2), atol=1e-2)


def gradient_of(model, p):
    """Gradient of the classification loss at pivot p for the first block's consumer."""
    site = model.net.sites()[0]
    layer = model.net.get_submodule(site.consumer)
    with only_trainable(model, layer):
        run = run_to_pivot(model, site, p, True)
        features = forward.Cached(model.net.stem(IMAGES), None)
        problem = prunes.LayerProblem(layer, run, features, IMAGES, LABELS, Objective(0.0, 1.0))
        return problem.gradient()[1]


def test_the_loss_is_measured_through_the_rest_of_the_stage(basic):
    before = [gradient_of(basic, p) for p in range(3)]
    basic.net.blocks[1].conv2.weight.data.mul_(-1)
    after = [gradient_of(basic, p) for p in range(3)]
    assert torch.equal(before[0], after[0])  # behind its pivot
    assert not torch.allclose(before[1], after[1])
    assert not torch.allclose(before[2], after[2])


def test_replaying_the_producer_changes_no_gradient(model):
    for site in model.net.sites():
        layer = model.net.get_submodule(site.consumer)
        features = prunes._features(model.net, IMAGES, site.block)
        with only_trainable(model, layer):
            cached, gradients = forward.cache(model.net, site, features), []
            for part in (forward.Cached(features, None), cached):
                with forward.replayed(model.net, site, part) as replay:
                    run = run_to_pivot(model, site, site.block, True, replay)
                    targets = torch.zeros_like(run(part)[0].detach())
                    gradients.append(prunes.LayerProblem(layer, run, part, targets, LABELS, Objective(1.0, 1.0)).gradient()[1])
        assert torch.allclose(*gradients, atol=1e-6)
        assert cached.produced is None or not isinstance(model.net.get_submodule(site.producer), forward.Replay)


def test_gradients_and_modes_come_back_also_after_a_failure(basic):
    basic.train()
    basic.heads[0].requires_grad_(False)
    with pytest.raises(RuntimeError, match="stop"), only_trainable(basic, basic.net.blocks[0].conv2):
        assert [n for n, p in basic.named_parameters() if p.requires_grad] == ["net.blocks.0.conv2.weight"]
        assert not basic.net.bn.training
        raise RuntimeError("stop")
    assert basic.net.bn.training
    assert [n for n, p in basic.named_parameters() if not p.requires_grad] == [
        f"heads.0.{n}" for n, _ in basic.heads[0].named_parameters()
    ]


def test_random_arms_differ_by_layer_and_repetition_only(basic):
    def kept(seed):
        return [r.kept.tolist() for r in prune(basic, recipe("random", 0.5, seed=seed))[1]]

    assert kept(1) == kept(1)
    assert len({str(kept(seed)) for seed in range(6)}) > 1
    refit = [r.kept.tolist() for r in prune(basic, recipe("random_refit", 0.5, seed=1))[1]]
    assert refit == kept(1)  # the re-fit changes weights, not the choice


def test_l1_takes_the_strongest_filters(basic):
    results = prune(basic, recipe("l1", 0.5))[1]
    norms = basic.net.blocks[2].conv1.weight.detach().abs().sum((1, 2, 3))
    assert set(results[2].kept.tolist()) == set(norms.topk(4).indices.tolist())


def test_resnet_with_torchvisions_layout_can_be_pruned():
    torch.manual_seed(0)
    net = resnet(18, classes=3).eval()
    images = torch.randn(2, 3, 32, 32)
    model = attach(net, [8], 3, (3, 32, 32)).eval()
    pruned = copy.deepcopy(model)
    tiny = recipe("reconstruction", 0.9, steps=1, solver=Solver(0.001, batch=2))
    results = prune_stage(pruned, model, images, torch.tensor([0, 1]), 0, tiny)
    assert [len(r.kept) for r in results] == [surgery.kept_count(r.channels, 0.9) for r in results]
    thin = surgery.cut(pruned.net, {r.site: r.kept for r in results}).eval()
    assert torch.allclose(thin(images), pruned.net(images), atol=1e-4)


def test_arms_are_what_their_names_say():
    assert {name for name, arm in ARMS.items() if not arm.classify} == {"reconstruction"}
    assert {name for name, arm in ARMS.items() if not arm.rebuild} == {"cross_entropy"}
    assert {name for name, arm in ARMS.items() if arm.refit and arm.order != "greedy"} == {"l1_refit", "random_refit"}
    with pytest.raises(StageError, match="no such arm; choose one of dcp"):
        find("dpc")


def test_a_surgery_that_changes_the_answers_is_refused(basic):
    other = copy.deepcopy(basic.net)
    other.fc.bias.data += 1
    with pytest.raises(StageError, match="differ by 1"):
        thinning._surgery_gap(basic.net, other, IMAGES)
