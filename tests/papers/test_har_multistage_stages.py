"""The stage scripts of HAR multi-stage at the smoke scale: outputs, wrong input, the shipped settings."""

import shutil
from pathlib import Path

import numpy
import pytest
import torch
import yaml

from stages.lib import artifacts
from stages.lib.sensors import windows
from stages.lib.sensors.windows import ARRAYS
from stages.papers.har_multistage import audit, figures, merge, results, scratch, shakedown, train
from stages.papers.har_multistage.shakedown import Shape, noise
from stages.report import schema
from tests.papers.prepared import Stages, outputs

ROOT = Path(__file__).parents[2]
STAGES = Stages("har_multistage", train=train, scratch=scratch, merge=merge)
CHANNELS = ("body_acc_x", "body_acc_y", "body_acc_z", "body_gyro_x", "body_gyro_y", "body_gyro_z")
ORDER = ("train", "scratch", "merge")
SETS = figures.SETS
PICTURED = ["scale=smoke", "seeds=[0]"]
torch.set_num_threads(1)


def prepare(folder: Path, dataset: str) -> None:
    """A prepared set of noise in the contract's files: ten groups with every class."""
    folder = folder / "runs/prepare" / dataset
    found = noise(Shape(len(CHANNELS), 32, 3), 60)
    arrays = {name: getattr(found, name) for name in ARRAYS}
    arrays["group"] = numpy.arange(60) // 6
    arrays["subject"] = arrays["group"] + 1
    arrays["split"] = numpy.where(arrays["group"] > 7, 2, numpy.where(arrays["group"] > 6, 1, 0))
    arrays["recording"] = numpy.zeros(60, numpy.int64)
    arrays["x"] = arrays["x"] + arrays["y"][:, None, None].astype(numpy.float32)
    artifacts.write_npz(folder / "windows.npz", **arrays)
    about = {"classes": ["a", "b", "c"], "channels": list(CHANNELS), "rate_hz": 50.0, "recordings": ["one"], "shape": [6, 32],
             "subjects": {str(number + 1): {} for number in range(10)}, "grouping": "subject"}  # fmt: skip
    artifacts.write_manifest(
        folder / "manifest.json", outputs=[folder / "windows.npz"], dataset=dataset, source="sample", files="noise", **about
    )


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params and a prepared set, which is also the current folder."""
    shutil.copytree(ROOT / "params", tmp_path / "params")
    prepare(tmp_path, "uci_har")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all three stages have run on both sets."""
    folder = tmp_path_factory.mktemp("har")
    shutil.copytree(ROOT / "params", folder / "params")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for dataset in SETS:
            prepare(folder, dataset)
            for script in ORDER:
                STAGES.run(script, dataset=dataset)
    return folder


