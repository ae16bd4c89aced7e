"""Channel exploration around a net: masks, most-recently-used values, budgets, optimiser, stopping, nets that do not fit."""

import copy
import dataclasses
import json
import os
import signal
from pathlib import Path

import pytest
import torch
from torch import nn

from stages.lib import macs, models, optim, runtime, surgery, training
from stages.lib.data import Split
from stages.lib.errors import StageError
from stages.papers.chex import descent, exploration, leverage, prunable, runs, shrink
from stages.papers.chex.arms import ARMS, Arm, find
from stages.papers.chex.settings import Exploration, Net, Params, Sgd, TwoStep

torch.set_num_threads(1)
CPU = torch.device("cpu")
OPTIONS = {"blocks": [1, 1], "widths": [6, 8], "in_channels": 2, "image": 8}


def sgd(**changes) -> Sgd:
    plain = {"epochs": 4, "lr": 0.1, "warmup": 0.0, "rate_per": "step", "momentum": 0.9, "nesterov": True,
             "weight_decay": 1e-3, "decay_norms": True, "batch": 10, "smoothing": 0.0, "mixup": 0.0, "pad": 0, "flip": False,
             "limit": 0}  # fmt: skip
    return Sgd(**(plain | changes))


def explored(**changes) -> Exploration:
    plain = {"sparsity": 0.5, "delta": 0.3, "ticks": 1, "interval": 1, "last": 3, "regrow_rule": "global_bn",
             "mask_momentum": True, "prune_downsample": False, "macs": 0.0}  # fmt: skip
    return Exploration(**(plain | changes))


def params(optimiser: Sgd | None = None, **changes) -> Params:
    two = TwoStep(epochs=2, lr=0.05, rule="chex")
    return Params(Net("preresnet", OPTIONS, 0.5), optimiser or sgd(), explored(**changes), two)


def toy(seed: int = 1, kind: str = "preresnet", **options):
    torch.manual_seed(seed)
    return runs.scaled(models.construct(kind, classes=3, **(OPTIONS | options)), 0.5)


@pytest.fixture
def split() -> Split:
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(40, 2, 8, 8, generator=draw), torch.arange(40) % 3
    x += y.view(-1, 1, 1, 1)
    return Split(x, y, ("a", "b", "c"), (0.0, 0.0), (1.0, 1.0), "sample")


def explorer(net=None, arm: str | Arm = "chex", steps: int = 4, budget=None, optimiser=None, **changes) -> exploration.Explorer:
    chosen = find(arm) if isinstance(arm, str) else arm
    return exploration.Explorer(net or toy(), optimiser or sgd(), explored(**changes), chosen, steps, 7, budget)


def step(model: exploration.Explorer, split: Split, times: int = 1) -> None:
    model.train()
    for i in range(times):
        index = torch.arange(10) + 10 * (i % 4)
        nn.functional.cross_entropy(model(split.x[index]), split.y[index]).backward()
        model.after_step()


def dead(model: exploration.Explorer) -> torch.Tensor:
    """Every learnable entry that the masks turn off, in one row."""
    found = []
    for name in model.owned:
        if "running" not in name:
            found.append(model._tensor(name)[~model._entries(name, model.masks)].flatten())
    return torch.cat(found)


# --- masks ----------------------------------------------------------------------------------------


def test_first_masks_keep_the_largest_filters():
    net = toy()
    norms = net.blocks[1].conv1.weight.detach().abs().flatten(1).sum(1)
    model = explorer(net)
    assert [int(mask.sum()) for mask in model.masks] == [4, 6]  # int(.8 * 6), int(.8 * 8)
    assert model.masks[1].nonzero().flatten().tolist() == norms.topk(6).indices.sort().values.tolist()
    assert [int(mask.sum()) for mask in explorer(arm="prune_only").masks] == [3, 4]


