"""EoiNAS's stage scripts at the smoke scale, in a folder of their own: outputs, pairing, wrong input."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from stages.lib import artifacts, macs, training, weights
from stages.lib.darts import parse, published
from stages.papers.eoinas import baselines, fidelity, figures, found, images, planted, search, train
from stages.papers.eoinas.arms import ARMS, PRINTED, SEARCHERS
from stages.papers.eoinas.settings import Images
from stages.report import schema
from tests.papers.prepared import Stages, outputs, project

ROOT = Path(__file__).parents[2]
SCRIPTS = {"search": search, "baselines": baselines, "train": train, "fidelity": fidelity, "planted": planted}
STAGES = Stages("eoinas", **SCRIPTS)
run, refused, rows = STAGES.run, STAGES.refused, STAGES.rows
torch.set_num_threads(1)


@pytest.fixture(scope="module")
def origin(tmp_path_factory) -> Path:
    """A workspace in which all searches of seed 0 are done."""
    folder = project(tmp_path_factory.mktemp("eoinas"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for arm in SEARCHERS:
            run("search", dataset="digits", arm=arm)
        run("baselines", dataset="digits")
    return folder


@pytest.fixture
def workspace(origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A private copy of it, which is also the current folder."""
    folder = Path(shutil.copytree(origin, tmp_path / "copy"))
    monkeypatch.chdir(folder)
    return folder


def single(dataset: str) -> dict[tuple[str, str], float]:
    """Values of a single-file data set by arm and metric."""
    content = artifacts.read_json(f"runs/eoinas/metrics/smoke/{dataset}/0.json")
    return {(row["arm"], row["metric"]): row["value"] for row in content["rows"]}


# --- what comes out -------------------------------------------------------------------------------


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_leaves_a_genotype_that_is_trained_and_measured(workspace, arm):
    source = found.folder("smoke", "digits", arm, 0)
    artifacts.verify_manifest(source / "manifest.json")
    (item,) = found.load(source, [0])
    assert (source / "checkpoint.safetensors").exists() == (arm in ("eoinas", "alpha_pruning"))
    run("train", dataset="digits", arm=arm)
    folder = Path(f"runs/eoinas/train/smoke/digits/{arm}/0")
    assert str(source / "search.json") in artifacts.verify_manifest(folder / "manifest.json")["inputs"]
    net, measured = weights.load_model(folder / "model.safetensors"), rows("digits", arm)
    held_out = images.load("digits", "test", Images(9, 0.1, 80))
    assert parse(net.record()["genotype"]) == item["genotype"]
    assert measured[0, "accuracy"] == training.evaluate(net, held_out)
    assert measured[0, "macs"] == macs.count(net, held_out.x[:1])
    assert measured[0, "parameters"] == macs.parameters(net)
    assert (measured[0, "search_macs"] > 0) == (arm in (*SEARCHERS, "random_best"))
    assert not outputs("runs/.scratch")


def test_random_search_spends_what_eoinas_spent_and_takes_the_best(workspace):
    (own,), (other,) = (found.load(found.folder("smoke", "digits", arm, 0), [0]) for arm in ("eoinas", "random_best"))
    draws = other["draws"]
    per_draw = other["spent"] / len(draws)
    assert own["spent"] <= other["spent"] < own["spent"] + 3 * per_draw and len(draws) > 1
    assert other["genotype"] == parse(max(draws, key=lambda draw: draw["accuracy"])["genotype"])
    names = {op for draw in draws for cell in draw["genotype"].values() for op, _ in cell}
    assert names <= {"max_pool_3x3", "skip_connect", "sep_conv_3x3"}


def test_giving_operations_up_makes_a_search_cheaper(workspace):
    spent = {arm: found.load(found.folder("smoke", "digits", arm, 0), [0])[0]["spent"] for arm in SEARCHERS}
    assert spent["eoinas"] < spent["darts"] and spent["alpha_pruning"] < spent["darts"]
    events = artifacts.read_json(found.folder("smoke", "digits", "eoinas", 0) / "search.json")["repetitions"][0]["events"]
    sizes = [size for event in events for size in (event["macs_before"], event["macs_after"])]
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] < sizes[0]


@pytest.mark.parametrize("arm", PRINTED)
def test_printed_cells_get_the_width_of_equal_cost(workspace, arm):
    (item,) = found.load(found.folder("smoke", "digits", arm, 0), [0])
    assert item["genotype"] == published(arm) and item["channels"] >= 2


def test_fidelity_compares_both_scores_on_one_checkpoint(workspace):
    run("fidelity", dataset="digits")
    first, values = outputs("runs/eoinas/metrics"), single("fidelity")
    assert set(values) == {(a, f"fidelity_{k}") for a in ("eoinas", "alpha_pruning") for k in ("accuracy", "loss")}
    assert all(-1 <= value <= 1 for value in values.values())
    run("fidelity", dataset="digits")
    assert outputs("runs/eoinas/metrics") == first


