"""HCVRD's stage scripts at the smoke scale: outputs, evaluation, wrong input, the paper's settings."""

import shutil
from pathlib import Path

import numpy
import pytest
import torch
import yaml

from stages.lib import artifacts
from stages.papers.hcvrd import audit, experiment, figures, relations, shakedown, train
from stages.papers.hcvrd.arms import ARMS
from stages.papers.hcvrd.settings import Detector
from stages.report import schema
from tests.papers import hcvrd_prepared
from tests.papers.prepared import Stages, outputs

ROOT = Path(__file__).parents[2]
PLACE = "smoke/hcvrd/0"
STAGES = Stages("hcvrd", train=train)
SETS = ("seen", "zero", "general")
torch.set_num_threads(1)


def rows(seed: int = 0) -> dict[tuple[str, int, str], float]:
    content = artifacts.read_json(f"runs/hcvrd/metrics/smoke/hcvrd/{seed}.json")
    return {(row["arm"], row["seed"], row["metric"]): row["value"] for row in content["rows"]}


def evidence(*names: str) -> list[numpy.ndarray]:
    return list(artifacts.read_npz(f"runs/hcvrd/models/{PLACE}/arms.npz", *names))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with params and a tiny prepared set, in which the stage has run."""
    folder = tmp_path_factory.mktemp("hcvrd")
    shutil.copytree(ROOT / "params", folder / "params")
    hcvrd_prepared.prepare(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        STAGES.run("train", dataset="hcvrd")
    return folder


@pytest.fixture
def workspace(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, which is also the current folder."""
    folder = shutil.copytree(finished, tmp_path / "copy")
    monkeypatch.chdir(folder)
    return folder


# --- what comes out -------------------------------------------------------------------------------


def test_every_arm_is_measured_and_every_claim_has_its_figures(workspace):
    found = rows()
    claims = schema.parse(yaml.safe_load((ROOT / "params/hcvrd/claim.yaml").read_text()), "claim.yaml")
    assert {arm for arm, *_ in found} == {*ARMS, "chance"} == set(claims.arms)
    for claim in claims.claims:
        assert {(claim.method_arm, 0, claim.metric), (claim.baseline_arm, 0, claim.metric)} <= set(found), claim.id
    for arm in ARMS:
        for kind in SETS:
            tops = [found[arm, 0, f"{kind}_top{k}"] for k in (1, 5, 10)]
            recalls = [found[arm, 0, f"{kind}_recall{k}"] for k in (1, 5, 10, 50, 100)]
            phrases = [found[arm, 0, f"{kind}_phrase{k}"] for k in (1, 5, 10, 50, 100)]
            assert tops == sorted(tops) and recalls == sorted(recalls)
            assert all(0.0 <= one <= other <= 1.0 for one, other in zip(recalls, phrases, strict=True))
        assert all(
            0.0 <= found[arm, 0, f"{part}{k}"] <= 1.0
            for part in ("general_clean_recall", "tail_macro_recall")
            for k in (50, 100)
        )
    assert artifacts.verify_manifest(f"runs/hcvrd/models/{PLACE}/manifest.json")["inputs"]
    assert not list(Path("runs").rglob("*.state"))


def test_zero_shot_labels_need_more_than_a_softmax_over_seen_ones(workspace):
    found = rows()
    for arm in ("softmax", "frequency"):
        values = [value for (name, _, metric), value in found.items() if name == arm and metric.startswith(("zero", "general"))]
        assert values and not any(values)
    assert found["chance", 0, "zero_top1"] == 0.5
    assert found["full", 0, "zero_top5"] == 1.0  # two labels only


def test_attention_of_the_mean_is_even(workspace):
    found = rows()
    assert found["no_attention", 0, "attention_good"] == pytest.approx(1.0, abs=1e-5)
    assert found["full", 0, "attention_good"] != found["no_attention", 0, "attention_good"]