@pytest.mark.parametrize("momentum", [True, False])
def test_masked_entries_stay_exactly_zero(split, momentum):
    model = explorer(mask_momentum=momentum, optimiser=sgd(weight_decay=0.05))
    for _ in range(9):
        step(model, split)
        assert len(dead(model)) and not dead(model).any()
        assert torch.isfinite(torch.cat([p.flatten() for p in model.parameters()])).all()


def test_only_mask_momentum_clears_velocities(split):
    for clear in (True, False):
        model = explorer(mask_momentum=clear)
        step(model, split, 4)  # the first exploration step
        velocity = model.velocity[id(model.net.blocks[1].conv1.weight)]
        assert velocity[~model.masks[1]].any() != clear


def test_masked_net_and_thin_net_agree(split):
    model = explorer(last=3)
    step(model, split, 13)
    kept = {layer.name: mask.nonzero().flatten() for layer, mask in zip(model.layers, model.masks)}
    thin = surgery.cut(model.net, kept)
    assert macs.parameters(thin) < macs.parameters(model.net)
    a, b = model.net.eval()(split.x), thin.eval()(split.x)
    assert torch.allclose(a, b, atol=1e-5)
    generic = shrink.shrunk(model.net, model.layers, model.masks)
    assert torch.allclose(generic(split.x), a, atol=1e-5)
    assert macs.count(generic, split.x[:1]) == macs.count(thin, split.x[:1])
    assert shrink.zero_share(model.net)["blocks.1.conv1"] == pytest.approx(1 - float(model.masks[1].float().mean()))


# --- exploration steps ----------------------------------------------------------------------------


def test_clock_of_epochs_and_of_parts_of_them():
    assert exploration._events(explored(last=6, interval=2), 5) == {10: 2, 20: 4, 30: 6}
    assert exploration._events(explored(last=4, ticks=2), 5) == {2: 1, 5: 2, 7: 3, 10: 4}
    with pytest.raises(StageError, match="ticks=9"):
        exploration._events(explored(ticks=9), 5)


def test_final_share_is_one_minus_s_to_a_channel_a_layer(split):
    model = explorer()
    step(model, split, 13)
    assert abs(sum(int(mask.sum()) for mask in model.masks) - 0.5 * 14) <= len(model.masks)


@pytest.mark.parametrize("rule", ["global_bn", "per_layer"])
def test_regrowth_widens_and_ends(split, rule):
    model = explorer(regrow_rule=rule)
    step(model, split, 13)
    kept, width = model.log[:, :, 0], model.log[:, :, 1]
    assert (width >= kept).all() and (width[0] > kept[0]).any() and torch.equal(width[-1], kept[-1])
    if rule == "per_layer":  # ceil(.225 * 6), ceil(.225 * 8)
        assert (width[0] - kept[0]).tolist() == [2, 2]


def test_budget_is_the_macs_of_every_pruning(split):
    net = toy()
    model = explorer(net, budget=runs.budget_of(net, 0.7))
    step(model, split, 13)
    whole, channel = macs.total(net.record()).macs, 9 * 8 * 64
    for row in model.log[:, :, 0].int().tolist():
        assert abs(runs.cost_of(net)(row) - 0.7 * whole) <= channel
    assert [int(mask.sum()) for mask in model.masks] == model.log[-1, :, 1].int().tolist()


def test_pruned_channel_comes_back_with_the_values_it_last_had(split):
    model = explorer(last=2)
    step(model, split, 3)
    before = {name: model._tensor(name).detach().clone() for name in model.owned}
    with torch.no_grad():
        model._remember()
    active = [mask.clone() for mask in model.masks]
    gone = [mask.clone() for mask in active]
    for mask in gone:
        mask[mask.nonzero()[0]] = False
    model._set(gone)
    step(model, split, 1)  # others move on, running statistics of the pruned too
    model._remember()
    model._restore()
    for name in model.owned:
        off = ~model._entries(name, gone) & model._entries(name, active)
        assert off.any() and torch.equal(model._tensor(name)[off], before[name][off])
        on = model._entries(name, gone)
        assert not torch.equal(model._tensor(name)[on], before[name][on])


