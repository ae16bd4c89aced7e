"""CovSegNet's stage scripts at the smoke scale: outputs, wrong input, the shipped settings."""

import dataclasses
import shutil
from pathlib import Path

import numpy
import pytest
import torch
import yaml

from stages.lib import artifacts
from stages.papers.covsegnet import classify, division, evaluate, experiment, figures, inference, nets, phases, scans, train
from stages.papers.covsegnet.arms import ARMS, CLASSIFIERS
from stages.prepare.ct_phantom import Recipe, draw
from stages.report import schema
from tests.papers.prepared import Stages, outputs, prepare, refuses_damage

ROOT = Path(__file__).parents[2]
RUNS = Path("runs/covsegnet")
PLACE = "smoke/ct_lesion/0"
STAGES = Stages("covsegnet", train=train, evaluate=evaluate, classify=classify)
TINY = Recipe(depth=6, side=16)
torch.set_num_threads(1)


def volumes(folder: Path, unit: str = "patients") -> None:
    """A prepared set of ten small phantoms: five to train on, two of them of one patient, two val, three test."""
    drawn = [draw(TINY, numpy.random.RandomState(i)) for i in range(10)]
    arrays = {name: numpy.concatenate([getattr(one, name).ravel() for one in drawn]) for name in ("lesion", "lung", "artefact")}
    arrays["image"] = numpy.concatenate([numpy.clip((one.hu + 1000) / 1400 * 255, 0, 255).ravel() for one in drawn])
    arrays["image"] = arrays["image"].astype(numpy.uint8)
    shape, spacing = numpy.array([[6, 16, 16]] * 10), numpy.array([[6.0, 2.0, 2.0]] * 10)
    groups = [0, 0, 0, 0, 0, 1, 1, 2, 2, 2]
    piece = numpy.array([(i, 0, 6, group) for i, group in enumerate(groups)])
    if unit == "slabs":
        piece = numpy.array([(i, first, first + 2, first // 2) for i in (0, 2) for first in (0, 2, 4)])
    path = folder / "volumes.npz"
    artifacts.write_npz(path, **arrays, shape=shape, spacing=spacing, piece=piece)
    cases = [{"case": str(i), "patient": f"p{max(i, 1)}"} for i in range(10)]
    artifacts.write_manifest(folder / "manifest.json", outputs=[path], unit=unit, cases=cases, dataset="ct_lesion")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with params and both sets prepared, in which all stages have run."""
    folder = tmp_path_factory.mktemp("covsegnet")
    shutil.copytree(ROOT / "params", folder / "params")
    volumes(folder / "runs/prepare/ct_lesion")
    prepare(folder / "runs/prepare", "covid_ct", (1, 16, 16), classes=2)
    path = folder / "runs/prepare/covid_ct/manifest.json"
    artifacts.write_json(path, artifacts.read_json(path) | {"told_by_traces": {"before": 0.8, "after": 0.5}})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for script in ("train", "evaluate"):
            STAGES.run(script, dataset="ct_lesion")
        STAGES.run("classify", dataset="covid_ct")
    return folder


@pytest.fixture
def workspace(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, which is also the current folder."""
    folder = shutil.copytree(finished, tmp_path / "copy")
    monkeypatch.chdir(folder)
    return folder


def refused(capsys, script: str, *more: str, **keys: object) -> str:
    """The one line of a run that must fail; nothing that was there before has changed."""
    before = outputs(str(RUNS))
    text = STAGES.refused(capsys, script, *more, **{"dataset": "ct_lesion", **keys})
    assert outputs(str(RUNS)) == before
    return text


def rows(dataset: str = "ct_lesion", seed: int = 0) -> dict[tuple[str, int, str], float]:
    content = artifacts.read_json(RUNS / f"metrics/smoke/{dataset}/{seed}.json")
    return {(row["arm"], row["seed"], row["metric"]): row["value"] for row in content["rows"]}


def settings(*more: str):
    return train.main.configure(["scale=smoke", "dataset=ct_lesion", "seed=0", *more]).params


# --- what comes out -------------------------------------------------------------------------------


def test_every_arm_is_measured_and_every_claim_has_its_figures(workspace):
    found = rows()
    assert {arm for arm, *_ in found} == set(ARMS)
    claims = schema.parse(yaml.safe_load((ROOT / "params/covsegnet/claim.yaml").read_text()), "claim.yaml")
    assert set(claims.arms) == set(ARMS)
    for claim in claims.claims:
        there = set(found if claim.dataset == "ct_lesion" else rows(claim.dataset))
        assert {(claim.method_arm, 0, claim.metric), (claim.baseline_arm, 0, claim.metric)} <= there
    for (_, _, name), value in found.items():
        assert 0.0 <= value <= 1.0 or name in ("hd95", "parameters", "megamacs")
    for arm in ("median", "gaussian"):
        assert found[arm, 0, "megamacs"] == found["phase1", 0, "megamacs"] < found["two_phase", 0, "megamacs"]


def test_the_table_on_covid_ct(workspace):
    found = rows("covid_ct")
    assert {arm for arm, *_ in found} == set(CLASSIFIERS)
    assert found["traces_after", 0, "balanced_accuracy"] == 0.5 < found["traces_before", 0, "balanced_accuracy"]
    assert found["pixels", 0, "auc"] > 0.9


def test_the_same_bytes_again_and_no_state_is_left(workspace):
    first = outputs(str(RUNS))
    for script in ("train", "evaluate"):
        STAGES.run(script, dataset="ct_lesion")
    STAGES.run("classify", dataset="covid_ct")
    assert outputs(str(RUNS)) == first and not list(Path("runs").rglob("*.state"))


def test_a_stopped_training_goes_on_to_the_same_bytes(workspace, monkeypatch):
    """A state saved in the middle of phase 2 is taken up; the nets before are trained again."""
    first = outputs(str(RUNS / "nets"))
    step, seen = phases.Trainee.after_step, []

    def interrupted(self):
        step(self)
        seen.append(1)
        if len(seen) == 17:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(phases.Trainee, "after_step", interrupted)
    with pytest.raises(SystemExit) as stopped:
        STAGES.run("train", dataset="ct_lesion")
    assert stopped.value.code == 143 and list(Path("runs").rglob("*.state"))
    STAGES.run("train", dataset="ct_lesion")
    assert outputs(str(RUNS / "nets")) == first and not list(Path("runs").rglob("*.state"))


def test_figures_are_those_of_the_saved_nets_by_volume(workspace):
    cfg = settings()
    tested = division.divide(scans.load("ct_lesion"), "test", cfg.scans, 0).tested
    net = nets.load(RUNS / "nets" / PLACE / "phase1.safetensors", phases.slice_record(cfg, "phase1"))
    dice = []
    for one in tested:
        found, truth = inference.by_slices(net, one.image, torch.device("cpu")) >= 0.5, one.lesion.bool()
        total = int(found.sum() + truth.sum())
        dice.append(2 * int((found & truth).sum()) / total if total else 1.0)
    assert rows()["phase1", 0, "dice"] == pytest.approx(numpy.mean(dice))
    assert rows()["phase1", 0, "dice_deviation"] == pytest.approx(numpy.std(dice))


def test_no_scan_is_judged_by_a_net_that_saw_its_patient(workspace):
    told = artifacts.read_json(RUNS / "nets" / PLACE / "folds.json")["0"]["folds"]
    by_patient = {row["patient"]: {other["fold"] for other in told if other["patient"] == row["patient"]} for row in told}
    assert {len(folds) for folds in by_patient.values()} == {1} and {row["fold"] for row in told} == {0, 1}


def test_each_inner_net_trains_on_the_other_folds(workspace, monkeypatch):
    cfg, asked = settings(), []
    parts = division.divide(scans.load("ct_lesion"), "test", cfg.scans, 0)
    job = phases.Job(cfg, parts.train, 0, torch.device("cpu"), None)
    fit = phases.Job.slices
    monkeypatch.setattr(phases.Job, "slices", lambda self, kind, seen, name: asked.append(seen) or fit(self, kind, seen, name))
    p, fold = job.out_of_fold()
    assert all(one.min() >= 0.0 and one.max() <= 1.0 for one in p)
    for k, seen in enumerate(asked):
        left_out = [one for one, own in zip(parts.train, fold, strict=True) if own == k]
        assert not {one.patient for one in left_out} & {one.patient for one in seen}
        assert len(left_out) + len(seen) == len(parts.train)


def test_phase_1_is_not_changed_by_phase_2_nor_by_which_arms_run(workspace):
    """The same bytes with phase 2 trained after it, and without the other arms."""
    kept = (RUNS / "nets" / PLACE / "phase1.safetensors").read_bytes()
    two = (RUNS / "nets" / PLACE / "two_phase.safetensors").read_bytes()
    STAGES.run("train", "params.arms=[phase1,two_phase]", dataset="ct_lesion")
    assert (RUNS / "nets" / PLACE / "phase1.safetensors").read_bytes() == kept
    assert (RUNS / "nets" / PLACE / "two_phase.safetensors").read_bytes() == two


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["product", "raised"])
def test_other_enhanced_volumes(workspace, mode):
    words = ("params.arms=[phase1,two_phase]", f"params.volumes.roi_mode={mode}")
    STAGES.run("train", *words, dataset="ct_lesion")
    STAGES.run("evaluate", *words, dataset="ct_lesion")
    assert rows()["two_phase", 0, "parameters"] > 0


def test_slabs_of_few_scans_are_divided_too(workspace):
    volumes(Path("runs/prepare/ct_lesion"), "slabs")
    words = ("params.arms=[phase1,two_phase]",)
    STAGES.run("train", *words, dataset="ct_lesion")
    STAGES.run("evaluate", *words, dataset="ct_lesion")
    assert {arm for arm, *_ in rows()} == {"phase1", "two_phase"}


@pytest.mark.slow
def test_repetitions_are_the_single_ones(workspace):
    for words, seed in ((("repeats=2",), 1), ((), 2)):
        for script in ("train", "evaluate"):
            STAGES.run(script, *words, dataset="ct_lesion", seed=seed)
    together, alone = rows(seed=1), rows(seed=2)
    assert alone == {key: value for key, value in together.items() if key[1] == 2} and len(together) == 2 * len(alone)


def test_pictures(workspace):
    figures.main(["scale=smoke", "dataset=ct_lesion", "seeds=[0]"])
    names = {Path(name).name for name in outputs("reports")}
    assert names == {f"{a}-smoke.{b}" for a in ("slices", "arms") for b in ("png", "svg")}


@pytest.mark.slow
def test_pictures_are_the_same_again(workspace):
    drawn = []
    for _ in range(2):
        figures.main(["scale=smoke", "dataset=ct_lesion", "seeds=[0]"])
        drawn.append(outputs("reports"))
    assert drawn[0] == drawn[1]


def test_training_learns(workspace):
    """A few more steps find lesions that are plain to see."""
    cfg = settings()
    fit = dataclasses.replace(cfg.slices.fit, steps=60, lesion=4, rotation=0.0, zoom=0.0, jitter=0.0)
    wider = dataclasses.replace(cfg.slices.phase1, channels=[8, 16])
    part = dataclasses.replace(cfg.slices, fit=fit, phase1=wider)
    cfg = dataclasses.replace(cfg, arms=["phase1"], slices=part)
    plain = [dataclasses.replace(one, image=0.2 * one.image + 0.8 * one.lesion) for one in scans.load("ct_lesion").scans]
    parts = division.divide(scans.Set(tuple(plain), "patients"), "test", 9, 0)
    net = phases.Job(cfg, parts.train, 0, torch.device("cpu"), None).slices("phase1", parts.train, "phase1")
    found = experiment.table(experiment.Bench(cfg, {"phase1": net}, torch.device("cpu")), parts.tested)["phase1"]
    assert found["sensitivity"] > 0.3 and found["specificity"] > 0.8


# --- the shipped settings -------------------------------------------------------------------------


@pytest.mark.parametrize("scale", ["smoke", "small", "medium", "paper"])
def test_settings_compose_and_arms_of_the_claims_are_trained(monkeypatch, scale):
    monkeypatch.chdir(ROOT)
    cfg = train.main.configure([f"scale={scale}", "dataset=ct_lesion", "seed=0"])
    classify.main.configure([f"scale={scale}", "dataset=covid_ct", "seed=0"])
    claims = schema.parse(yaml.safe_load((ROOT / "params/covsegnet/claim.yaml").read_text()), "claim.yaml").claims
    wanted = {arm for claim in claims if scale in claim.scales for arm in (claim.method_arm, claim.baseline_arm)}
    assert wanted <= {*cfg.params.arms, *CLASSIFIERS}
    volumes = cfg.params.volumes
    assert volumes.net.norm == "group" or volumes.fit.lesion + volumes.fit.other >= 4  # statistics of few volumes say little


# --- wrong input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("params.arms=[two_phase,phase1,other]", "there is no arm other"),
        ("params.arms=[median]", "expected two_phase and phase1"),
        ("params.scans=1", "scans=1"),
        ("params.threshold=1.5", "threshold=1.5"),
        ("params.z_sigma=0", "z_sigma=0"),
        ("params.loss.misses=-1", "loss.misses"),
        ("params.slices.folds=1", "folds=1"),
        ("params.slices.folds=9", "use fewer folds"),
        ("params.slices.fit.steps=0", "fit.steps=0"),
        ("params.slices.fit.lr=nan", "fit.lr"),
        ("params.slices.fit.lr=1e30", "not finite"),
        ("params.slices.fit.rotation=200", "fit.rotation"),
        ("params.slices.phase1.channels=[3]", "net.channels"),
        ("params.slices.phase1.kind=resnet", "net.kind=resnet"),
        ("params.slices.unet_macs.stages=2", "a unet has one"),
        ("params.volumes.net.channels=[3,6]", "multiples of 4"),
        ("params.volumes.roi_mode=sum", "roi_mode=sum"),
        ("params.volumes.patch=[4,4]", "volumes.patch"),
        ("params.volumes.overlap=1.0", "volumes.overlap"),
        ("params.volumes.long_step=5", "long_step"),
        ("eval_split=train", "eval_split=train"),
        ("repeats=0", "repeats=0: expected 1 or more"),
    ],
)
def test_impossible_settings(workspace, capsys, word, said):
    assert said in refused(capsys, "train", word)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("params.slices.phase1.channels=[2,4]", "holds another net"),
        ("params.volumes.flat=false", "holds another net"),
        ("repeats=2", "phase1-0.safetensors"),
        ("eval_split=train", "eval_split=train"),
    ],
)
def test_impossible_evaluations(workspace, capsys, word, said):
    assert said in refused(capsys, "evaluate", word)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("params.channels=[4]", "channels"),
        ("params.plain=[0,4]", "plain"),
        ("params.epochs=0", "epochs=0"),
        ("params.batch=1", "batch=1"),
        ("params.lr=1e30", "not finite"),
        ("params.ridge=0", "ridge=0"),
        ("params.pixels=0", "pixels=0"),
        ("eval_split=other", "other"),
    ],
)
def test_impossible_classifications(workspace, capsys, word, said):
    assert said in refused(capsys, "classify", word, dataset="covid_ct")