def test_planted_noise_is_counted_against_chance(workspace):
    run("planted", dataset="digits")
    values = single("planted")
    assert values["random", "noise_left"] == 0.75
    assert all(0 <= values[arm, "noise_left"] <= 1 for arm in ("eoinas", "alpha_pruning"))


def test_stages_give_the_same_bytes_again_and_repetitions_are_the_single_ones(workspace):
    written = []
    for _ in range(2):
        run("search", "repeats=2", dataset="digits", arm="eoinas", seed=3)
        run("train", "repeats=2", dataset="digits", arm="eoinas", seed=3)
        written.append(outputs("runs/eoinas"))
    assert written[0] == written[1]
    together = rows("digits", "eoinas", 3)
    run("search", dataset="digits", arm="eoinas", seed=6)
    run("train", dataset="digits", arm="eoinas", seed=6)
    assert {k: v for k, v in together.items() if k[0] == 6} == rows("digits", "eoinas", 6)


def test_pictures_of_the_cells_are_the_same_again(workspace):
    figures.main(["scale=smoke", "dataset=digits", "seeds=[0]"])
    first = outputs("reports")
    assert {Path(name).suffix for name in first} == {".png", ".svg"}
    figures.main(["scale=smoke", "dataset=digits", "seeds=[0]"])
    assert outputs("reports") == first


# --- the shipped settings -------------------------------------------------------------------------


def test_claims_name_arms_and_metrics_that_the_stages_write(workspace):
    paper = schema.parse(yaml.safe_load((ROOT / "params/eoinas/claim.yaml").read_text()), "claim.yaml")
    assert tuple(paper.arms) == ARMS
    run("train", dataset="digits", arm="eoinas")
    written = {"digits": {metric for _, metric in rows("digits", "eoinas")}}
    for script in ("fidelity", "planted"):
        run(script, dataset="digits")
        written[script] = {metric for _, metric in single(script)}
    for claim in paper.claims:
        assert claim.metric in written[claim.dataset]


@pytest.mark.parametrize(
    ("scale", "dataset"), [("smoke", "digits"), ("small", "digits"), ("medium", "digits"), ("paper", "cifar10")]
)
def test_settings_compose_and_fit(monkeypatch, scale, dataset):
    monkeypatch.chdir(ROOT)
    words = [f"scale={scale}", f"dataset={dataset}", "seed=0"]
    cfg = search.main.configure([*words, "arm=eoinas"])
    for part in (cfg.images, cfg.space, cfg.search):
        part.check()
    cfg.search.fits(cfg.space)
    train.main.configure([*words, "arm=eoinas"]).train.check()
    baselines.main.configure(words).random.check()
    assert planted.main.configure(words).planted.replaced in cfg.space.operations


# --- wrong input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("arm=eoinass", "arm=eoinass: there is no such search"),
        ("arm=random", "arm=random: there is no such search"),
        ("space.operations=[none,conv_7x7]", "'conv_7x7' is unknown"),
        ("space.operations=[none]", "at least one besides none"),
        ("space.operations=[skip_connect,skip_connect]", "named twice"),
        ("space.operations=[none,skip_connect]", "2 operations need 1 drops"),
        ("space.cells=2", "space.cells=2: expected 3 or more"),
        ("space.nodes=0", "space.nodes=0"),
        ("space.channels=1", "space.channels=1"),
        ("space.stem=none", "space.stem=none: expected one of cifar, imagenet"),
        ("search.prune=[1,3,2]", "expected rising passes"),
        ("search.prune=[1,2]", "expected its last to be epochs=3"),
        ("search.warmup=3", "search.warmup=3: expected from 0"),
        ("search.warmup=1", "expected rising passes after warmup=1"),
        ("search.checkpoint=3", "three operations left or more"),
        ("search.checkpoint=5", "expected 0 or one of prune"),
        ("search.temperature=0", "search.temperature=0"),
        ("search.indicator=-1", "search.indicator=-1"),
        ("search.lr=nan", "search.lr=nan"),
        ("search.dropout=1", "search.dropout=1"),
        ("search.alpha_betas=[0.5]", "expected two numbers"),
        ("search.accuracy=best", "expected one of mean, last"),
        ("search.batch=0", "search.batch=0"),
        ("search.lr=1e30", "not finite in epoch"),
        ("images.canvas=5", "images.canvas=5: expected 0 or a side of 8"),
        ("images.limit=3", "at least one for each of 10 classes"),
        ("repeats=0", "repeats=0: expected 1 or more"),
        ("search.epocs=2", "search.epocs"),
        ("dataset=mnist", "no section 'mnist"),
    ],
)
def test_impossible_searches(workspace, capsys, word, said):
    keys = {"dataset": "digits", "arm": "eoinas", "seed": 1}
    keys.pop(word.partition("=")[0], None)
    assert said in refused(capsys, "search", word, **keys)


