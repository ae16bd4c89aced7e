"""CHEX's stage scripts at the smoke scale, in a folder of their own: outputs, pairing, wrong input, stopping."""

import os
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
from stages.papers.chex import columns, explore
from stages.papers.chex.arms import ARMS
from stages.report import schema
from tests.papers.prepared import Stages, outputs, project

ROOT = Path(__file__).parents[2]
STAGES = Stages("chex", explore=explore, columns=columns)
run, refused, rows = STAGES.run, STAGES.refused, STAGES.rows


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params and both data sets prepared, which is also the current folder."""
    monkeypatch.chdir(project(tmp_path))
    return tmp_path


# --- what comes out -------------------------------------------------------------------------------


@pytest.mark.parametrize("dataset", ["cifar10", "digits"])
@pytest.mark.parametrize("arm", list(ARMS))
def test_every_arm_goes_through(workspace, dataset, arm):
    run("explore", dataset=dataset, arm=arm)
    folder = Path(f"runs/chex/explore/smoke/{dataset}/{arm}/0")
    assert {p.name for p in folder.iterdir()} == {"model.safetensors", "exploration.json", "manifest.json"}
    assert f"runs/prepare/{dataset}/train.npz" in artifacts.verify_manifest(folder / "manifest.json")["inputs"]
    net, found, test = weights.load_model(folder / "model.safetensors"), rows(dataset, arm), data.load(dataset, "test")
    assert found[0, "accuracy"] == training.evaluate(net, test)
    assert found[0, "macs"] == macs.count(net, test.x[:1])
    assert found[0, "parameters"] == macs.parameters(net)
    assert found[0, "bytes"] == (folder / "model.safetensors").stat().st_size
    assert ((0, "residual_first") in found) == (ARMS[arm].kind == "explore")
    layers = artifacts.read_json(f"runs/chex/metrics/smoke/{dataset}/{arm}/0.json")["layers"]
    assert [net.get_submodule(row["layer"]).in_channels for row in layers] == [row["kept"] for row in layers]
    assert not outputs("runs/.scratch")


def test_arms_share_their_first_choice(workspace):
    for arm in ("chex", "l1", "random_regrow"):
        run("explore", dataset="digits", arm=arm)
    first = {
        arm: artifacts.read_json(f"runs/chex/explore/smoke/digits/{arm}/0/exploration.json")["repetitions"][0]["events"][0]
        for arm in ("chex", "l1", "random_regrow")
    }
    assert first["chex"]["kept"] == first["l1"]["kept"] == first["random_regrow"]["kept"]
    assert first["chex"]["residual"] == first["random_regrow"]["residual"]


def test_stages_give_the_same_bytes_again_and_repetitions_are_the_single_ones(workspace):
    run("explore", "repeats=2", dataset="digits", arm="chex", seed=3)
    together, first = rows("digits", "chex", 3), outputs("runs/chex")
    run("explore", "repeats=2", dataset="digits", arm="chex", seed=3)
    assert outputs("runs/chex") == first
    for seed in (6, 7):
        run("explore", dataset="digits", arm="chex", seed=seed)
        assert {k: v for k, v in together.items() if k[0] == seed} == rows("digits", "chex", seed)


def test_evaluation_split_is_a_setting(workspace):
    run("explore", "eval_split=val", dataset="digits", arm="uniform")
    net = weights.load_model("runs/chex/explore/smoke/digits/uniform/0/model.safetensors")
    assert rows("digits", "uniform")[0, "accuracy"] == training.evaluate(net, data.load("digits", "val"))


def test_columns_writes_all_its_arms(workspace):
    run("columns", seed=4)
    first = outputs("runs/chex")
    found = {row["arm"]: row["value"] for row in artifacts.read_json("runs/chex/metrics/smoke/columns/4.json")["rows"]}
    assert set(found) == {"chex", "l1", "random", "bound"} and found["bound"] == min(found.values())
    run("columns", seed=4)
    assert outputs("runs/chex") == first


# --- the shipped settings -------------------------------------------------------------------------


def test_claims_name_arms_and_metrics_that_the_stages_write(workspace):
    paper = schema.parse(yaml.safe_load((ROOT / "params/chex/claim.yaml").read_text()), "claim.yaml")
    assert set(paper.arms) == set(ARMS)
    run("explore", dataset="digits", arm="chex")
    written = {metric for _, metric in rows("digits", "chex")}
    for claim in paper.claims:
        assert claim.metric in (written if claim.dataset != "columns" else {"residual"})
        if claim.metric == "residual_first":
            assert all(ARMS[arm].kind == "explore" for arm in (claim.method_arm, claim.baseline_arm))


@pytest.mark.parametrize("scale", ["smoke", "small", "medium"])
@pytest.mark.parametrize("dataset", ["cifar10", "digits"])
def test_settings_compose_and_macs_are_matched(monkeypatch, scale, dataset):
    monkeypatch.chdir(ROOT)
    found = explore.main.configure([f"scale={scale}", f"dataset={dataset}", "seed=0", "arm=chex"]).params
    assert 0 < found.exploration.macs < 1
    columns.main.configure([f"scale={scale}", "seed=0"])


# --- wrong input ----------------------------------------------------------------------------------


def test_an_unknown_arm(workspace, capsys):
    assert "arm=chexx: there is no such arm" in refused(capsys, "explore", dataset="digits", arm="chexx")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("params.exploration.sparsity=0", "expected S in (0, 1)"),
        ("params.exploration.sparsity=1.0", "expected S in (0, 1)"),
        ("params.exploration.sparsity=nan", "expected S in (0, 1)"),
        ("params.exploration.delta=0.6", "expected delta_0 from 0 to S=0.5"),
        ("params.exploration.delta=-0.1", "expected delta_0"),
        ("params.exploration.interval=3", "expected a multiple of interval=3"),
        ("params.exploration.last=4", "before the end of the run, 4 ticks"),
        ("params.exploration.ticks=50", "a pass has 4 steps"),
        ("params.exploration.interval=0", "interval=0: expected 1 or more"),
        ("params.exploration.macs=1.5", "params.exploration.macs=1.5"),
        ("params.exploration.regrow_rule=all", "expected one of global_bn, per_layer"),
        ("params.exploration.prune_downsample=true", "prune_downsample needs a BN"),
        ("params.sgd.warmup=2", "expected fewer passes than"),
        ("params.sgd.rate_per=hour", "expected one of epoch, step"),
        ("params.sgd.lr=-1", "params.sgd.lr=-1"),
        ("params.sgd.lr=1e30", "not finite"),
        ("params.sgd.limit=3", "at least one for each of 10 classes"),
        ("params.two_step.epochs=2", "params.two_step.epochs=2: expected fewer"),
        ("params.two_step.rule=none", "expected one of chex, uniform_l1"),
        ("params.net.name=lenet", "net.name"),
        ("params.net.options.image=32", "the net takes [1, 32, 32] images, the data are [1, 8, 8]"),
        ("params.sgd.epocs=2", "params.sgd.epocs"),
        ("repeats=0", "repeats=0: expected 1 or more"),
        ("dataset=mnist", "no section 'mnist'"),
    ],
)
def test_impossible_settings(workspace, capsys, word, said):
    keys = {} if word.startswith("dataset") else {"dataset": "digits"}
    assert said in refused(capsys, "explore", word, arm="chex", **keys)


@pytest.mark.parametrize("word", ["params.redundant=12", "params.kept=13", "params.directions=9", "params.noise=nan"])
def test_impossible_filter_banks(workspace, capsys, word):
    assert word.partition("=")[0].rpartition(".")[2] in refused(capsys, "columns", word)


def test_inputs_that_are_missing_truncated_or_no_images(workspace, capsys):
    folder = Path("runs/prepare/digits")
    about, whole = artifacts.read_json(folder / "manifest.json"), (folder / "test.npz").read_bytes()
    (folder / "test.npz").write_bytes(whole[:-20])
    assert "test.npz" in refused(capsys, "explore", dataset="digits", arm="chex")
    (folder / "test.npz").write_bytes(whole)
    x, y = artifacts.read_npz(folder / "train.npz", "x", "y")
    spoiled = x.astype(numpy.float32)
    spoiled[0] = numpy.nan
    artifacts.write_npz(folder / "train.npz", x=spoiled, y=y)
    assert "differs from its manifest" in refused(capsys, "explore", dataset="digits", arm="chex")
    about["outputs"]["train.npz"] = artifacts.sha256(folder / "train.npz")
    artifacts.write_json(folder / "manifest.json", about)
    assert "expected uint8" in refused(capsys, "explore", dataset="digits", arm="chex")
    shutil.rmtree(folder)
    assert "runs/prepare/digits" in refused(capsys, "explore", dataset="digits", arm="chex")


def test_an_output_that_cannot_be_written(workspace, capsys):
    Path("runs/chex").write_text("in the way")
    with pytest.raises(SystemExit) as stopped:
        run("explore", dataset="digits", arm="uniform")
    text = capsys.readouterr().err
    assert stopped.value.code == 1 and text.count("\n") == 1 and "runs/chex" in text


def test_a_scripts_help_names_every_parameter(workspace, capsys):
    for script, words in (("explore", ("exploration.regrow_rule", "two_step.rule", "sgd.mixup")), ("columns", ("directions",))):
        STAGES.scripts[script].main(["--help"])
        text = capsys.readouterr().out
        assert all(word in text for word in words)


# --- as a process ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_stopped_process_goes_on_to_the_same_bytes(workspace):
    def start() -> subprocess.Popen:
        words = ["scale=smoke", "dataset=digits", "arm=chex", "seed=0", "params.sgd.epochs=60", "params.sgd.batch=20",
                 "params.exploration.last=80"]  # fmt: skip
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(ROOT / "stages/papers/chex/explore.py"), *words]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)

    stopped = start()
    for line in stopped.stdout:  # let a few epochs pass
        if "epoch 5/" in line:
            break
    stopped.send_signal(signal.SIGTERM)
    _, error = stopped.communicate(timeout=60)
    assert stopped.returncode == 143, error
    assert not Path("runs/chex").exists() and outputs("runs/.scratch")
    resumed = start()
    text, error = resumed.communicate(timeout=120)
    assert resumed.returncode == 0 and "resumed at epoch" in text, error
    first = outputs("runs/chex")
    shutil.rmtree("runs/chex")
    assert start().wait(timeout=120) == 0
    assert outputs("runs/chex") == first


torch.set_num_threads(1)
