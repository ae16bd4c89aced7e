"""Aug-ViT: without paths a plain transformer, paths token by token, counts, pairing of arms, training."""

import dataclasses
from functools import partial, reduce

import pytest
import torch

from stages.lib import macs, vision_compat  # noqa: F401 (vision_compat: torchvision loads beside a CPU torch)
from stages.lib.data import noise
from stages.lib.errors import StageError
from stages.lib.models import build, rebuild
from stages.lib.vit.net import KEYS, VisionTransformer
from stages.lib.vit.settings import Recipe
from stages.papers.augmented_shortcuts import diversity, measure, training
from stages.papers.augmented_shortcuts.arms import ARMS, Arm, find_arm
from stages.papers.augmented_shortcuts.circulant import BlockCirculant
from stages.papers.augmented_shortcuts.net import AugVit, augvit
from stages.papers.augmented_shortcuts.settings import Net, Params
from stages.papers.augmented_shortcuts.shortcuts import Paths

torch.set_num_threads(1)
NET = Net(channels=1, patch=2, embed=16, depth=3, heads=2, hidden=32, blocks=4, deviation=0.0, drop_path=0.0)
RECIPE = Recipe(
    epochs=1, batch=10, lr=1e-2, warmup=0, lr_start=0.0, lr_end=0.0, weight_decay=0.05, clip=1.0, smoothing=0.1,
    mixup=0.0, cutmix=0.0, erase=0.0, pad=0, flip=False,
)  # fmt: skip
PARAMS = Params(net=NET, recipe=RECIPE, average=0.0, limit=0, probe=5, arms=list(ARMS), untrained=[])


@pytest.fixture(scope="module")
def split():
    return noise([1, 8, 8], 10, 40)


def fresh(arm: Arm | str, split, params: Params = PARAMS) -> AugVit:
    return training.fresh(ARMS[arm] if isinstance(arm, str) else arm, params, split, 100).eval()


@torch.no_grad()
@pytest.mark.parametrize("arm", ["augmented", "formula", "dense", "linear", "official"])
def test_paths_of_zero_leave_the_plain_net_or_three_quarters_of_it(split, arm):
    net, plain, x = fresh(arm, split), fresh("plain", split), split.x[:3]
    for name, parameter in net.named_parameters():
        if ".paths" in name:
            parameter.zero_()
    scale = ARMS[arm].scale
    z = net.stem(x)
    block, own = plain.blocks[0], net.blocks[0]
    middle = scale * (z + block.attention(block.norm1(z)))
    wanted = scale * (middle + block.mlp(block.norm2(middle)))
    assert torch.allclose(own(z), wanted, atol=1e-6)
    if scale == 1.0:
        assert torch.allclose(net(x), plain(x), atol=1e-5)


@torch.no_grad()
def test_the_plain_arm_is_the_shared_transformer(split):
    net = fresh("plain", split)
    record = {**{key: net.record()[key] for key in KEYS}, "kind": VisionTransformer.kind}
    shared = rebuild(record, net.state_dict()).eval()
    assert torch.equal(net(split.x), shared(split.x))


def test_arms_share_their_initial_weights(split):
    plain = fresh("plain", split).state_dict()
    for arm in ("augmented", "formula", "one_path", "linear", "dense", "no_shortcut", "paths_only"):
        own = fresh(arm, split).state_dict()
        assert all(torch.equal(own[name], tensor) for name, tensor in plain.items())
    one, two = fresh("augmented", split).state_dict(), fresh("formula", split).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


@torch.no_grad()
@pytest.mark.parametrize("activation", [True, False])
@pytest.mark.parametrize("blocks", [4, None])
def test_paths_work_token_by_token(activation, blocks):
    torch.manual_seed(0)
    paths, z = Paths(16, 3, blocks, activation), torch.randn(2, 7, 16)
    order = torch.randperm(7)
    assert torch.allclose(paths(z[:, order]), paths(z)[:, order], atol=1e-6)
    changed = z.clone()
    changed[:, 2] += 1.0
    same = [i for i in range(7) if i != 2]
    assert torch.allclose(paths(changed)[:, same], paths(z)[:, same], atol=1e-6)
    assert not torch.allclose(paths(changed)[:, 2], paths(z)[:, 2])


