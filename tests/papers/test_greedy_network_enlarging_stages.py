"""The stage scripts of greedy enlarging at the smoke scale: outputs, repeatability, pairing, wrong input."""

import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import torch
import yaml

from stages.lib import artifacts, data, macs, training, weights
from stages.papers.greedy_network_enlarging import choose, evaluate, figures, sample, train
from stages.papers.greedy_network_enlarging.allocation import from_record
from stages.papers.greedy_network_enlarging.arms import ARMS
from stages.report import schema
from tests.papers.prepared import digits, outputs, refusal

ROOT = Path(__file__).parents[2]
SCRIPTS = {"evaluate": evaluate, "choose": choose, "sample": sample, "train": train, "figures": figures}
RUNS = Path("runs/greedy_network_enlarging")
DIMENSIONS = ("depth", "width", "resolution")


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params and digits prepared, which is also the current folder."""
    monkeypatch.chdir(digits(tmp_path))
    return tmp_path


def run(script: str, *more: str, **keys: object) -> None:
    """Runs a stage script's main with command-line words."""
    words = {"scale": "smoke", "dataset": "digits", "seed": 0, **keys}
    SCRIPTS[script].main([f"{key}={value}" for key, value in words.items()] + list(more))


def search(*more: str, steps: tuple[int, ...] = (1, 2, 3), **keys: object) -> None:
    """All jobs of some steps of the search."""
    for step in steps:
        for dimension in DIMENSIONS:
            run("evaluate", *more, step=step, dimension=dimension, **keys)
        run("choose", *more, step=step, **keys)


def refused(capsys: pytest.CaptureFixture, script: str, *more: str, **keys: object) -> str:
    return refusal(capsys, lambda: run(script, *more, **keys))


def choice(step: int, seed: int = 0) -> dict:
    return artifacts.read_json(RUNS / f"step{step}/smoke/digits/choice/{seed}.json")["repetitions"][0]


def rows(seed: int = 0) -> dict[tuple[int, str, str], float]:
    content = artifacts.read_json(RUNS / f"metrics/smoke/digits/{seed}.json")
    return {(row["seed"], row["arm"], row["metric"]): row["value"] for row in content["rows"]}


# --- the whole chain ------------------------------------------------------------------------------


def test_a_search_ends_in_trained_nets_of_equal_macs(workspace):
    search()
    run("sample")
    run("train")
    chain = [from_record(net) for net in choice(3)["chain"]]
    assert len(chain) == 4 and all(larger.contains(smaller) for smaller, larger in itertools.pairwise(chain))
    for step in (1, 2, 3):
        found = choice(step)
        feasible = [row for row in found["slots"] if row["feasible"]]
        assert len(found["slots"]) == 7 and all(row["net"] != chain[step - 1].record() for row in feasible)
        assert found["score"] == max(row["score"] for row in feasible)
        assert found["trainings"] == 2 * len(feasible) and found["spent"] == sum(row["spent"] for row in feasible)
        assert abs(found["macs"] - found["budget"]) <= found["delta"] * found["budget"]
    found, test = rows(), data.load("digits", "test")
    folder = RUNS / "train/smoke/digits/0"
    nets = artifacts.read_json(folder / "nets.json")["repetitions"][0]["arms"]
    assert set(nets) == set(ARMS) and from_record(nets["greedy"][0]) == chain[-1]
    for arm in ARMS:
        net = weights.load_model(folder / f"{arm}.safetensors")
        assert found[0, arm, "accuracy"] == training.evaluate(net, test)
        assert found[0, arm, "macs"] == macs.count(net, torch.zeros(1, 1, 8, 8)) == sum(nets[arm][0]["macs"].values())
        shares = [value for (_, name, metric), value in found.items() if name == arm and metric.startswith("macs_share")]
        assert sum(shares) == pytest.approx(1.0)
        if arm != "base":
            assert abs(found[0, arm, "macs"] / found[0, "greedy", "macs"] - 1) <= 0.05
    assert 0 <= found[0, "greedy", "proxy_error"] < 1 and 0 <= found[0, "greedy", "winning_lead"] < 1
    assert found[0, "random_best", "search_macs"] <= found[0, "greedy", "search_macs"]
    assert artifacts.verify_manifest(folder / "manifest.json")["inputs"]
    assert not list(Path("runs/.scratch").rglob("*.state"))
    paper = schema.parse(yaml.safe_load((ROOT / "params/greedy_network_enlarging/claim.yaml").read_text()), "claim.yaml")
    assert tuple(paper.arms) == ARMS
    for claim in paper.claims:
        assert {(0, claim.method_arm, claim.metric), (0, claim.baseline_arm, claim.metric)} <= set(found)
    run_figures = ["scale=smoke", "dataset=digits", "seeds=[0]"]
    figures.main(run_figures)
    pictures = {path.name: path.read_bytes() for path in Path("reports/pictures/greedy_network_enlarging").iterdir()}
    assert set(pictures) == {f"{name}-smoke.{kind}" for name in ("macs_shares", "ladder") for kind in ("png", "svg")}
    figures.main(run_figures)
    assert all(Path("reports/pictures/greedy_network_enlarging", name).read_bytes() == old for name, old in pictures.items())


