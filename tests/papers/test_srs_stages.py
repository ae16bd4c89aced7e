"""SRS's stage scripts at the smoke scale, in a folder of their own: outputs, wrong input, the paper's settings."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml

from stages.lib import artifacts
from stages.papers.srs import audit, classify, figures, generate, shakedown, train, translate
from stages.report import schema
from tests.papers.prepared import Stages, outputs, project

ROOT = Path(__file__).parents[2]
DATASETS = {"classify": ["digits"], "train": ["cifar10"], "translate": ["grammar"], "generate": ["moons", "gaussians"]}
STAGES = Stages("srs", classify=classify, train=train, translate=translate, generate=generate)
torch.set_num_threads(1)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A project in which all stages have run for seeds 0 and 1, the latter with two repetitions."""
    folder = tmp_path_factory.mktemp("srs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project(folder))
        everything()
        STAGES.run("classify", "repeats=2", dataset="digits", seed=1)
        STAGES.run("generate", "repeats=2", dataset="moons", seed=1)
        STAGES.run("translate", "repeats=2", dataset="grammar", seed=1)
    return folder


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params and both data sets prepared, which is also the current folder."""
    monkeypatch.chdir(project(tmp_path))
    return tmp_path


def everything(seed: int = 0) -> None:
    for script, datasets in DATASETS.items():
        for dataset in datasets:
            STAGES.run(script, dataset=dataset, seed=seed)


def rows(dataset: str, seed: int = 0) -> dict[tuple[str, int, str], float]:
    content = artifacts.read_json(f"runs/srs/metrics/smoke/{dataset}/{seed}.json")
    return {(row["arm"], row["seed"], row["metric"]): row["value"] for row in content["rows"]}


# --- what comes out -------------------------------------------------------------------------------


def test_every_claim_finds_its_figures(finished, monkeypatch):
    monkeypatch.chdir(finished)
    for claim in schema.parse(yaml.safe_load((ROOT / "params/srs/claim.yaml").read_text()), "claim.yaml").claims:
        for arm in (claim.method_arm, claim.baseline_arm):
            assert (arm, 0, claim.metric) in rows(claim.dataset), claim.id
    for folder in sorted(Path("runs/srs").glob("*/smoke/*/0/manifest.json")):
        artifacts.verify_manifest(folder)
    assert not list(Path("runs").rglob("*.state"))


def test_a_second_run_gives_the_same_bytes(finished, monkeypatch, tmp_path):
    shutil.copytree(finished, tmp_path / "again", ignore=shutil.ignore_patterns("srs"))
    shutil.copytree(finished / "params/srs", tmp_path / "again/params/srs")
    monkeypatch.chdir(finished)
    first = {name: content for name, content in outputs("runs/srs").items() if "/1" not in name}
    monkeypatch.chdir(tmp_path / "again")
    everything()
    assert outputs("runs/srs") == first


def test_figures_of_the_sweep_are_those_of_its_curves(finished, monkeypatch):
    monkeypatch.chdir(finished)
    config = classify.main.configure(["scale=smoke", "dataset=digits", "seed=0"]).params
    names = ("accuracy", "loss", "plain_accuracy", "alpha")
    accuracy, loss, plain, alpha = artifacts.read_npz("runs/srs/classify/smoke/digits/0/curves.npz", *names)
    found, arm = rows("digits"), list(config.arms).index("srs")
    assert accuracy.shape == (config.epochs, len(config.arms), 1, len(config.scales) + 1)
    assert found["srs", 0, "accuracy"] == pytest.approx(accuracy[-1, arm, 0, :-1].mean())
    assert found["srs", 0, "area"] == pytest.approx(accuracy[:, arm, 0, :-1].mean())
    assert found["srs", 0, "first_loss_1"] == pytest.approx(loss[0, arm, 0, 1])
    assert found["srs", 0, "plain_sensitivity"] == pytest.approx(plain[-1, arm, 0, :-1].std(ddof=1))
    assert found["srs", 0, "preserving_accuracy"] == pytest.approx(accuracy[-1, arm, 0, -1])
    assert alpha.shape == (config.depth, 1, len(config.scales) + 1) and (alpha != 5.0).all()
    # ReLU's own initialisation is He's, so the two nets are the same but for the digits of 1.4142.
    relu = list(config.arms).index("relu")
    assert loss[0, relu, 0, -1] == pytest.approx(loss[0, relu, 0, 2], rel=1e-2)


def test_a_matrix_seed_stands_for_its_repetitions(finished, monkeypatch):
    monkeypatch.chdir(finished)
    for dataset in ("digits", "moons", "grammar"):
        assert {seed for _, seed, _ in rows(dataset, 1)} == {2, 3}


def test_converted_nets_count_their_sites(finished, monkeypatch):
    monkeypatch.chdir(finished)
    found = rows("cifar10")
    assert found["srs", 0, "sites"] == found["relu", 0, "sites"] == 2 * 2 + 1
    assert found["srs", 0, "added_parameters"] == 2 * 5 and found["relu", 0, "added_parameters"] == 0
    assert found["srs", 0, "alpha"] != 5.0


def test_the_evaluation_split_is_a_setting(finished, monkeypatch, tmp_path):
    shutil.copytree(finished, tmp_path / "val")
    monkeypatch.chdir(tmp_path / "val")
    before = rows("moons")
    STAGES.run("generate", "eval_split=val", dataset="moons")
    after = rows("moons")
    assert (
        before["srs", 0, "first_loss"] == after["srs", 0, "first_loss"] and before["srs", 0, "bits"] != after["srs", 0, "bits"]
    )


def test_pictures_are_drawn_and_damage_is_named(finished, monkeypatch, tmp_path, capsys):
    shutil.copytree(finished, tmp_path / "drawn")
    monkeypatch.chdir(tmp_path / "drawn")
    figures.main(["scales=[smoke]", "seeds=[0]"])
    assert {path.name for path in figures.REPORTS.iterdir()} == {
        f"{name}.{kind}" for name in ("curves", "initialisation", "function") for kind in ("png", "svg")
    }
    path = Path("runs/srs/classify/smoke/digits/0/curves.npz")
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(SystemExit):
        figures.main(["scales=[smoke]", "seeds=[0]"])
    text = capsys.readouterr().err
    assert text.count("\n") == 1 and "curves.npz" in text


# --- the shipped settings -------------------------------------------------------------------------


@pytest.mark.parametrize("scale", ["smoke", "small", "medium", "paper"])
def test_settings_compose(monkeypatch, scale):
    monkeypatch.chdir(ROOT)
    for script, datasets in DATASETS.items():
        for dataset in datasets:
            STAGES.scripts[script].main.configure([f"scale={scale}", f"dataset={dataset}", "seed=0"])


@pytest.mark.slow
def test_audit_agrees(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(audit, "CSV", tmp_path / "audit.csv")
    audit.main([])
    lines = (tmp_path / "audit.csv").read_text().splitlines()
    assert len(lines) == 1 + 31 + 5 + 5 * 4 and all(",True," in line for line in lines[1:])


def test_the_signal_table_agrees(monkeypatch):
    monkeypatch.chdir(ROOT)
    params = audit.main.configure([]).params
    table = [row for one in params.signal for row in audit.signal_rows(one, params)] + audit.rule_rows(params)
    assert [row for row in table if not row["ok"]] == [] and len(table) == 31 + 5


@pytest.mark.slow
def test_shakedown_of_one_net_the_transformer_and_the_flow(monkeypatch):
    monkeypatch.chdir(ROOT)
    config = shakedown.main.configure(["threads=1", "device=cpu"])
    facts = shakedown.shake_net("VGG-16 (CIFAR)", 32, 100, config, torch.device("cpu"))
    assert facts["sites"] == 13 and facts["added"] == 26
    assert shakedown.shake_translation(config, torch.device("cpu"))["decoded"][1:] == [1, 3]
    assert shakedown.shake_flow(config, torch.device("cpu"))["blocks"] == config.flow.blocks


# --- wrong input ----------------------------------------------------------------------------------

SWEEP, FLOW, GRAMMAR, TRAIN = ("classify", "digits"), ("generate", "moons"), ("translate", "grammar"), ("train", "cifar10")
POLE = ["params.activation.preset=own", "params.activation.alpha=1", "params.activation.beta=3"]


@pytest.mark.parametrize(
    ("stage", "words", "said"),
    [
        (SWEEP, POLE, "pole"),
        (FLOW, POLE, "pole"),
        (SWEEP, [*POLE[:1], "params.activation.alpha=-1"], "alpha=-1.0"),
        (GRAMMAR, [*POLE[:1], "params.activation.beta=0"], "beta=0.0"),
        (TRAIN, [*POLE[:1], "params.activation.alpha=nan"], "alpha=nan"),
        (SWEEP, ["params.activation.preset=keras"], "expected one of arxiv, alt, prcv"),
        (SWEEP, ["params.activation.constraint=none"], "expected one of clamp, project"),
        (SWEEP, ["params.arms=[relu,rleu]"], "activation rleu"),
        (GRAMMAR, ["params.arms=[relu,relu]"], "different activations"),
        (FLOW, ["params.arms=[prelu]"], "cannot be used here"),
        (TRAIN, ["params.arms=[]"], "one or more"),
        (SWEEP, ["params.scales=[1,0.5]"], "ascending order"),
        (SWEEP, ["params.scales=[0,1]"], "above 0"),
        (SWEEP, ["params.clip=0"], "above 0"),
        (SWEEP, ["params.lr=nan"], "params.lr"),
        (SWEEP, ["params.schedule=linear"], "expected one of constant, cosine, step"),
        (SWEEP, ["params.batch=299"], "last batch of one"),
        (SWEEP, ["params.lr=1e30", "params.clip=1e30"], "not finite"),
        (SWEEP, ["params.epoch=2"], "params.epoch"),
        (SWEEP, ["repeats=0"], "repeats=0: expected 1 or more"),
        (GRAMMAR, ["params.grammar.longest=2"], "longest=2"),
        (GRAMMAR, ["params.grammar.permutations=9"], "permutations=9"),
        (GRAMMAR, ["params.net.width=15"], "width=15"),
        (FLOW, ["params.contraction=1"], "contraction=1.0"),
        (TRAIN, ["params.granularity=net"], "expected one of layer, channel"),
        (TRAIN, ["params.net.options.image=16"], "the data are"),
        (TRAIN, ["params.net.name=transformer"], "net.name"),
        (TRAIN, ["params.images=5"], "at least one for each"),
    ],
)
def test_impossible_settings(workspace, capsys, stage, words, said):
    assert said in STAGES.refused(capsys, stage[0], *words, dataset=stage[1])


def test_data_sets_without_settings(workspace, capsys):
    assert "no section" in STAGES.refused(capsys, "classify", dataset="mnist")
    assert "no section" in STAGES.refused(capsys, "generate", dataset="spiral")


@pytest.mark.parametrize("name", ["train.npz", "test.npz", "manifest.json"])
def test_truncated_and_missing_inputs(workspace, capsys, name):
    for script, dataset in (SWEEP, TRAIN):
        path = Path(f"runs/prepare/{dataset}/{name}")
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        assert name.partition(".")[0] in STAGES.refused(capsys, script, dataset=dataset)
        path.unlink()
        assert name in STAGES.refused(capsys, script, dataset=dataset)
        path.write_bytes(whole)


def test_help_names_every_parameter(workspace, capsys):
    for script, words in (
        ("classify", ("activation.preset", "scales")),
        ("generate", ("contraction",)),
        ("translate", ("grammar.tokens",)),
    ):
        STAGES.scripts[script].main(["--help"])
        text = capsys.readouterr().out
        assert all(word in text for word in words)