@torch.no_grad()
def test_paths_are_a_sum_of_single_ones():
    torch.manual_seed(0)
    both, z = Paths(16, 2, 4), torch.randn(2, 7, 16)
    whole, bias = both.projection.dense().chunk(2), both.projection.bias.chunk(2)
    wanted = sum(torch.nn.functional.gelu(z @ w.t() + b) for w, b in zip(whole, bias, strict=True))
    assert torch.allclose(both(z), wanted, atol=1e-6)


@pytest.mark.parametrize("arm", list(ARMS))
def test_closed_form_agrees_with_counts_and_every_path_gets_a_gradient(split, arm):
    net = fresh(arm, split)
    total = macs.total(net.record())
    assert macs.parameters(net) == total.params == measure.sizes(net)["parameters"]
    assert macs.count(AugVit(net.record(), form="dense"), split.x[:2]) == total.macs
    net(split.x).square().sum().backward()
    for name, parameter in net.named_parameters():
        if ".paths" in name:
            assert bool(parameter.grad.isfinite().all()) and float(parameter.grad.abs().max()) > 0


def test_paths_cost_what_the_paper_says(split):
    found = {arm: macs.parameters(fresh(arm, split)) for arm in ARMS}
    width, blocks, depth = 16, 4, 3
    for arm, paths in (("one_path", 1), ("augmented", 2), ("linear", 1)):
        assert found[arm] - found["plain"] == depth * 2 * paths * (blocks * width + width)
    assert found["dense"] - found["plain"] == depth * 2 * 2 * (width * width + width)
    thinner = dataclasses.replace(NET, hidden=training.widened(NET) - 1)
    less = fresh("plain", split, dataclasses.replace(PARAMS, net=thinner))
    assert macs.parameters(less) < found["augmented"] <= found["wide"]