def test_the_same_bytes_again_and_repetitions_are_searches_of_their_own(workspace):
    search("repeats=2", steps=(1,), seed=3)
    first = outputs(str(RUNS))
    search("repeats=2", steps=(1,), seed=3)
    assert outputs(str(RUNS)) == first
    together = artifacts.read_json(RUNS / "step1/smoke/digits/choice/3.json")["repetitions"]
    for seed, row in zip((6, 7), together, strict=True):
        search(steps=(1,), seed=seed)
        assert choice(1, seed) == row


def test_exchange_is_tried_at_the_winners_macs_and_only_when_asked_for(workspace):
    search(steps=(1,))
    assert choice(1)["exchanges"] == []
    run("choose", "search.exchange=true", step=1)
    found = choice(1)
    tried = found["exchanges"]
    won = next(row for row in found["slots"] if row["slot"] == found["winner"])
    assert tried and found["trainings"] > sum(row["trainings"] for row in found["slots"] if row["feasible"])
    assert found["score"] == max([won["score"], *(row["score"] for row in tried)])
    assert all(abs(row["macs"] / won["macs"] - 1) < 3 * found["delta"] for row in tried)
    better = [row for row in tried if row["score"] > won["score"]]
    assert found["chain"][1] == (max(better, key=lambda row: row["score"])["net"] if better else won["net"])


# --- the declared pipeline ------------------------------------------------------------------------


@pytest.mark.parametrize("scale", ["smoke", "small", "medium"])
def test_every_scale_has_as_many_steps_as_are_declared(monkeypatch, scale):
    monkeypatch.chdir(ROOT)
    declared = set(
        re.findall(r"^  step(\d+)_evaluate:", (ROOT / "stages/papers/greedy_network_enlarging/dvc.yaml").read_text(), re.M)
    )
    found = train.main.configure([f"scale={scale}", "dataset=digits", "seed=0"])
    assert {str(step + 1) for step in range(found.search.steps)} == declared
    assert found.proxy.trainings >= 2


# --- wrong input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("search.target=1.0", "expected a finite number above 1"),
        ("search.target=nan", "expected a finite number above 1"),
        ("search.target=1e9", "reach"),
        ("search.delta=0", "expected a share between 0 and 1"),
        ("search.most.width=5", "the base"),
        ("search.steps=0", "steps=0: expected 1 or more"),
        ("search.step.width=0", "search.step.width=0"),
        ("step=4", "the search has steps 1 to 3"),
        ("dimension=height", "expected depth, width or resolution"),
        ("net.family=vgg", "expected one of plain"),
        ("net.widths=[6,8]", "3 depths, 2 widths"),
        ("net.options.dropout=0.1", "exactly the keys"),
        ("proxy.trainings=0", "trainings=0"),
        ("proxy.held_out=1.0", "held_out=1.0"),
        ("proxy.classes=11", "classes=11"),
        ("proxy.recipe.lr=1e30", "not finite|NaN"),
        ("proxy.recipe.warmup=3", "expected fewer passes"),
        ("proxy.recipe.smoothing=1", "smoothing=1"),
        ("proxy.recipe.batch=0", "batch=0"),
        ("repeats=0", "repeats=0: expected 1 or more"),
        ("dataset=mnist", "no section 'mnist'"),
    ],
)
def test_impossible_settings(workspace, capsys, word, said):
    keys: dict[str, object] = {"step": 1, "dimension": "width"}
    keys.pop(word.partition("=")[0], None)
    words = [] if word.startswith("dataset") else [word]
    if word.startswith("dataset"):
        keys["dataset"] = "mnist"
    assert re.search(said, refused(capsys, "evaluate", *words, **keys))
    assert not RUNS.exists()