def test_ranks_are_those_of_the_figures(workspace):
    world = relations.read("test")
    (rank,) = evidence("rank_full")
    seen = (world.asked.role == relations.SEEN).numpy()
    assert (rank[(world.asked.role == relations.BOXES_ONLY).numpy()] == -1).all()
    assert rows()["full", 0, "seen_top1"] == pytest.approx((rank[seen] < 1).mean())


def test_the_same_bytes_again_and_after_an_interruption(workspace, monkeypatch):
    first = outputs("runs/hcvrd")
    measure = experiment.measure

    def interrupted(name, net, on):
        if name == "softmax":
            raise KeyboardInterrupt
        return measure(name, net, on)

    monkeypatch.setattr(experiment, "measure", interrupted)
    with pytest.raises(SystemExit):
        STAGES.run("train", dataset="hcvrd")
    assert list(Path("runs/.scratch").rglob("*.state"))
    monkeypatch.setattr(experiment, "measure", measure)
    STAGES.run("train", dataset="hcvrd")
    assert outputs("runs/hcvrd") == first and not list(Path("runs/.scratch").rglob("*.state"))


def test_the_evaluation_split_decides_what_is_read_and_asked(workspace):
    before = rows()
    Path("runs/prepare/hcvrd/test.npz").rename("test.npz")
    assert "test.npz" in _no_manifest_check(lambda: STAGES.run("train", "eval_split=val", dataset="hcvrd"))
    Path("test.npz").rename("runs/prepare/hcvrd/test.npz")
    STAGES.run("train", "eval_split=val", dataset="hcvrd")
    assert rows() != before


def _no_manifest_check(run) -> str:
    """The manifest names all splits, so a missing one is noticed whichever is evaluated."""
    import contextlib
    import io

    text = io.StringIO()
    with contextlib.redirect_stderr(text), pytest.raises(SystemExit):
        run()
    return text.getvalue()


@pytest.mark.slow
def test_repetitions_are_the_single_ones(workspace):
    STAGES.run("train", "repeats=2", dataset="hcvrd", seed=1)
    together = rows(1)
    STAGES.run("train", dataset="hcvrd", seed=2)
    assert rows(2) == {key: value for key, value in together.items() if key[1] == 2} and len(together) == 2 * len(rows(2))


def test_pictures(workspace):
    figures.main(["scale=smoke", "dataset=hcvrd", "seeds=[0]"])
    assert len(outputs("reports")) == 8
    path = Path(f"runs/hcvrd/models/{PLACE}/arms.npz")
    path.write_bytes(path.read_bytes()[:-60])
    assert "arms.npz" in _no_manifest_check(lambda: figures.main(["scale=smoke", "dataset=hcvrd", "seeds=[0]"]))


def test_proposals(workspace):
    world = relations.read("test")
    sure = Detector(jitter=0.0, missed=0.0, certainty=30.0, versions=1)
    generator = torch.Generator().manual_seed(0)
    own = relations.propose(world.asked, world.labels, sure, False, generator)
    assert torch.equal(own.sub, world.asked.sub_box) and torch.equal(own.truth, torch.arange(len(own)))
    triplets = world.labels.triplets[world.asked.label]
    assert torch.equal(own.sub_score.argmax(1), triplets[:, 0]) and torch.equal(own.obj_score.argmax(1), triplets[:, 2])
    every = relations.propose(world.asked, world.labels, sure, True, generator)
    # All persons of an image with all its objects; boxes of another class or place are others.
    persons, things = (
        {
            (image, kind, *box)
            for image, kind, box in zip(world.asked.image.tolist(), kinds.tolist(), given.tolist(), strict=True)
        }
        for kinds, given in ((triplets[:, 0], world.asked.sub_box), (triplets[:, 2], world.asked.obj_box))
    )
    counts = [sum(one[0] == image for one in persons) * sum(one[0] == image for one in things) for image in range(26)]
    assert every.image.bincount().tolist() == counts and max(counts) > 1
    assert set(every.truth.tolist()) - {-1} == set(range(len(world.asked.label)))
    half = relations.propose(world.asked, world.labels, Detector(0.1, 0.9, 2.0, 1), True, generator)
    assert len(half) < len(every)