@pytest.mark.parametrize(
    ("script", "word", "said"),
    [
        ("train", "arm=gnas", "arm=gnas: there is no such arm"),
        ("train", "train.epochs=0", "train.epochs=0"),
        ("train", "train.drop_path=1.0", "train.drop_path=1.0"),
        ("train", "train.auxiliary=0.4", "the head needs 8"),
        ("train", "train.lr=1e30", "not finite"),
        ("train", "net.stem=none", "cifar or imagenet"),
        ("baselines", "random.epochs=0", "random.epochs=0"),
        ("planted", "planted.replaced=sep_conv_5x5", "planted.replaced=sep_conv_5x5: expected one of none"),
        ("planted", "planted.drops=4", "expected at most 3"),
        ("fidelity", "fidelity.images=-1", "fidelity.images=-1"),
        ("fidelity", "fidelity.images=5", "at least one for each of 10 classes"),
        ("fidelity", "space.channels=3", "a saved search does not fit its settings"),
    ],
)
def test_other_impossible_settings(workspace, capsys, script, word, said):
    keys = {"dataset": "digits"} | ({"arm": "eoinas"} if script == "train" and not word.startswith("arm") else {})
    assert said in refused(capsys, script, word, **keys)


@pytest.mark.parametrize(
    ("pair", "said"),
    [(["sep_conv_3x3", 5], "no DAG"), (["conv", 0], "operation 'conv'"), (["none", 0], "operation 'none'"), (7, "list of")],
)
def test_a_genotype_that_is_none(workspace, capsys, pair, said):
    path = found.folder("smoke", "digits", "eoinas", 0) / "search.json"
    content = artifacts.read_json(path)
    content["repetitions"][0]["genotype"]["normal"][0] = pair
    artifacts.write_json(path, content)
    text = refused(capsys, "train", dataset="digits", arm="eoinas")
    assert said in text and "search.json" in text


def test_inputs_that_are_missing_truncated_or_foreign(workspace, capsys):
    place = found.folder("smoke", "digits", "eoinas", 0)
    assert "lacks the results" in refused(capsys, "train", "repeats=2", dataset="digits", arm="eoinas")
    checkpoint = place / "checkpoint.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-20])
    assert "checkpoint.safetensors" in refused(capsys, "fidelity", dataset="digits")
    (place / "search.json").write_text('{"repetitions": 3}')
    assert "lacks the results" in refused(capsys, "train", dataset="digits", arm="eoinas")
    (place / "search.json").unlink()
    assert "search.json: cannot be read" in refused(capsys, "baselines", dataset="digits")
    shutil.rmtree("runs/prepare/digits")
    assert "runs/prepare/digits" in refused(capsys, "search", dataset="digits", arm="darts", seed=1)


def test_an_output_that_cannot_be_written(workspace, capsys):
    shutil.rmtree("runs/eoinas/search/smoke/digits/darts")
    Path("runs/eoinas/search/smoke/digits/darts").write_text("in the way")
    assert "darts" in refused(capsys, "search", dataset="digits", arm="darts")


def test_a_scripts_help_names_every_parameter(workspace, capsys):
    search.main(["--help"])
    text = capsys.readouterr().out
    assert all(word in text for word in ("search.indicator", "space.operations", "images.canvas"))


@pytest.mark.slow
def test_a_killed_search_goes_on_to_the_same_bytes(workspace):
    def start() -> subprocess.Popen:
        words = ["scale=smoke", "dataset=digits", "arm=eoinas", "seed=0", "search.epochs=40", "search.prune=[10,20,40]",
                 "search.checkpoint=20"]  # fmt: skip
        code = f"import sys; from stages.papers.eoinas import saved, search; saved.EVERY = 0.0; search.main({words!r})"
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)

    shutil.rmtree("runs/eoinas")
    stopped = start()
    for line in stopped.stdout:
        if "epoch 32/" in line:  # past the checkpoint
            break
    stopped.send_signal(signal.SIGKILL)
    stopped.communicate(timeout=60)
    assert not Path("runs/eoinas").exists()
    resumed = start()
    text, _ = resumed.communicate(timeout=300)
    assert resumed.returncode == 0 and "resumed after epoch" in text
    first = outputs("runs/eoinas")
    shutil.rmtree("runs/eoinas")
    assert start().communicate(timeout=300) is not None
    assert outputs("runs/eoinas") == first
