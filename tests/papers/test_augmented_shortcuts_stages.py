"""The stage scripts at the smoke scale, in a folder of their own: outputs, wrong input, the paper's settings."""

import csv
from pathlib import Path

import numpy
import pytest
import torch
import yaml

from stages.lib import artifacts, data, macs, training, weights
from stages.papers.augmented_shortcuts import audit, circulant, diversity, figures, shakedown, train
from stages.papers.augmented_shortcuts.arms import ARMS
from stages.report import schema
from tests.papers.prepared import ROOT, Stages, outputs, prepare, project

SLUG = "augmented_shortcuts"
STAGES = Stages(SLUG, train=train)
torch.set_num_threads(1)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project, which is also the current folder."""
    monkeypatch.chdir(project(tmp_path))
    return tmp_path


def rows(dataset: str, seed: int = 0) -> dict[tuple[str, int, str], float]:
    """Values of a metrics file by arm, repetition and metric."""
    content = artifacts.read_json(f"runs/{SLUG}/metrics/smoke/{dataset}/{seed}.json")
    return {(row["arm"], row["seed"], row["metric"]): row["value"] for row in content["rows"]}


# --- what comes out -------------------------------------------------------------------------------


def test_all_arms_go_through_and_give_the_same_bytes_again(workspace):
    for dataset in ("digits", "cifar10"):
        STAGES.run("train", dataset=dataset)
    first, found = outputs(f"runs/{SLUG}"), rows("digits")
    assert {arm for arm, *_ in found} == set(ARMS)
    folder, test = Path(f"runs/{SLUG}/nets/smoke/digits/0"), data.load("digits", "test")
    artifacts.verify_manifest(folder / "manifest.json")
    (profiles,) = artifacts.read_npz(folder / "profiles.npz", "augmented_0")
    net = weights.load_model(folder / "augmented.safetensors")
    assert training.evaluate(net, test) == found["augmented", 0, "accuracy"]
    assert numpy.allclose(diversity.profile(net, test.x[:20]), profiles[1], rtol=1e-5)
    assert macs.parameters(net) == found["augmented", 0, "parameters"] <= found["wide", 0, "parameters"]
    assert ("paths_only", 0, "accuracy") not in found and ("paths_only", 0, "initial_relative") in found
    claims = schema.parse(yaml.safe_load((ROOT / f"params/{SLUG}/claim.yaml").read_text()), "claim.yaml").claims
    for claim in claims:
        for arm in (claim.method_arm, claim.baseline_arm):
            assert (arm, 0, claim.metric) in rows(claim.dataset), claim.id
    STAGES.run("train", dataset="digits")
    assert outputs(f"runs/{SLUG}") == first and not list(Path("runs").rglob("*.state"))


@pytest.mark.slow
def test_repetitions_are_the_single_ones_and_figures_are_drawn(workspace):
    few = ["params.arms=[augmented,plain]", "params.untrained=[paths_only]"]
    STAGES.run("train", "repeats=2", *few, dataset="digits", seed=1)
    together = rows("digits", 1)
    STAGES.run("train", *few, dataset="digits", seed=2)
    alone = rows("digits", 2)
    assert alone == {key: value for key, value in together.items() if key[1] == 2} and len(together) == 2 * len(alone)
    drawn = []
    for _ in range(2):
        figures.main(["scale=smoke", "seeds=[2]"])
        drawn.append([path.read_bytes() for path in sorted(figures.REPORTS.glob("diversity-smoke.*"))])
    assert drawn[0] == drawn[1] and len(drawn[0]) == 2


def test_evaluation_split_is_a_setting(workspace):
    STAGES.run("train", "eval_split=val", "params.arms=[plain]", "params.untrained=[]", dataset="digits")
    net = weights.load_model(f"runs/{SLUG}/nets/smoke/digits/0/plain.safetensors")
    assert rows("digits")["plain", 0, "accuracy"] == training.evaluate(net, data.load("digits", "val"))


# --- the shipped settings -------------------------------------------------------------------------


@pytest.mark.parametrize("dataset", ["digits", "cifar10"])
@pytest.mark.parametrize("scale", ["smoke", "small", "medium"])
def test_settings_compose_and_have_the_arms_of_the_claims(monkeypatch, scale, dataset):
    monkeypatch.chdir(ROOT)
    found = train.main.configure([f"scale={scale}", f"dataset={dataset}", "seed=0"]).params
    claims = schema.parse(yaml.safe_load((ROOT / f"params/{SLUG}/claim.yaml").read_text()), "claim.yaml").claims
    for claim in claims:
        if claim.dataset == dataset and scale in claim.scales:
            names = {*found.arms, *([] if claim.metric.startswith(("accuracy", "trained")) else found.untrained)}
            assert {claim.method_arm, claim.baseline_arm} <= names, claim.id


def test_paper_scale_is_the_published_command(monkeypatch):
    monkeypatch.chdir(ROOT)
    found = train.main.configure(["scale=paper", "dataset=imagenet", "seed=0"]).params
    recipe, net = found.recipe, found.net
    assert (recipe.epochs, recipe.batch, recipe.lr, recipe.warmup, recipe.weight_decay) == (300, 1024, 1e-3, 5, 0.05)
    assert (recipe.mixup, recipe.cutmix, recipe.erase, found.average) == (0.8, 1.0, 0.25, 0.99996)
    assert (net.embed, net.depth, net.heads, net.blocks, net.drop_path, found.arms[0]) == (384, 12, 6, 4, 0.1, "official")
    assert (ARMS["official"].paths, ARMS["official"].scale, ARMS["official"].normed) == (2, 0.75, True)


def test_audit(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(audit, "CSV", tmp_path / "audit.csv")
    audit.main([])
    with (tmp_path / "audit.csv").open() as handle:
        table = list(csv.DictReader(handle))
    exact = [row for row in table if float(row["tolerance"]) == 0]
    assert len(exact) == 18 and all(row["ok"] == "True" for row in exact)
    told = schema.parse(yaml.safe_load((ROOT / f"params/{SLUG}/claim.yaml").read_text()), "claim.yaml").errata
    assert {f"{row['configuration']}: {row['quantity']}" for row in table if row["ok"] != "True"} == set(told)


def test_audit_of_a_figure_that_does_not_exist(monkeypatch):
    monkeypatch.chdir(ROOT)
    params = audit.main.configure([]).params
    for figure, said in ((audit.Figure("DeiT-S", "moons", 1.0), "moons"), (audit.Figure("DeiT-X", "MACs", 1.0), "DeiT-X")):
        with pytest.raises(audit.StageError, match=said):
            audit.row(figure, params, {})


@pytest.mark.slow
def test_shakedown_of_the_published_net(monkeypatch):
    monkeypatch.chdir(ROOT)
    config = shakedown.main.configure(["threads=1", "device=cpu", "full.arms=[official]", "params.steps=1", "params.batch=1"])
    facts = shakedown.shake("DeiT-S", config, torch.device("cpu"))
    assert facts["parameters"] == {"official": 22142824}


def test_shakedown_notices_forms_that_differ(monkeypatch):
    net = torch.nn.Sequential(circulant.BlockCirculant(96, 96, 4))
    shakedown.check_forms(net, torch.randn(3, 96))
    monkeypatch.setattr(circulant.BlockCirculant, "by_fft", lambda self, x: x)
    with pytest.raises(shakedown.StageError, match="by form fft differ"):
        shakedown.check_forms(net, torch.randn(3, 96))


# --- wrong input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("params.net.blocks=5", "params.net.blocks=5: does not divide embed=16"),
        ("params.net.patch=16", "do not tile images of 8 pixels"),
        ("params.net.patch=3", "do not tile images of 8 pixels"),
        ("params.net.channels=3", "images of 1 channels, expected 3"),
        ("params.net.heads=3", "a divisor of embed=16"),
        ("params.net.depth=0", "params.net.depth=0: expected 1 or more"),
        ("params.net.deviation=-1", "params.net.deviation"),
        ("params.net.drop_path=1", "params.net.drop_path"),
        ("params.average=1", "params.average=1"),
        ("params.limit=-1", "params.limit=-1"),
        ("params.limit=5", "at least one for each"),
        ("params.limit=301", "there are 300"),
        ("params.probe=0", "params.probe=0"),
        ("params.arms=[augmentd]", "choose among augmented"),
        ("params.arms=[]", "one or more different names"),
        ("params.recipe.lr=nan", "params.recipe.lr"),
        ("params.recipe.warmup=9", "fewer passes"),
        ("params.recipe.lr=1e30", "not finite"),
        ("params.recipe.epoch=2", "params.recipe.epoch"),
        ("repeats=0", "repeats=0: expected 1 or more"),
    ],
)
def test_impossible_settings(workspace, capsys, word, said):
    assert said in STAGES.refused(capsys, "train", word, dataset="digits")


def test_grey_images_where_colour_is_needed(workspace, capsys):
    prepare(workspace / "runs/prepare", "cifar10", (1, 32, 32))
    assert "images of 1 channels, expected 3 (grey has 1, colour 3)" in STAGES.refused(capsys, "train", dataset="cifar10")


@pytest.mark.parametrize("name", ["train.npz", "test.npz", "manifest.json"])
def test_damaged_inputs(workspace, capsys, name):
    path = Path("runs/prepare/digits") / name
    whole = path.read_bytes()
    changed = bytearray(whole)
    changed[len(whole) // 2] ^= 0xFF
    for content in (whole[:-20], bytes(changed), None):
        path.unlink() if content is None else path.write_bytes(content)
        assert name in STAGES.refused(capsys, "train", "params.arms=[plain]", "params.untrained=[]", dataset="digits")


def test_outputs_in_the_way(workspace, capsys):
    assert "no section 'mnist" in STAGES.refused(capsys, "train", dataset="mnist")
    Path(f"runs/{SLUG}").write_text("in the way")
    assert f"runs/{SLUG}" in STAGES.refused(capsys, "train", "params.arms=[plain]", "params.untrained=[]", dataset="digits")


def test_pictures_of_a_damaged_folder(workspace, capsys):
    STAGES.run("train", "params.arms=[plain]", "params.untrained=[]", dataset="digits")
    path = Path(f"runs/{SLUG}/nets/smoke/digits/0/profiles.npz")
    path.write_bytes(path.read_bytes()[:-20])
    for words, said in ((["seeds=[0]"], str(path)), (["seeds=[1]"], "manifest.json")):
        with pytest.raises(SystemExit) as stopped:
            figures.main(["scale=smoke", *words])
        text = capsys.readouterr().err
        assert stopped.value.code == 1 and said in text and text.count("\n") == 1


def test_help_names_every_parameter(capsys):
    train.main(["--help"])
    text = capsys.readouterr().out
    assert all(word in text for word in ("net.blocks", "average", "recipe.warmup", "probe"))