# --- the shipped settings -------------------------------------------------------------------------


@pytest.mark.parametrize("scale", ["smoke", "small", "medium", "paper"])
def test_settings_compose(monkeypatch, scale):
    monkeypatch.chdir(ROOT)
    params = train.main.configure([f"scale={scale}", "dataset=hcvrd", "seed=0"]).params
    assert params.arms[0] == "full" and params.scoring.recall_at[-2:] == [50, 100]


@pytest.mark.slow
def test_audit_agrees(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(audit, "CSV", tmp_path / "audit.csv")
    audit.main([])
    lines = (tmp_path / "audit.csv").read_text().splitlines()
    assert len(lines) == 1 + 8 + 2 + 1 + 4 and all(",True," in line for line in lines[1:])


@pytest.mark.slow
def test_shakedown_of_the_true_numbers_of_labels(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(shakedown, "FACTS", tmp_path / "facts.json")
    shakedown.main(["threads=1", "device=cpu"])
    facts = artifacts.read_json(tmp_path / "facts.json")
    assert facts["maps"][1:] == [512, 7, 7] and facts["arms"]["full"]["parameters"] > 512 * shakedown.ALL


# --- wrong input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["params.arms=[full,ful]"], "there is no arm ful"),
        (["params.arms=[full,full]"], "different arms"),
        (["params.arms=[]"], "one or more"),
        (["params.backbone.strides=[2,2]"], "one stride a layer"),
        (["params.backbone.lr=nan"], "backbone.lr"),
        (["params.metric.loss=hinge"], "expected one of softmax, triplet"),
        (["params.metric.temperature=0"], "above 0"),
        (["params.metric.seen_share=1.5"], "share from 0 to 1"),
        (["params.metric.bag=0"], "metric.bag"),
        (["params.descent.steps=0"], "descent.steps"),
        (["params.detector.missed=1"], "detector.missed"),
        (["params.scoring.recall_at=[5,1]"], "ascending order"),
        (["params.scoring.per_pair=-1"], "per_pair"),
        (["params.descent.lr=1e30"], "NaN or infinity"),
        (["repeats=0"], "repeats=0"),
        (["eval_split=train"], "expected val or test"),
    ],
)
def test_impossible_settings(workspace, capsys, words, said):
    assert said in STAGES.refused(capsys, "train", *words, dataset="hcvrd")


def test_data_sets_without_settings(workspace, capsys):
    assert "no section" in STAGES.refused(capsys, "train", dataset="vrd")


@pytest.mark.parametrize("name", ["train.npz", "val.npz", "labels.npz", "web.npz", "manifest.json"])
def test_truncated_and_missing_inputs(workspace, capsys, name):
    path = Path("runs/prepare/hcvrd") / name
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert name.partition(".")[0] in STAGES.refused(capsys, "train", dataset="hcvrd")
    path.unlink()
    assert name in STAGES.refused(capsys, "train", dataset="hcvrd")


def test_files_without_training_relations_or_web_images_are_refused(workspace, capsys):
    folder = Path("runs/prepare/hcvrd")
    for name, said in (("web", "no web image"), ("train", "no training relation")):
        with numpy.load(folder / f"{name}.npz") as found:
            arrays = {key: value[:0] for key, value in dict(found).items()}
        artifacts.write_npz(folder / f"{name}.npz", **arrays)
        about = artifacts.read_json(folder / "manifest.json")
        about["outputs"][f"{name}.npz"] = artifacts.sha256(folder / f"{name}.npz")
        artifacts.write_json(folder / "manifest.json", about)
        assert said in STAGES.refused(capsys, "train", dataset="hcvrd")


def test_help_names_every_parameter(workspace, capsys):
    train.main(["--help"])
    text = capsys.readouterr().out
    assert all(word in text for word in ("metric.bag", "detector.jitter", "scoring.per_pair", "backbone.palette"))
