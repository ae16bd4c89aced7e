"""The audit of the released nets, and the paper-scale settings: to the digit, nested, composing, run for a few steps."""

import csv
import dataclasses
from pathlib import Path

import pytest
import yaml

from stages.lib import runtime
from stages.lib.errors import StageError
from stages.papers.greedy_network_enlarging import audit, shakedown
from stages.papers.greedy_network_enlarging.views import eval_view, train_view

ROOT = Path(__file__).parents[2]
SIZES = {
    "GhostNet 1x, 224": (5182508, 141150512),
    "GhostNet large, 224": (4691824, 141184432),
    "S-GhostNet_b1, 240": (11938476, 582774650),
    "S-GhostNet_b4, 384": (31986130, 4499328576),
    "example of the release's train.py, 384": (31353586, 4275305920),
    "EfficientNet-B0": (5288548, 385814752),
    "EfficientNet-B1": (7794184, 686802832),
    "EfficientNet-B2": (9109994, 993561872),
    "EfficientNet-B3": (12233232, 1827141392),
    "EfficientNet-B4": (19341616, 4393771024),
}


@pytest.fixture(scope="module")
def params() -> audit.AuditParams:
    tree = yaml.safe_load((ROOT / "params/greedy_network_enlarging/paper.yaml").read_text())["audit"]
    kinds = {"ghostnets": audit.Ghost, "efficientnets": audit.Compound, "resnets": audit.Residual}
    rows = {key: [kind(**row) for row in tree[key]] for key, kind in kinds.items()}
    return audit.AuditParams(**rows, **{key: tree[key] for key in ("last_two", "blocks", "nested")})


def spaces(params: audit.AuditParams) -> dict:
    found = {net.name: (net, audit.ghost_space(net)) for net in params.ghostnets}
    return found | {net.name: (net, audit.compound_space(net)) for net in params.efficientnets}


def test_the_closed_form_has_the_sizes_of_the_specification(params):
    for name, (net, space) in spaces(params).items():
        assert (space.parameters(space.base), space.macs(space.base)) == (net.parameters, net.macs) == SIZES[name]


@pytest.mark.parametrize("name", ["GhostNet 1x, 224", "EfficientNet-B0"])
def test_rows_are_exact_and_a_wrong_figure_is_seen(params, name):
    net, space = spaces(params)[name]
    rows = audit.size_rows(net, space)
    assert all(row["ok"] for row in rows) and [row["tolerance"] for row in rows[:2]] == [0.0, 0.0]
    wrong = dataclasses.replace(net, parameters=net.parameters + 1, stages=[told + 0.01 for told in net.stages])
    assert not any(row["ok"] for row in audit.size_rows(wrong, space) if row["quantity"] != "MACs")


def test_resnets_and_shapes_agree_and_a_name_must_exist(params):
    rows = [row for net in params.resnets for row in audit.resnet_rows(net)] + audit.shape_rows(params)
    assert len(rows) == 15 + 3 + 3 + 2 and all(row["ok"] for row in rows)
    with pytest.raises(StageError, match="no GhostNet is called"):
        audit.shape_rows(dataclasses.replace(params, nested=["GhostNet 9x"]))
    turned = dataclasses.replace(params, nested=params.nested[::-1])
    assert [row["ok"] for row in audit.shape_rows(turned)[-2:]] == [False, False]


@pytest.mark.slow
def test_the_script_writes_the_table(tmp_path, monkeypatch):
    (tmp_path / "params").symlink_to(ROOT / "params")
    monkeypatch.chdir(tmp_path)
    audit.main([])
    with open("runs/audit/greedy_network_enlarging.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert list(rows[0]) == "paper configuration quantity published computed relative_error tolerance ok read_from".split()
    assert len(rows) == 84 and all(row["ok"] == "True" for row in rows)


# --- paper scale ----------------------------------------------------------------------------------


@pytest.fixture
def config(monkeypatch):
    monkeypatch.chdir(ROOT)
    return shakedown.main.configure(["threads=1", "device=cpu"])


def test_paper_scale_has_the_releases_recipe(config):
    for name in config.params.searches:
        final = shakedown.section_of(config, name).final
        assert (final.epochs, final.lr, final.warmup, final.warmup_lr, final.final_lr) == (450, 0.6, 20.0, 1e-4, 1e-6)
        assert (final.weight_decay, final.smoothing, final.momentum, final.batch) == (2e-5, 0.1, 0.9, 1024)
    b1, b4 = config.imagenet_b1.search.target, config.imagenet_b4.search.target
    assert (b1 * 141184432, b4 * 141184432) == (pytest.approx(600e6, rel=1e-6), pytest.approx(4.4e9, rel=1e-6))
    with pytest.raises(StageError, match="no section"):
        shakedown.section_of(config, "views")


def test_released_nets_are_those_of_the_audit(config, params):
    audited = {(tuple(s.base.depths), tuple(s.base.widths), s.base.resolution, s.parameters(s.base))
               for _, s in spaces(params).values()}  # fmt: skip
    for net in config.params.released.values():
        setting = shakedown.section_of(config, net.section)
        options = {**setting.net.options, **net.options}
        base = dataclasses.replace(
            setting.net, depths=net.depths, widths=net.widths, resolution=net.resolution, options=options
        )
        found = shakedown_space(base)
        assert (tuple(net.depths), tuple(net.widths), net.resolution, found.parameters(found.base)) in audited


def shakedown_space(base):
    from stages.papers.greedy_network_enlarging.space import space_of

    return space_of(base, 3, 1000)


def test_views_are_the_recipes(config):
    import torch
    from PIL import Image

    picture = Image.new("RGB", (500, 400), (10, 200, 30))
    torch.manual_seed(0)
    assert train_view(64, autoaugment=True)(picture).shape == (3, 64, 64)
    seen = eval_view(240, 0.875)(picture)
    assert seen.shape == (3, 240, 240) and torch.allclose(seen[:, 0, 0], seen[:, -1, -1])


def test_a_released_net_is_stepped_and_answers(config):
    small = shakedown.Released("imagenet_b1", [1, 1, 1, 1, 1, 1], [8, 12, 16, 20, 24, 28], 33, 2)
    device = runtime.prepare(1, "cpu", 0)
    facts = shakedown.shake_released(small, config.imagenet_b1, config.views, 2, device)
    assert facts["logits"] == [1, 1000] and facts["finite"] and not facts["enlarges_the_base"]


def test_a_search_takes_its_first_step(config):
    setting = config.imagenet_b1
    small = dataclasses.replace(setting.net, depths=[1] * 6, widths=[4, 8, 8, 12, 12, 16], resolution=32)
    steps = dataclasses.replace(setting.search, delta=0.1)
    facts = shakedown.shake_search(
        dataclasses.replace(setting, net=small, search=steps), config.views, runtime.prepare(1, "cpu", 0)
    )
    assert facts["slots"] == 13 and facts["chosen"]["slot"] in facts["candidates"]
    assert all(abs(macs - facts["budgets"][0]) <= facts["delta"] * facts["budgets"][0] for macs in facts["candidates"].values())
