"""DCP's stage scripts at the smoke scale, in a folder of their own: outputs, pairing, wrong input."""

import json
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
from stages.lib.files import repetitions
from stages.papers.dcp import finetune, nuisance, prune, train
from stages.papers.dcp.arms import ARMS
from stages.papers.dcp.kernels import kernel_mask
from stages.report import schema
from tests.papers.prepared import Stages, outputs

ROOT = Path(__file__).parents[2]
STAGES = Stages("dcp", train=train, prune=prune, finetune=finetune, nuisance=nuisance)
run, refused, rows = STAGES.run, STAGES.refused, STAGES.rows


@pytest.fixture(scope="module")
def origin(tmp_path_factory) -> Path:
    """A workspace in which both data sets are prepared and trained."""
    return STAGES.trained(tmp_path_factory.mktemp("dcp"))


@pytest.fixture
def workspace(origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A private copy of it, which is also the current folder."""
    folder = Path(shutil.copytree(origin, tmp_path / "copy"))
    monkeypatch.chdir(folder)
    return folder


# --- what comes out -------------------------------------------------------------------------------


def test_train_writes_the_contracts_files(workspace):
    folder = Path("runs/dcp/train/smoke/cifar10/0")
    assert {p.name for p in folder.iterdir()} == {"dense.safetensors", "aux.safetensors", "manifest.json"}
    manifest = artifacts.verify_manifest(folder / "manifest.json")
    assert "runs/prepare/cifar10/train.npz" in manifest["inputs"]
    net = weights.load_model(folder / "dense.safetensors")
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert not Path("runs/.scratch").exists() or not outputs("runs/.scratch")


@pytest.mark.parametrize("dataset", ["cifar10", "digits"])
@pytest.mark.parametrize("arm", list(ARMS))
def test_every_arm_goes_through(workspace, dataset, arm):
    run("prune", dataset=dataset, arm=arm)
    run("finetune", dataset=dataset, arm=arm)
    pruned = weights.load_model(f"runs/dcp/prune/smoke/{dataset}/{arm}/0/model.safetensors")
    tuned = weights.load_model(f"runs/dcp/finetune/smoke/{dataset}/{arm}/0/model.safetensors")
    assert tuned.record() == pruned.record()
    found = rows(dataset, arm)
    test = data.load(dataset, "test")
    assert found[0, "accuracy_after"] == training.evaluate(tuned, test)
    assert ((0, "accuracy_before") in found) == (arm != "thin_scratch")
    if arm != "thin_scratch":
        assert found[0, "accuracy_before"] == training.evaluate(pruned, test)
    assert found[0, "macs"] == macs.count(tuned, test.x[:1])
    assert found[0, "parameters"] == macs.parameters(tuned)
    assert found[0, "bytes"] == Path(f"runs/dcp/finetune/smoke/{dataset}/{arm}/0/model.safetensors").stat().st_size
    for stage in ("prune", "finetune"):
        artifacts.verify_manifest(f"runs/dcp/{stage}/smoke/{dataset}/{arm}/0/manifest.json")


def test_layers_and_selection_agree_with_the_net(workspace):
    run("prune", dataset="cifar10", arm="dcp")
    run("finetune", dataset="cifar10", arm="dcp")
    net = weights.load_model("runs/dcp/prune/smoke/cifar10/dcp/0/model.safetensors")
    layers = artifacts.read_json("runs/dcp/metrics/smoke/cifar10/dcp/0.json")["layers"]
    assert [(r["layer"], r["channels"], r["kept"]) for r in layers] == [("blocks.0.conv2", 4, 2), ("blocks.1.conv2", 8, 4)]
    assert [net.get_submodule(r["layer"]).in_channels for r in layers] == [2, 4]
    selection = artifacts.read_json("runs/dcp/prune/smoke/cifar10/dcp/0/selection.json")["repetitions"][0]
    assert selection["surgery_gap"] < 1e-4
    assert all(layer["losses"][-1] < layer["losses"][0] for layer in selection["layers"])


def test_peers_have_the_same_size_and_dense_is_the_aux_net(workspace):
    arms = ["dcp", "reconstruction", "cross_entropy", "l1", "random", "l1_refit", "random_refit", "thin_scratch", "dense"]
    for arm in arms:
        run("prune", dataset="digits", arm=arm)
    nets = {arm: weights.load_model(f"runs/dcp/prune/smoke/digits/{arm}/0/model.safetensors") for arm in arms}
    assert len({json.dumps(nets[arm].record()) for arm in arms[:-1]}) == 1
    aux = artifacts.load_tensors("runs/dcp/train/smoke/digits/0/aux.safetensors")[0]
    for name, tensor in nets["dense"].state_dict().items():
        assert torch.equal(tensor, aux[f"net.{name}"])


def test_kernel_zeros_survive_fine_tuning_and_are_counted(workspace):
    run("prune", dataset="cifar10", arm="dkp")
    run("finetune", dataset="cifar10", arm="dkp")
    before, after = (weights.load_model(f"runs/dcp/{s}/smoke/cifar10/dkp/0/model.safetensors") for s in ("prune", "finetune"))
    for site in before.sites():
        masks = [kernel_mask(net.get_submodule(site.consumer).weight) for net in (before, after)]
        assert torch.equal(*masks)
    found = rows("cifar10", "dkp")
    assert found[0, "macs_sparse"] < found[0, "macs"]


def test_ratio_of_single_arms(workspace):
    run("prune", dataset="cifar10", arm="dcp_30")
    kept = artifacts.read_json("runs/dcp/prune/smoke/cifar10/dcp_30/0/selection.json")["repetitions"][0]["layers"]
    assert [len(layer["kept"]) for layer in kept] == [3, 6]


def test_the_papers_own_loop(workspace):
    run("prune", "params.schedule=stagewise", dataset="cifar10", arm="dcp")
    layers = artifacts.read_json("runs/dcp/prune/smoke/cifar10/dcp/0/selection.json")["repetitions"][0]["layers"]
    assert [len(layer["kept"]) for layer in layers] == [2, 4]
    stem = weights.load_model("runs/dcp/prune/smoke/cifar10/dcp/0/model.safetensors").stem.conv.weight
    dense = weights.load_model("runs/dcp/train/smoke/cifar10/0/dense.safetensors").stem.conv.weight
    assert not torch.equal(stem, dense)  # it was fine-tuned on the way


def test_stages_give_the_same_bytes_again(workspace):
    for script, keys in (("train", {}), ("prune", {"arm": "dcp"}), ("finetune", {"arm": "dcp"}), ("nuisance", {})):
        folder = "runs/dcp" if script in ("finetune", "nuisance") else f"runs/dcp/{script}"
        more = {} if script == "nuisance" else {"dataset": "cifar10"}
        run(script, **more, **keys)
        first = outputs(folder)
        run(script, **more, **keys)
        assert outputs(folder) == first, script


def test_several_repetitions_in_one_process_are_the_single_ones(workspace):
    run("train", "repeats=2", dataset="digits", seed=3)
    run("prune", "repeats=2", dataset="digits", arm="dcp", seed=3)
    run("finetune", "repeats=2", dataset="digits", arm="dcp", seed=3)
    together = rows("digits", "dcp", 3)
    assert {seed for seed, _ in together} == set(repetitions(3, 2)) == {6, 7}
    for seed in (6, 7):
        run("train", dataset="digits", seed=seed)
        run("prune", dataset="digits", arm="dcp", seed=seed)
        run("finetune", dataset="digits", arm="dcp", seed=seed)
        alone = rows("digits", "dcp", seed)
        assert {k: v for k, v in together.items() if k[0] == seed} == alone


def test_evaluation_split_is_a_setting(workspace):
    run("prune", dataset="digits", arm="l1")
    run("finetune", "eval_split=val", dataset="digits", arm="l1")
    net = weights.load_model("runs/dcp/finetune/smoke/digits/l1/0/model.safetensors")
    assert rows("digits", "l1")[0, "accuracy_after"] == training.evaluate(net, data.load("digits", "val"))


def test_nuisance_writes_all_its_arms(workspace):
    run("nuisance", seed=4)
    found = artifacts.read_json("runs/dcp/metrics/smoke/nuisance/4.json")["rows"]
    arms = {row["arm"] for row in found if row["metric"] == "signal_recall"}
    assert arms == {"dcp", "reconstruction", "cross_entropy", "l1", "random"}
    assert {row["seed"] for row in found} == {4}


# --- the shipped settings -------------------------------------------------------------------------


def test_claims_name_arms_and_metrics_that_the_stages_write(workspace):
    paper = schema.parse(yaml.safe_load((ROOT / "params/dcp/claim.yaml").read_text()), "claim.yaml")
    assert set(paper.arms) == set(ARMS)
    run("nuisance")
    generated = artifacts.read_json("runs/dcp/metrics/smoke/nuisance/0.json")["rows"]
    for claim in paper.claims:
        for arm in (claim.method_arm, claim.baseline_arm):
            if claim.dataset == "nuisance":
                assert (arm, claim.metric) in {(row["arm"], row["metric"]) for row in generated}
            else:
                assert claim.metric in ("accuracy_before", "accuracy_after")
                assert (arm, claim.metric) != ("thin_scratch", "accuracy_before")


@pytest.mark.parametrize("scale", ["smoke", "small", "medium"])
@pytest.mark.parametrize("dataset", ["cifar10", "digits"])
def test_settings_compose_and_budgets_are_equal(monkeypatch, scale, dataset):
    monkeypatch.chdir(ROOT)
    keys = [f"scale={scale}", f"dataset={dataset}", "seed=0"]
    first = train.main.configure(keys).params
    last = finetune.main.configure([*keys, "arm=dcp"]).params
    chosen = prune.main.configure([*keys, "arm=dcp"]).params
    assert last.scratch.epochs == first.epochs + first.aux.epochs + last.epochs
    assert (last.limit, last.batch, last.scratch.lr) == (first.limit, first.batch, first.lr)
    assert chosen.ratios == {"dcp_30": 0.3, "dcp_50": 0.5}
    nuisance.main.configure([f"scale={scale}", "seed=0"])


# --- wrong input ----------------------------------------------------------------------------------


@pytest.mark.parametrize("script", ["prune", "finetune"])
def test_an_unknown_arm(workspace, capsys, script):
    assert "arm=dpc: there is no such arm" in refused(capsys, script, dataset="digits", arm="dpc")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("params.ratio=1.0", "params.ratio=1.0: expected a share in [0, 1)"),
        ("params.ratio=-0.1", "params.ratio=-0.1"),
        ("params.ratios={dcp: 1.5}", "params.ratios.dcp=1.5"),
        ("params.ratios={dpc: 0.5}", "params.ratios.dpc: there is no such arm"),
        ("params.schedule=both", "params.schedule=both: expected one of joint, stagewise"),
        ("params.score=best", "params.score=best"),
        ("params.form=whole", "params.form=whole"),
        ("params.steps=0", "params.steps=0: expected 1 or more"),
        ("params.lr=-1", "params.lr=-1"),
        ("params.lr=.nan", "params.lr"),
        ("params.images=3", "at least one for each of 10 classes"),
        ("params.images=3000", "need 3000 examples, there are 300"),
        ("params.ration=0.5", "params.ration"),
        ("repeats=0", "repeats=0: expected 1 or more"),
    ],
)
def test_impossible_settings_of_prune(workspace, capsys, word, said):
    assert said in refused(capsys, "prune", word, dataset="digits", arm="dcp")
    assert not Path("runs/dcp/prune").exists()


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("params.net.name=lenet", "net.name"),
        ("params.net.options.image=32", "the net takes [1, 32, 32] images, the data are [1, 8, 8]"),
        ("params.aux.losses=5", "5 auxiliary losses do not fit"),
        ("params.aux.pivots=[2]", "pivots [2] must rise"),
        ("params.epochs=-1", "epochs=-1"),
        ("params.lr=1e30", "not finite"),
        ("dataset=mnist", "no section 'mnist'"),
    ],
)
def test_impossible_settings_of_train(workspace, capsys, word, said):
    keys = {} if word.startswith("dataset") else {"dataset": "digits"}
    before = outputs("runs/dcp")
    assert said in refused(capsys, "train", word, **keys)
    assert outputs("runs/dcp") == before


def test_an_odd_number_of_nuisance_channels(workspace, capsys):
    assert "params.channels=7" in refused(capsys, "nuisance", "params.channels=7")


def test_inputs_that_are_not_there(workspace, capsys):
    assert "runs/dcp/train/smoke/digits/9" in refused(capsys, "prune", dataset="digits", arm="dcp", seed=9)
    assert "runs/dcp/prune/smoke/digits/dcp/9" in refused(capsys, "finetune", dataset="digits", arm="dcp", seed=9)
    shutil.rmtree("runs/prepare/digits")
    assert "runs/prepare/digits" in refused(capsys, "train", dataset="digits")


@pytest.mark.parametrize("name", ["aux.safetensors", "dense.safetensors", "manifest.json"])
def test_truncated_inputs_of_prune(workspace, capsys, name):
    path = Path("runs/dcp/train/smoke/digits/0") / name
    path.write_bytes(path.read_bytes()[:-20])
    assert name in refused(capsys, "prune", dataset="digits", arm="dcp")
    assert not Path("runs/dcp/prune").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "selection.json"])
def test_truncated_inputs_of_finetune(workspace, capsys, name):
    run("prune", dataset="digits", arm="l1")
    path = Path("runs/dcp/prune/smoke/digits/l1/0") / name
    path.write_bytes(path.read_bytes()[:-20])
    assert name in refused(capsys, "finetune", dataset="digits", arm="l1")
    assert not Path("runs/dcp/metrics").exists()


def test_weights_that_are_not_numbers(workspace, capsys):
    from safetensors.torch import load_file, save_file

    folder = Path("runs/dcp/train/smoke/digits/0")
    path = folder / "aux.safetensors"
    from safetensors import safe_open

    with safe_open(path, "pt") as archive:
        about = archive.metadata()
    tensors = load_file(path)
    tensors["net.stem.conv.weight"][0, 0, 0, 0] = float("nan")
    save_file(tensors, path, about)
    artifacts.write_manifest(folder / "manifest.json", outputs=[folder / "dense.safetensors", path])
    assert "NaN" in refused(capsys, "prune", dataset="digits", arm="dcp")


def test_data_that_are_not_bytes(workspace, capsys):
    folder = Path("runs/prepare/digits")
    about = artifacts.read_json(folder / "manifest.json")
    x, y = artifacts.read_npz(folder / "train.npz", "x", "y")
    spoiled = x.astype(numpy.float32)
    spoiled[0] = numpy.nan
    artifacts.write_npz(folder / "train.npz", x=spoiled, y=y)
    about["outputs"]["train.npz"] = artifacts.sha256(folder / "train.npz")
    artifacts.write_json(folder / "manifest.json", about)
    for script, keys in (("train", {}), ("prune", {"arm": "dcp"})):
        assert "expected uint8" in refused(capsys, script, dataset="digits", **keys)


def test_a_scripts_help_names_every_parameter(workspace, capsys):
    for script, word in (
        ("train", "params.aux.lr"),
        ("prune", "params.lam"),
        ("finetune", "scratch.epochs"),
        ("nuisance", "params.noise"),
    ):
        STAGES.scripts[script].main(["--help"])
        assert word in capsys.readouterr().out


# --- as a process ---------------------------------------------------------------------------------


def start(*words: str) -> subprocess.Popen:
    script = ROOT / "stages/papers/dcp/train.py"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, str(script), "scale=smoke", "dataset=digits", "seed=0", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


@pytest.mark.slow
def test_a_stopped_training_goes_on_to_the_same_bytes(workspace):
    shutil.rmtree("runs/dcp")
    words = ["params.epochs=60", "params.batch=20", "params.limit=0"]
    stopped = start(*words)
    for line in stopped.stdout:  # let a few epochs pass
        if "epoch 5/" in line:
            break
    stopped.send_signal(signal.SIGTERM)
    _, error = stopped.communicate(timeout=60)
    assert stopped.returncode == 143, error
    assert not Path("runs/dcp").exists()
    assert outputs("runs/.scratch")
    resumed = start(*words)
    text, error = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, error
    assert "resumed at epoch" in text
    first = outputs("runs/dcp")
    shutil.rmtree("runs/dcp")
    assert start(*words).wait(timeout=120) == 0
    assert outputs("runs/dcp") == first