def test_never_active_channels_come_back_as_they_began(split):
    net = toy()
    fresh = copy.deepcopy(net)
    model = explorer(net, sparsity=0.5, delta=0.0, last=4)
    step(model, split, 2)
    model._remember()
    model._restore()
    off = ~model.masks[1]
    assert torch.equal(net.blocks[1].conv1.weight[off], fresh.blocks[1].conv1.weight[off])
    assert torch.equal(net.blocks[1].bn2.weight[off], fresh.blocks[1].bn2.weight[off])
    assert torch.equal(net.blocks[1].conv2.weight[:, off], fresh.blocks[1].conv2.weight[:, off])


def test_restored_channels_have_an_effect_and_those_at_zero_never_learn(split):
    for arm, alive in (("chex", True), ("zero_regrow", False)):
        model = explorer(arm=arm, last=100, sparsity=0.6, delta=0.5)
        step(model, split, 4)
        back = [mask & ~exploration._mask(len(mask), kept) for mask, kept in zip(model.masks, _kept(model))]
        step(model, split, 3)
        moved = [model._tensor(f"{layer.producer}.weight")[b].abs().sum() for layer, b in zip(model.layers, back) if b.any()]
        assert moved and all((value > 0) == alive for value in moved)


def _kept(model) -> list[torch.Tensor]:
    """Active channels whose filters are not zero."""
    found = []
    for layer, mask in zip(model.layers, model.masks):
        rows = model._tensor(f"{layer.producer}.weight").flatten(1).abs().sum(1) > 0
        found.append((rows & mask).nonzero().flatten() if model.arm.restore == "zero" else torch.arange(0))
    return found


def test_with_everything_kept_it_is_dense_training(split):
    plain, explored_net = toy(), toy()
    settings = explored(sparsity=0.0, delta=0.0)
    model = exploration.Explorer(explored_net, sgd(), settings, find("chex"), 4, 7, None)
    descent.fit(model, split, CPU, 3, None, "all")
    descent.fit(descent.Trainee(plain, sgd(), 4), split, CPU, 3, None, "dense")
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), explored_net.parameters()))


def test_coverage_of_chex_exceeds_that_of_pruning_alone(split):
    found = {arm: runs.explore(toy(), split, params(), 0, CPU, arm=arm)[1] for arm in ("chex", "prune_only")}
    ever = {arm: sum(layer["ever"] for layer in record["layers"]) for arm, record in found.items()}
    assert ever["chex"] > 7 >= ever["prune_only"]


def test_arms_that_differ_in_the_score_agree_up_to_their_first_choice(split):
    nets = {}
    for arm in ("chex", "l1"):
        model = explorer(arm=arm)
        step(model, split, 3)
        nets[arm] = torch.cat([p.flatten() for p in model.parameters()])
    assert torch.equal(nets["chex"], nets["l1"])


# --- whole runs -----------------------------------------------------------------------------------


@pytest.mark.parametrize("arm", list(ARMS))
def test_every_arm_ends_at_the_same_macs(split, arm):
    net, record = runs.run(arm, params(macs=0.6), split, 5, CPU, None)
    assert record["macs"] == macs.count(net, split.x[:1])
    share = record["macs"] / record["dense_macs"]
    assert share == 1.0 if arm == "dense" else share == pytest.approx(0.6, abs=0.1)
    assert json.loads(json.dumps(record)) == record
    assert all(len(layer["kept"]) <= layer["ever"] <= layer["channels"] for layer in record["layers"])


def test_arms_start_from_the_same_weights_and_runs_repeat_to_the_bit(split):
    first, second = (runs.run("chex", params(), split, 5, CPU, None) for _ in range(2))
    assert first[1] == second[1]
    assert all(torch.equal(a, b) for a, b in zip(first[0].state_dict().values(), second[0].state_dict().values()))
    assert runs.run("chex", params(), split, 6, CPU, None)[1]["layers"] != first[1]["layers"]