@torch.no_grad()
def test_official_block_of_timms_parts_and_scipys_matrices(split):
    linalg = pytest.importorskip("scipy.linalg")
    layers = pytest.importorskip("timm.models.vision_transformer")
    net = fresh("official", split)
    block, z = net.blocks[0], net.stem(split.x[:3])
    other = layers.Block(16, 2, 2.0, qkv_bias=True, norm_layer=partial(torch.nn.LayerNorm, eps=1e-6)).eval()
    names = {"attention": "attn"}
    other.load_state_dict({
        ".".join(names.get(part, part) for part in name.split(".")): tensor
        for name, tensor in block.state_dict().items() if "paths" not in name
    })  # fmt: skip

    def paths(module: Paths, h: torch.Tensor) -> torch.Tensor:
        """sum_i GELU(h Theta_i + bias_i), every block from its first column."""
        answers = []
        for weight, bias in zip(module.projection.weight.chunk(2), module.projection.bias.chunk(2), strict=True):
            rows = [torch.cat([torch.from_numpy(linalg.circulant(column)) for column in row], 1) for row in weight]
            answers.append(torch.nn.functional.gelu(h @ torch.cat(rows).t() + bias))
        return sum(answers)

    h = other.norm1(z)
    middle = (z + other.attn(h) + paths(block.paths1, h)) * 3 / 4
    h = other.norm2(middle)
    assert torch.allclose(block(z), (middle + other.mlp(h) + paths(block.paths2, h)) * 3 / 4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(
    ("size", "width", "count"),
    [("tiny", 192, 5_717_416), ("small", 384, 22_050_664), pytest.param("base", 768, 86_567_656, marks=pytest.mark.slow)],
)
def test_timm_gives_the_same_output_for_deit(size, width, count):
    timm = pytest.importorskip("timm")
    theirs = timm.create_model(f"deit_{size}_patch16_224").eval()
    record = augvit(
        [3, 224, 224], 1000, ARMS["plain"], patch=16, embed=width, depth=12, heads=width // 64, hidden=4 * width, blocks=4
    )
    names = {
        "stem.patches": "patch_embed.proj", "stem.token": "cls_token", "stem.positions": "pos_embed", "attention": "attn",
        "classifier": "head",
    }  # fmt: skip
    state = dict(build(record).state_dict())
    for name in state:
        state[name] = theirs.state_dict()[reduce(lambda key, pair: key.replace(*pair), names.items(), name)]
    ours = rebuild(record, state).eval()
    assert macs.parameters(theirs) == macs.parameters(ours) == macs.total(record).params == count
    x = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(ours(x), theirs(x), atol=1e-5)


@torch.no_grad()
def test_drop_path_spares_paths_and_identity(split):
    params = dataclasses.replace(PARAMS, net=dataclasses.replace(NET, drop_path=0.999999))
    net = fresh("augmented", split, params).train()
    block, z = net.blocks[2], torch.randn(4, 5, 16)
    h = z + block.paths1(block.norm1(z))
    assert torch.allclose(block(z), h + block.paths2(block.norm2(h)), atol=1e-6)


@torch.no_grad()
def test_without_any_shortcut_tokens_become_alike(split):
    params = dataclasses.replace(PARAMS, net=dataclasses.replace(NET, depth=8))
    last = {arm: diversity.profile(fresh(arm, split, params), split.x)[1, -1] for arm in ("plain", "no_shortcut", "paths_only")}
    assert last["no_shortcut"] < 1e-3 < last["paths_only"] < last["plain"]


def test_profiles_and_figures_of_a_net(split):
    net = fresh("augmented", split)
    probe = measure.Probe(split, 5)
    values, profile = probe(net, "initial")
    assert profile.shape == (3, NET.depth + 1)
    features = net.features(split.x[:5])
    assert torch.allclose(net.head(features[-1]), net(split.x[:5]))
    for row, name in zip(profile, diversity.MEASURES, strict=True):
        wanted = [float(diversity.MEASURES[name](z.detach().double()).mean()) for z in features]
        assert row.tolist() == pytest.approx(wanted, rel=1e-5)
        assert values[f"initial_{name}"] == pytest.approx(wanted[-1], rel=1e-5)  # the deeper half of three blocks
    assert values["initial_growth"] == pytest.approx(values["initial_residual"] / float(profile[0, 0]))
    assert diversity.path_ratio(fresh("plain", split), split.x) == 1.0


# --- training -------------------------------------------------------------------------------------


def test_weight_decay_covers_circulant_weights_and_no_bias(split):
    net = fresh("augmented", split)
    (decayed, decay), (others, none) = training.groups_of(net, 0.05)
    maps = [module for module in net.modules() if isinstance(module, BlockCirculant)]
    inside = {id(p) for p in decayed}
    assert (decay, none) == (0.05, 0.0) and all(id(m.weight) in inside and id(m.bias) not in inside for m in maps)
    assert len(decayed) + len(others) == len(list(net.parameters()))
    assert id(net.stem.token) not in inside and id(net.stem.positions) not in inside


def test_the_average_follows_the_weights(split):
    start = fresh("augmented", split).state_dict()
    few = split.take(slice(0, 10))  # a single step
    net = training.train(fresh("augmented", split), PARAMS, few, 100)
    kept = training.train(fresh("augmented", split), dataclasses.replace(PARAMS, average=0.9), few, 100)
    for name, tensor in kept.state_dict().items():
        assert torch.allclose(tensor, 0.9 * start[name] + 0.1 * net.state_dict()[name], atol=1e-6)
    assert not torch.equal(start["classifier.weight"], net.state_dict()["classifier.weight"])


def test_a_probe_before_training_leaves_no_trace_after_it(split):
    net, probe = fresh("augmented", split), measure.Probe(split, 5)
    probe(net, "initial")
    training.train(net, PARAMS, split, 100)
    assert torch.equal(probe(net, "trained")[1], probe(rebuild(net.record(), net.state_dict()), "trained")[1])


def test_training_is_paired_and_repeats(split):
    one, two = (training.train(fresh("augmented", split), PARAMS, split, 100) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


# --- wrong input ----------------------------------------------------------------------------------


def test_images_that_do_not_fit(split):
    colour = dataclasses.replace(NET, channels=3)
    with pytest.raises(StageError, match="images of 1 channels, expected 3"):
        training.record_of(ARMS["plain"], colour, split)
    with pytest.raises(StageError, match="do not tile"):
        training.record_of(ARMS["plain"], dataclasses.replace(NET, patch=16), split)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [("blocks", 5, "does not divide"), ("paths", -1, "paths"), ("scale", 0.0, "scale"), ("identity", 1, "identity"),
     ("scale", 2.0, "scale"), ("hidden", 0, "hidden")],
)  # fmt: skip
def test_foreign_records(key, value, said):
    record = augvit([1, 8, 8], 10, ARMS["augmented"], patch=2, embed=16, depth=1, heads=2, hidden=32, blocks=4)
    assert build(record).record() == record
    with pytest.raises(StageError, match=said):
        build({**record, key: value})


def test_an_arm_that_does_not_exist():
    with pytest.raises(StageError, match="choose among augmented"):
        find_arm("augmentd")
