"""Vision transformers: parts against timm's, counts, positions, and DeiT's recipe."""

import dataclasses

import numpy
import pytest
import torch
from torch import nn

from stages.lib import macs, vision_compat  # noqa: F401 (vision_compat: torchvision loads beside a CPU torch)
from stages.lib.data import Split
from stages.lib.errors import StageError
from stages.lib.models import build, rebuild
from stages.lib.vit import parts, recipe, training
from stages.lib.vit.net import VisionTransformer, vit
from stages.lib.vit.settings import Recipe

RECIPE = Recipe(
    epochs=2, batch=20, lr=1e-3, warmup=1, lr_start=1e-6, lr_end=1e-5, weight_decay=0.05, clip=1.0, smoothing=0.1,
    mixup=0.8, cutmix=1.0, erase=0.25, pad=1, flip=True,
)  # fmt: skip
DEIT = {"tiny": (192, 3), "small": (384, 6), "base": (768, 12)}
torch.set_num_threads(1)


def deit(width: int, heads: int, image: int = 224, **options) -> dict:
    return vit([3, image, image], 1000, patch=16, embed=width, depth=12, heads=heads, hidden=4 * width, **options)


@pytest.fixture(scope="module")
def small() -> dict:
    return vit([1, 8, 8], 10, patch=2, embed=16, depth=3, heads=2, hidden=32)


# --- net ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "params", "cost"),
    [
        ("tiny", 5_717_416, 1_253_683_200),
        ("small", 22_050_664, 4_598_882_304),
        ("base", 86_567_656, 17_563_828_224),
    ],
)
def test_deits_counts(size, params, cost):
    record = deit(*DEIT[size])
    total = macs.total(record)
    assert (total.params, total.macs) == (params, cost) and macs.count_record(record) == cost
    with torch.device("meta"):
        assert macs.parameters(build(record)) == params


def test_deit_at_384_pixels():
    total = macs.total(deit(*DEIT["base"], image=384))
    assert (total.params, total.macs) == (86_859_496, 55_484_350_464)


def test_timm_gives_the_same_output():
    timm = pytest.importorskip("timm")
    theirs = timm.create_model("deit_tiny_patch16_224").eval()
    names = {
        "stem.patches": "patch_embed.proj", "stem.token": "cls_token", "stem.positions": "pos_embed", "attention": "attn",
        "classifier": "head",
    }  # fmt: skip
    record = deit(*DEIT["tiny"])
    state = {}
    for name in build(record).state_dict():
        key = name
        for own, other in names.items():
            key = key.replace(own, other)
        state[name] = theirs.state_dict()[key]
    ours = rebuild(record, state).eval()
    x = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(ours(x), theirs(x), atol=1e-5)
    assert len(state) == len(theirs.state_dict())


def test_every_parameter_gets_a_gradient_and_every_row_of_attention_sums_to_one(small):
    torch.manual_seed(0)
    net, x = build(small), torch.randn(4, 1, 8, 8)
    net(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in net.parameters())
    weights = net.blocks[0].attention.attend(net.blocks[0].norm1(net.stem(x)))[1]
    assert torch.allclose(weights.sum(-1), torch.ones(4, 2, 17))


def test_pooling_and_positions_are_in_the_record(small):
    torch.manual_seed(0)
    net = build({**small, "pool": "mean", "positions": "sincos"})
    assert "stem.positions" not in dict(net.named_parameters()) and "stem.positions" in net.state_dict()
    h = torch.randn(2, 17, 16)
    assert torch.equal(net.head(h), net.head(torch.cat([torch.zeros(2, 1, 16), h[:, 1:]], 1)))
    assert macs.total(net.record()).params == macs.parameters(net) == macs.total(small).params - 17 * 16


def test_sincos_positions():
    table = parts.sincos(4, 16)[0]
    assert table.shape == (17, 16) and table[0].eq(0).all()
    grid = table[1:].view(4, 4, 16)
    assert torch.equal(grid[0, :, :8], grid[3, :, :8]) and torch.equal(grid[:, 0, 8:], grid[:, 3, 8:])  # columns first
    assert torch.allclose(grid[0, 2, 0], torch.tensor(2.0).sin()) and torch.allclose(grid[0, 2, 4], torch.tensor(2.0).cos())
    assert len({tuple(row.tolist()) for row in table[1:]}) == 16
    with pytest.raises(StageError):
        parts.sincos(4, 18)