def test_two_step_has_the_passes_of_the_others(split, monkeypatch):
    seen = []
    real = training.train
    monkeypatch.setattr(training, "train", lambda *a, **k: seen.append(k["epochs"]) or real(*a, **k))
    for arm in ARMS:
        seen.clear()
        runs.run(arm, params(), split, 5, CPU, None)
        assert sum(seen) == 4, arm


def test_two_step_by_equal_shares(split):
    changed = dataclasses.replace(params(), two_step=TwoStep(2, 0.05, "uniform_l1"))
    record = runs.run("two_step", changed, split, 5, CPU, None)[1]
    assert [len(layer["kept"]) for layer in record["layers"]] == [3, 4]


def test_shortcuts_are_masked_and_stay_wide(split):
    net = toy(kind="preresnet")
    with pytest.raises(StageError, match="prune_downsample"):
        runs.explore(net, split, params(prune_downsample=True), 0, CPU)
    torch.manual_seed(0)
    net = runs.scaled(models.resnet(18, classes=3, in_channels=2, image=32), 0.5)
    model = explorer(net, prune_downsample=True, last=1)
    model.explore(4)
    shortcut = next(layer for layer in model.layers if layer.consumer is None)
    weight, norm = (net.get_submodule(path).weight for path in (shortcut.producer, shortcut.norm))
    rows = weight.flatten(1).abs().sum(1) > 0
    assert 0 < int(rows.sum()) < len(rows) and torch.equal(rows, norm != 0)
    thin = shrink.shrunk(net, model.layers, model.masks)
    assert thin.get_submodule(shortcut.producer).weight.shape == weight.shape
    assert runs.surgery_gap(net, thin, torch.randn(2, 2, 32, 32)) < 1e-3


# --- optimiser ------------------------------------------------------------------------------------


@pytest.mark.parametrize("nesterov", [True, False])
def test_optimiser_is_the_one_of_the_lib_when_nothing_else_is_asked(split, nesterov):
    ours, theirs = toy(), toy()
    settings = sgd(nesterov=nesterov)
    descent.fit(descent.Trainee(ours, settings, 4), split, CPU, 3, None, "ours")
    training.train(theirs, split, epochs=4, lr=0.1, batch=10, seed=3, weight_decay=1e-3, nesterov=nesterov)
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values()))


def test_rates_warm_up_and_fall():
    per_epoch = sgd(epochs=10, lr=1.0, warmup=2, rate_per="epoch")
    assert [descent.rate(per_epoch, 3, s) for s in range(6)] == [0.5] * 3 + [1.0] * 3
    assert descent.rate(per_epoch, 3, 6) == 1.0 and descent.rate(per_epoch, 3, 18) == pytest.approx(0.5)
    per_step = sgd(epochs=4, lr=1.0, warmup=0.0)
    wanted = optim.schedule("cosine", 1.0, 20)
    assert [descent.rate(per_step, 5, s) for s in range(20)] == pytest.approx([wanted(s) for s in range(20)])
    stepped = sgd(epochs=10, lr=1.0, milestones=[0.5, 0.8])
    assert [descent.rate(stepped, 1, s) for s in (4, 5, 8)] == pytest.approx([1.0, 0.1, 0.01])


def test_norms_can_be_left_out_of_the_decay():
    net = toy()
    before = net.bn.weight.detach().clone(), net.fc.weight.detach().clone()
    model = descent.Trainee(net, sgd(decay_norms=False, weight_decay=0.1), 4)
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    model.after_step()
    assert torch.equal(net.bn.weight, before[0]) and not torch.equal(net.fc.weight, before[1])
    assert sum(len(o.parameters) for o in model.optimisers) == len(list(net.parameters()))


@torch.no_grad()
def test_smoothing_and_mixup_change_the_loss(split):
    net, x, y = toy().eval(), split.x, split.y
    plain = float(descent.loss_of(sgd())(net, x, y).detach())
    smooth = nn.functional.cross_entropy(net(x), y, label_smoothing=0.1)
    assert torch.equal(descent.loss_of(sgd(smoothing=0.1))(net, x, y), smooth) and float(smooth) != plain
    runtime.seed_everything(3)
    mixed = float(descent.loss_of(sgd(mixup=0.2))(net, x, y))
    runtime.seed_everything(3)
    assert mixed == float(descent.loss_of(sgd(mixup=0.2))(net, x, y)) != plain