@pytest.fixture
def copied(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished folder, which is also the current folder."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def metrics() -> dict[tuple[str, str], float]:
    content = artifacts.read_json("runs/har_multistage/metrics/smoke/uci_har/0.json")
    return {(row["arm"], row["metric"]): row["value"] for row in content["rows"]}


def test_every_arm_is_measured_on_its_fold(copied):
    paper = schema.parse(yaml.safe_load(Path("params/har_multistage/claim.yaml").read_text()), "claim.yaml")
    found = metrics()
    for arm in paper.arms:
        assert 0 <= found[arm, "accuracy"] <= 1 and 0 <= found[arm, "macro_f1"] <= 1
    assert {(claim.method_arm, claim.metric) for claim in paper.claims} <= set(found)
    assert found["joint", "parameters"] == found["combined", "parameters"] > found["best_single", "parameters"]
    assert found["joint", "passes"] == found["combined", "passes"] == 3
    names = ("y_grouped_0", "y_windows_0", "combined_0")
    grouped, over_windows, answered = artifacts.read_npz("runs/har_multistage/merged/smoke/uci_har/0/answers.npz", *names)
    assert len(grouped) == len(over_windows) == 12
    assert found["combined", "accuracy"] == float((grouped == answered).mean())


def test_learning_curves_have_a_value_a_pass(copied):
    found = results.read("smoke", "uci_har", [0])
    assert {name: len(curve) for name, curve in found.curves.items()} == {
        "raw": 1, "gasf": 1, "rp": 1, "combined": 2, "joint": 3, "widened": 3,
    }  # fmt: skip
    assert all(0 <= value <= 1 for curve in found.curves.values() for value in curve)
    assert found.confusion.sum() == 12 and found.confusion.trace() / 12 == found.accuracies["combined"][0]
    assert results.averaged([[1.0, 0.5, 0.5], [0.0, 0.5]]) == [0.5, 0.5]


def test_the_same_bytes_again(copied):
    before = outputs("runs/har_multistage")
    for script in ORDER:
        STAGES.run(script, dataset="uci_har")
    assert outputs("runs/har_multistage") == before


def test_settings_are_chosen_without_the_test_subjects(workspace):
    """Other test windows change nothing while eval_split is val."""
    STAGES.run("train", "eval_split=val", dataset="uci_har")
    before = outputs("runs/har_multistage/single")
    arrays = dict(zip(ARRAYS, artifacts.read_npz("runs/prepare/uci_har/windows.npz", *ARRAYS)))
    arrays["x"][arrays["split"] == 2] += 5
    about = artifacts.read_json("runs/prepare/uci_har/manifest.json")
    artifacts.write_npz("runs/prepare/uci_har/windows.npz", **arrays)
    about["outputs"] = {"windows.npz": artifacts.sha256("runs/prepare/uci_har/windows.npz")}
    artifacts.write_json("runs/prepare/uci_har/manifest.json", about)
    STAGES.run("train", "eval_split=val", dataset="uci_har")
    after = outputs("runs/har_multistage/single")
    assert all(before[name] == after[name] for name in before if name.endswith(".safetensors"))


@pytest.mark.slow
def test_pictures_are_drawn_alike(copied):
    figures.main(PICTURED)
    before = outputs("reports")
    assert {Path(name).name for name in before} == {
        f"{stem}-smoke.{kind}" for stem in ("arms", "confusion", "curves", "transforms") for kind in ("png", "svg")
    }
    figures.main(PICTURED)
    assert outputs("reports") == before


@pytest.mark.parametrize(
    "damaged",
    ["har_multistage/merged/smoke/uci_har/0/answers.npz", "har_multistage/merged/smoke/activities/0/branches.json",
     "har_multistage/metrics/smoke/activities/0.json", "har_multistage/merged/smoke/uci_har/0/manifest.json",
     "prepare/activities/windows.npz", "prepare/uci_har/manifest.json"],
)  # fmt: skip
def test_pictures_of_damaged_results_are_refused(copied, capsys, damaged):
    path = Path("runs", damaged)
    path.write_bytes(path.read_bytes()[:-20])
    for _ in range(2):
        with pytest.raises(SystemExit) as stopped:
            figures.main(PICTURED)
        told = capsys.readouterr().err
        assert stopped.value.code == 1 and told.count("\n") == 1 and path.name in told
        path.unlink(missing_ok=True)
    assert not list(Path("reports").rglob("*.png"))


@pytest.mark.parametrize(
    "damaged",
    ["runs/prepare/uci_har/windows.npz", "runs/prepare/uci_har/manifest.json",
     "runs/har_multistage/single/smoke/uci_har/0/grouped-raw.safetensors", "runs/har_multistage/single/smoke/uci_har/0/manifest.json",
     "runs/har_multistage/scratch/smoke/uci_har/0/answers.npz", "runs/har_multistage/scratch/smoke/uci_har/0/about.json"],
)  # fmt: skip
def test_damaged_and_missing_inputs_are_named(copied, capsys, damaged):
    shutil.rmtree("runs/har_multistage/merged")
    path, scripts = Path(damaged), ORDER if "prepare" in damaged else ("merge",)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    for script in scripts:
        assert path.name in STAGES.refused(capsys, script, dataset="uci_har")
    path.unlink()
    for script in scripts:
        assert path.name in STAGES.refused(capsys, script, dataset="uci_har")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("params.transforms.names=[raw,wavelet]", "wavelet is none of"),
        ("params.transforms.names=[]", "one or more different names"),
        ("params.transforms.points=64", "fewer than transforms.points=64"),
        ("params.transforms.dimension=20", "its delays exceed"),
        ("params.net.stem_kernel_1d=41", "shorter than a kernel"),
        ("params.net.widths=[4,4,4,4]", "shorter than a kernel"),
        ("params.net.kernels=[4]", "odd sizes"),
        ("params.channels=[body_acc_w]", "no channel body_acc_w"),
        ("params.division.folds=11", "at most the 10 groups"),
        ("params.stages.single.epochs=0", "epochs=0: expected 1 or more"),
        ("params.stages.single.lr=nan", "schedule.lr"),
        ("params.stages.scratch_lr=0", "stages.scratch_lr=0"),
        ("params.stages.single.lr=1e30", "not finite"),
        ("params.batch=1", "params.batch=1"),
        ("params.batches=2", "params.batches"),
        ("repeats=0", "repeats=0"),
        ("eval_split=train", "expected val or test"),
    ],
)
def test_impossible_settings(workspace, capsys, word, said):
    assert said in STAGES.refused(capsys, "train", word, dataset="uci_har")