def test_stochastic_depth_keeps_the_mean():
    torch.manual_seed(0)
    branch = torch.ones(4000, 3)
    found = parts.dropped(branch, 0.25, training=True)
    assert set(found.unique().tolist()) == {0.0, float(torch.tensor(1.0) / 0.75)} and abs(float(found.mean()) - 1) < 0.03
    assert parts.dropped(branch, 0.25, training=False) is branch and parts.drop_rates(0.1, 3) == [0.0, 0.05, 0.1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"patch": 3}, {"patch": 16}, {"heads": 3}, {"pool": "max"}, {"positions": "none"}, {"depth": 0}, {"more": 1},
        {"input": [1, 8, 6]}, {"embed": 6, "positions": "sincos"},
    ],
)  # fmt: skip
def test_bad_records(small, wrong):
    with pytest.raises(StageError):
        VisionTransformer.check({**small, **wrong})


# --- recipe ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [{"epochs": 0}, {"warmup": 2}, {"lr": -1.0}, {"clip": float("nan")}, {"smoothing": 1.0}, {"erase": 1.5}, {"batch": 0}],
)
def test_bad_recipes(wrong):
    with pytest.raises(StageError):
        dataclasses.replace(RECIPE, **wrong).check()
    RECIPE.check()


def test_training_learns_and_is_the_same_twice(small):
    quiet = {"mixup": 0.0, "cutmix": 0.0, "erase": 0.0, "smoothing": 0.0, "pad": 0, "flip": False}
    plain = dataclasses.replace(RECIPE, epochs=40, lr=1e-2, **quiet)
    x, y = torch.randn(40, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 10
    split = Split(x, y, tuple("0123456789"), (0.5,), (0.2,), "sample", "train")
    found = []
    for _ in range(2):
        torch.manual_seed(0)
        net = build(small)
        found.append((training.train(net, split, plain, 100), net.state_dict()))
    assert found[0][0] == found[1][0] and found[0][0][-1] < 0.7 * found[0][0][0]
    assert all(torch.equal(found[0][1][name], found[1][1][name]) for name in found[0][1])


def test_learning_rate():
    settings = dataclasses.replace(RECIPE, epochs=10, warmup=2, lr=1.0, lr_start=0.1, lr_end=0.01)
    rates = [recipe.rate(settings, 5, step) for step in range(50)]
    assert rates[0] == 0.1 and rates[5] == pytest.approx(0.55) and rates[10] == 1.0
    assert rates[30] == pytest.approx((1.0 + 0.01) / 2) and rates[10:] == sorted(rates[10:], reverse=True)


def test_mixed_images():
    x = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 1, 8, 8)
    numpy.random.seed(0)
    for kind in ("mixup", "cutmix"):
        settings = dataclasses.replace(RECIPE, **{"mixup": 0.0, "cutmix": 0.0, kind: 1.0})
        for _ in range(20):
            found, other, share = recipe.mixed(settings, x)
            assert other.tolist() == [3, 2, 1, 0] and 0.0 <= share <= 1.0
            wanted = share * x[:, 0].mean((1, 2)) + (1 - share) * x[other][:, 0].mean((1, 2))
            assert torch.allclose(found[:, 0].mean((1, 2)), wanted, atol=1e-5)
    assert recipe.mixed(dataclasses.replace(RECIPE, mixup=0.0, cutmix=0.0), x)[1] is None


def test_the_loss_of_mixed_images_weighs_both_labels():
    settings = dataclasses.replace(RECIPE, mixup=1.0, smoothing=0.1)
    logits, y = torch.randn(4, 10), torch.arange(4)
    numpy.random.seed(3)
    share = recipe.mixed(settings, torch.zeros(4, 1, 8, 8))[2]
    numpy.random.seed(3)
    found = recipe.loss_of(settings)(lambda _: logits, torch.zeros(4, 1, 8, 8), y)
    one, two = (nn.functional.cross_entropy(logits, labels, label_smoothing=0.1) for labels in (y, y.flip(0)))
    assert torch.allclose(found, share * one + (1 - share) * two)


def test_random_erasing():
    x, generator = torch.zeros(400, 1, 8, 8), torch.Generator().manual_seed(0)
    touched = (recipe.erased(x, 0.25, generator) != 0).flatten(1)
    assert abs(float(touched.any(1).float().mean()) - 0.25) < 0.07 and touched.float().mean(1).max() <= 0.5
    assert recipe.erased(x, 0.0, generator).eq(0).all()