# --- stopping -------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [2, 4, 9, 15])
def test_a_stopped_run_goes_on_to_the_same_bits(split, tmp_path: Path, monkeypatch, stop):
    state = tmp_path / "run.state"
    whole = runs.run("chex", params(macs=0.6), split, 5, CPU, None)
    real, count = exploration.Explorer.after_step, [0]

    def counted(self):
        real(self)
        count[0] += 1
        if count[0] == stop:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(exploration.Explorer, "after_step", counted)
    with pytest.raises(StageError, match="SIGTERM") as stopped:
        runs.run("chex", params(macs=0.6), split, 5, CPU, state)
    assert stopped.value.code == 143 and state.exists()
    resumed = runs.run("chex", params(macs=0.6), split, 5, CPU, state)
    assert count[0] == 16 and not state.exists()
    assert resumed[1] == whole[1]
    assert all(torch.equal(a, b) for a, b in zip(whole[0].state_dict().values(), resumed[0].state_dict().values()))


def test_a_state_of_other_settings_is_not_taken_up(split, tmp_path: Path, monkeypatch, capsys):
    state = tmp_path / "run.state"
    real = exploration.Explorer.after_step

    def stopping(self):
        real(self)
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(exploration.Explorer, "after_step", stopping)
        with pytest.raises(StageError):
            runs.run("chex", params(last=3), split, 5, CPU, state)
    runs.run("chex", params(last=2), split, 5, CPU, state)
    assert "other settings" in capsys.readouterr().out


# --- nets that do not fit -------------------------------------------------------------------------


class Grouped(nn.Module):
    def __init__(self, groups: int = 1, norm: bool = True, width: int = 4) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(2, 4, 1, groups=groups), nn.Conv2d(width, 4, 1)
        self.bn1 = nn.BatchNorm2d(4) if norm else nn.Identity()


@pytest.mark.parametrize(
    ("net", "said"),
    [
        (Grouped(groups=2), "groups=2"),
        (Grouped(norm=False), "expected the BN of conv1"),
        (Grouped(width=5), "expected 4 input channels, got 5"),
        (nn.Linear(2, 2), "found none"),
    ],
)
def test_layers_that_cannot_be_pruned(net, said):
    with pytest.raises(StageError, match=said):
        prunable.prunable_layers(net)


def test_all_families_of_the_lib_are_accepted():
    assert len(prunable.prunable_layers(Grouped())) == 1
    for kind, options, count in (
        ("resnet", {"depth": 50}, 32),
        ("vgg_cifar", {"depth": 16}, 12),
        ("preresnet_cifar", {"depth": 20}, 9),
    ):
        with torch.device("meta"):
            assert len(prunable.prunable_layers(models.construct(kind, **options))) == count
    with torch.device("meta"):
        assert len(prunable.prunable_layers(models.resnet(50), downsample=True)) == 36


def test_settings_are_checked_where_the_function_is_called_directly(split):
    with pytest.raises(StageError, match="sparsity"):
        runs.explore(toy(), split, params(sparsity=1.0), 0, CPU)
    with pytest.raises(StageError, match="before the end"):
        runs.explore(toy(), split, params(last=4), 0, CPU)


def test_nan_images_are_refused(split):
    split.x[3] = float("nan")
    with pytest.raises(StageError, match=r"NaN|not finite"):
        runs.explore(toy(), split, params(), 0, CPU)


def test_a_net_at_zero_keeps_a_channel_a_layer(split):
    model = explorer(sparsity=0.9, delta=0.0)
    with torch.no_grad():
        model.net.blocks[0].bn2.weight.mul_(1e-6)
    model.explore(next(iter(model.events)))
    assert int(model.masks[0].sum()) == 1
    assert leverage.columns(model.net.blocks[0].conv1.weight)[:, model.masks[0]].any()