def test_branches_of_other_settings_are_refused(copied, capsys):
    assert "another extractor" in STAGES.refused(capsys, "merge", "params.net.dropout=0.5", dataset="uci_har")


def test_a_data_set_without_settings(workspace, capsys):
    assert "no section 'mnist" in STAGES.refused(capsys, "train", dataset="mnist")


@pytest.mark.parametrize(
    ("change", "said"),
    [("nan", "NaN or infinity"), ("constant", "constant in the training windows"), ("subject", "subject 10 is not in")],
)
def test_bad_windows_are_refused(workspace, capsys, change, said):
    arrays = dict(zip(ARRAYS, artifacts.read_npz("runs/prepare/uci_har/windows.npz", *ARRAYS)))
    about = artifacts.read_json("runs/prepare/uci_har/manifest.json")
    if change == "nan":
        arrays["x"][3, 1, 5] = numpy.nan
    elif change == "constant":
        arrays["x"][:, 1] = 9.81
    else:
        del about["subjects"]["10"]
    artifacts.write_npz("runs/prepare/uci_har/windows.npz", **arrays)
    about["outputs"] = {"windows.npz": artifacts.sha256("runs/prepare/uci_har/windows.npz")}
    artifacts.write_json("runs/prepare/uci_har/manifest.json", about)
    assert said in STAGES.refused(capsys, "train", dataset="uci_har")


# --- the shipped settings -------------------------------------------------------------------------


@pytest.mark.parametrize("scale", ["smoke", "small", "medium", "paper"])
def test_settings_compose(monkeypatch, scale):
    monkeypatch.chdir(ROOT)
    more = {"paper": ("uci_har", "usc_had", "skoda", "motionsense"), "small": (*SETS, "motionsense")}
    for dataset in more.get(scale, SETS):
        found = merge.main.configure([f"scale={scale}", f"dataset={dataset}", "seed=0"]).params
        few = (scale, dataset) == ("small", "motionsense")  # the publisher's files at hand are of six subjects
        assert found.division.folds == (3 if few else 5)
        assert {"raw", "gasf", "rp"} <= set(found.transforms.names)
        assert found.stages.single.stop <= found.stages.single.epochs


def test_audit_agrees_to_the_digit(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(audit, "CSV", tmp_path / "audit.csv")
    audit.main([])
    lines = (tmp_path / "audit.csv").read_text().splitlines()
    assert len(lines) == 1 + 6 * 4 + 2 and all(",True," in line for line in lines[1:])


@pytest.mark.slow
def test_shakedown_of_the_full_nets(monkeypatch):
    monkeypatch.chdir(ROOT)
    config = shakedown.main.configure(["threads=1", "device=cpu"])
    facts = shakedown.shake(config.params.sets["uci_har"], config, torch.device("cpu"))
    assert facts["parameters"] == 2 * 102336 + 3 * 118144 + 20934
    assert facts["shapes"]["spectrum"] == [9, 65]


def test_a_scripts_help_names_every_parameter(workspace, capsys):
    train.main(["--help"])
    text = capsys.readouterr().out
    assert all(word in text for word in ("transforms.delay", "stages.single.patience", "division.inner"))


def test_unknown_splits_and_attributes(workspace):
    found = windows.load("uci_har")
    with pytest.raises(windows.StageError, match="gender is not known"):
        found.attribute("gender")
    with pytest.raises(windows.StageError, match="split=other"):
        found.of("other")