def test_a_data_set_without_settings(workspace, capsys):
    assert "no section 'digits" in refused(capsys, "train", dataset="digits")


def test_inputs_that_are_missing_or_damaged(workspace, capsys):
    prepared = "runs/prepare/ct_lesion"
    inputs = {
        "train": [f"{prepared}/volumes.npz", f"{prepared}/manifest.json"],
        "evaluate": [
            f"{prepared}/volumes.npz",
            f"{prepared}/manifest.json",
            f"{RUNS}/nets/{PLACE}/manifest.json",
            f"{RUNS}/nets/{PLACE}/folds.json",
            *(f"{RUNS}/nets/{PLACE}/{name}.safetensors" for name in ("phase1", "two_phase", "volume")),
        ],
        "classify": [f"runs/prepare/covid_ct/{name}" for name in ("train.npz", "val.npz", "test.npz", "manifest.json")],
    }
    for script, paths in inputs.items():
        for path in map(Path, paths):
            whole = path.read_bytes()
            for damaged in (whole[: len(whole) // 2], None):
                path.unlink(missing_ok=True)
                if damaged is not None:
                    path.write_bytes(damaged)
                text = refused(capsys, script, dataset="covid_ct" if script == "classify" else "ct_lesion")
                assert path.name in text, (path, damaged)
            path.write_bytes(whole)


def test_prepared_volumes_whose_shapes_do_not_fit(workspace, capsys):
    folder = Path("runs/prepare/ct_lesion")
    arrays = dict(numpy.load(folder / "volumes.npz"))
    about = artifacts.read_json(folder / "manifest.json")
    arrays["shape"][0, 0] = 5
    artifacts.write_npz(folder / "volumes.npz", **arrays)
    about["outputs"]["volumes.npz"] = artifacts.sha256(folder / "volumes.npz")
    artifacts.write_json(folder / "manifest.json", about)
    assert "its shapes do not fit" in refused(capsys, "train")


def test_pictures_of_damaged_figures(workspace, capsys):
    paths = (RUNS / f"metrics/{PLACE}.json", RUNS / f"nets/{PLACE}/two_phase.safetensors")
    refuses_damage(capsys, lambda: figures.main(["scale=smoke", "dataset=ct_lesion", "seeds=[0]"]), *paths)


def test_an_output_that_cannot_be_written(workspace, capsys):
    shutil.rmtree(RUNS)
    RUNS.write_text("in the way")
    assert "covsegnet" in refused(capsys, "train")


def test_help_names_every_parameter(capsys):
    for script, words in ((train, ("slices.folds", "volumes.roi_mode", "loss.misses")), (classify, ("ridge", "shift"))):
        script.main(["--help"])
        text = capsys.readouterr().out
        assert all(word in text for word in words)