def test_steps_that_are_missing_or_disagree(workspace, capsys):
    assert "step1" in refused(capsys, "evaluate", step=2, dimension="width")
    assert "cannot be read" in refused(capsys, "choose", step=1)
    search(steps=(1,))
    assert "repetitions [0], expected [0, 1]" in refused(capsys, "choose", "repeats=2", step=1)
    path = RUNS / "step1/smoke/digits/depth/0.json"
    whole = path.read_bytes()
    for content, said in ((whole[:-30], "not JSON"), (b"[]", "not a file of the search")):
        path.write_bytes(content)
        assert said in refused(capsys, "choose", step=1)
    changed = artifacts.read_json(RUNS / "step1/smoke/digits/width/0.json")
    artifacts.write_json(path, changed)
    assert "expected the slots" in refused(capsys, "choose", step=1)
    changed["repetitions"][0]["budget"] += 1.0
    artifacts.write_json(path, changed)
    assert "its files disagree" in refused(capsys, "choose", step=1)
    path.write_bytes(whole)
    assert "another base or step" in refused(capsys, "evaluate", "net.widths=[6,8,13]", step=2, dimension="depth")
    assert "step2" in refused(capsys, "sample")
    assert "step2" in refused(capsys, "train")


def test_data_that_are_spoiled_or_missing(workspace, capsys):
    folder = Path("runs/prepare/digits")
    x, y = artifacts.read_npz(folder / "train.npz", "x", "y")
    whole = (folder / "train.npz").read_bytes()
    (folder / "train.npz").write_bytes(whole[:-20])
    assert "train.npz" in refused(capsys, "evaluate", step=1, dimension="depth")
    spoiled = x.astype(numpy.float32)
    spoiled[0] = numpy.nan
    artifacts.write_npz(folder / "train.npz", x=spoiled, y=y)
    about = artifacts.read_json(folder / "manifest.json")
    about["outputs"]["train.npz"] = artifacts.sha256(folder / "train.npz")
    artifacts.write_json(folder / "manifest.json", about)
    assert "expected uint8" in refused(capsys, "evaluate", step=1, dimension="depth")
    shutil.rmtree(folder)
    assert "runs/prepare/digits" in refused(capsys, "evaluate", step=1, dimension="depth")


def test_an_output_that_cannot_be_written(workspace, capsys):
    RUNS.write_text("in the way")
    assert "greedy_network_enlarging" in refused(capsys, "evaluate", step=1, dimension="resolution")


def test_help_names_every_parameter(capsys):
    for script, words in {"evaluate": ("search.exchange", "proxy.held_out"), "train": ("uniform.match", "final.ema")}.items():
        SCRIPTS[script].main(["--help"])
        text = capsys.readouterr().out
        assert all(word in text for word in words)


# --- as a process ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_stopped_evaluation_goes_on_to_the_same_bytes(workspace):
    def start() -> subprocess.Popen:
        words = ["scale=smoke", "dataset=digits", "seed=0", "step=1", "dimension=width", "proxy.recipe.epochs=40"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(ROOT / "stages/papers/greedy_network_enlarging/evaluate.py"), *words]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)

    stopped = start()
    for line in stopped.stdout:  # into the second training of the first candidate
        if line.startswith("proxy 1") and "epoch 5/" in line:
            break
    stopped.send_signal(signal.SIGTERM)
    _, error = stopped.communicate(timeout=60)
    assert stopped.returncode == 143, error
    assert not RUNS.exists() and list(Path("runs/.scratch").rglob("*.state"))
    resumed = start()
    text, error = resumed.communicate(timeout=120)
    assert resumed.returncode == 0 and "resumed at epoch" in text, error
    first = outputs(str(RUNS))
    shutil.rmtree(RUNS)
    assert start().wait(timeout=120) == 0
    assert outputs(str(RUNS)) == first


torch.set_num_threads(1)
