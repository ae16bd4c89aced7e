"""The privacy paper's stage scripts at the smoke scale, in a folder of their own: outputs, wrong input, settings."""

import shutil
from pathlib import Path

import numpy
import pytest
import torch
import yaml

from stages.lib import artifacts
from stages.papers.privacy_adversarial_features import attack, audit, compress, digits, figures, generate, motion, shakedown
from stages.papers.privacy_adversarial_features.arms import ARMS, FREE, PRICED
from stages.report import schema
from tests.papers.prepared import Stages, outputs, prepare

ROOT = Path(__file__).parents[2]
SLUG = "privacy_adversarial_features"
STAGES = Stages(SLUG, generate=generate, digits=digits, motion=motion, compress=compress, attack=attack)
torch.set_num_threads(1)


def sensors(folder: Path) -> None:
    """A prepared set of windows of four people, with and without a beat."""
    parts = [(s, a, r, 64 * w) for s in range(1, 5) for a in range(3) for r in range(3) for w in range(4)]
    subject, y, take, start = (numpy.array(column, numpy.int64) for column in zip(*parts, strict=True))
    random, time = numpy.random.RandomState(0), numpy.arange(128) / 50
    beat = numpy.sin(2 * numpy.pi * (1 + y + 0.1 * subject)[:, None, None] * time + numpy.arange(6)[:, None])
    x = ((1 + 0.2 * subject[:, None, None]) * beat + random.normal(0, 0.3, (len(y), 6, 128))).astype(numpy.float32)
    names = [f"{kind}.{axis}" for kind in ("rotationRate", "userAcceleration") for axis in "xyz"]
    recording = subject * 9 + y * 3 + take - 9
    path = folder / "motionsense/windows.npz"
    artifacts.write_npz(path, x=x, y=y, subject=subject, group=subject, recording=recording, start=start, split=0 * y)
    about = {"classes": ["p", "q", "r"], "channels": names, "rate_hz": 50.0, "grouping": "subject", "shape": [6, 128],
             "subjects": {str(s): {"gender": s % 2} for s in range(1, 5)}, "recordings": list(map(str, range(36)))}  # fmt: skip
    artifacts.write_manifest(
        folder / "motionsense/manifest.json", outputs=[path], dataset="motionsense", source="sample", files="made", **about
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all stages of one seed have run."""
    folder = tmp_path_factory.mktemp("privacy")
    shutil.copytree(ROOT / "params", folder / "params")
    prepare(folder / "runs/prepare", "digits", (1, 8, 8))
    sensors(folder / "runs/prepare")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        everything()
    return folder


@pytest.fixture
def workspace(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy that a test may spoil, which is also the current folder."""
    shutil.copytree(finished, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


def everything(seed: int = 0) -> None:
    STAGES.run("generate", seed=seed)
    STAGES.run("digits", seed=seed)
    STAGES.run("motion", seed=seed, dataset="motionsense")
    for dataset in ("mixture", "digits", "motionsense"):
        for script in ("compress", "attack"):
            STAGES.run(script, seed=seed, dataset=dataset)


def rows(folder: Path, dataset: str) -> dict[tuple[str, int, str], float]:
    content = artifacts.read_json(folder / f"runs/{SLUG}/metrics/smoke/{dataset}/0.json")
    return {(row["arm"], row["seed"], row["metric"]): row["value"] for row in content["rows"]}


# --- what comes out -------------------------------------------------------------------------------


def test_every_arm_is_measured_and_every_claim_has_its_figures(finished):
    for dataset in ("mixture", "digits", "motionsense"):
        assert {arm for arm, *_ in rows(finished, dataset)} == set(ARMS)
    claim = schema.parse(yaml.safe_load((ROOT / f"params/{SLUG}/claim.yaml").read_text()), "claim.yaml")
    assert set(claim.arms) == set(ARMS)
    for one in claim.claims:
        for arm in (one.method_arm, one.baseline_arm):
            assert (arm, 0, one.metric) in rows(finished, one.dataset)


def test_figures_of_the_arms_agree_with_each_other(finished):
    found = rows(finished, "mixture")
    for arm in ARMS:
        families = [found[arm, 0, f"sensitive_{name}"] for name in ("linear", "rbf", "mlp", "neighbours")]
        assert found[arm, 0, "sensitive"] == max(families)
    for arm in PRICED:
        assert (
            found[arm, 0, "utility"] == found[arm, 0, "utility_1"]
            and found[arm, 0, "sensitive"] == found[arm, 0, "sensitive_1"]
        )
    for arm, of in FREE.items():
        assert found[arm, 0, "sensitive"] == found[of, 0, "sensitive_0"]
    assert found["raw", 0, "leakage"] == found["raw", 0, "retained"] == 1 and found["raw", 0, "area"] == 0
    assert found["raw", 0, "sent_bytes"] == 160 and found["dca", 0, "sent_bytes"] == 16
    assert found["dca", 0, "macs"] == 160 and found["kdi_net", 0, "macs"] == 40 * 8 + 8 * 4


def test_the_same_bytes_again(workspace):
    before = outputs(f"runs/{SLUG}/metrics") | outputs(f"runs/{SLUG}/maps")
    for script in ("compress", "attack"):
        STAGES.run(script, dataset="mixture")
    assert outputs(f"runs/{SLUG}/metrics") | outputs(f"runs/{SLUG}/maps") == before


def test_choosing_settings_never_reads_the_test_part(workspace):
    Path("runs/prepare/digits/test.npz").unlink()
    STAGES.run("digits", "eval_split=val")
    STAGES.run("generate", "eval_split=val")
    STAGES.run("motion", "eval_split=val", dataset="motionsense")


@pytest.mark.slow
def test_figures_are_drawn_alike(workspace):
    drawn = []
    for _ in range(2):
        figures.main(["scale=smoke", "seeds=[0]"])
        drawn.append({path.name: path.read_bytes() for path in sorted(figures.REPORTS.iterdir())})
    assert drawn[0] == drawn[1]
    assert set(drawn[0]) == {f"{name}-smoke.{kind}" for name in ("curves", "attackers") for kind in ("png", "svg")}


@pytest.mark.slow
def test_repetitions_are_the_single_ones(workspace):
    STAGES.run("generate", "repeats=2", seed=1)
    STAGES.run("compress", "repeats=2", seed=1, dataset="mixture")
    STAGES.run("generate", seed=2)
    STAGES.run("compress", seed=2, dataset="mixture")
    several, single = (Path(f"runs/{SLUG}/maps/smoke/mixture/{seed}/2.safetensors").read_bytes() for seed in (1, 2))
    assert several == single


# --- the shipped settings -------------------------------------------------------------------------


@pytest.mark.parametrize("scale", ["smoke", "small", "medium", "paper"])
def test_settings_compose(monkeypatch, scale):
    monkeypatch.chdir(ROOT)
    for dataset in ("mixture", "digits", "motionsense", *(["uci_har"] if scale == "paper" else [])):
        words = [f"scale={scale}", f"dataset={dataset}", "seed=0"]
        found = compress.main.configure(words)
        attack.main.configure(words)
        assert found.params.price == 1.0
        if dataset in ("motionsense", "uci_har"):
            motion.main.configure(words)
    for script in (generate, digits):
        script.main.configure([f"scale={scale}", "seed=0"])


def test_audit_agrees_to_the_digit(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(audit, "CSV", tmp_path / "audit.csv")
    audit.main([])
    lines = (tmp_path / "audit.csv").read_text().splitlines()
    assert len(lines) == 1 + 2 + 2 + 2 and all(",True," in line for line in lines[1:])


@pytest.mark.slow
def test_shakedown_at_full_shape(workspace):
    shakedown.main(["threads=1", "device=cpu"])
    facts = artifacts.read_json(shakedown.FACTS)
    assert facts["dca"]["macs"] == 2805 and facts["kdi_net"]["macs"] == 561 * 64 + 64 * 5


# --- wrong input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("params.dims=41", "at most the 40 features"),
        ("params.dims=0", "params.dims=0"),
        ("params.prices=[1.0]", "the first 0"),
        ("params.prices=[0.0,2.0]", "expected one of prices"),
        ("params.information.fourier=128", "more than the 128"),
        ("params.information.samples=500", "expected 4 to batch"),
        ("params.information.kernel_ridge=0", "kernel_ridge=0"),
        ("params.adversarial.adversaries=0", "adversaries=0"),
        ("params.information.lr=nan", "params.information.lr"),
        ("params.information.lr=1e38", "not finite"),
        ("params.information.step=2", "params.information.step"),
        ("repeats=0", "repeats=0: expected 1 or more"),
    ],
)
def test_impossible_settings_of_the_maps(workspace, capsys, word, said):
    assert said in STAGES.refused(capsys, "compress", word, dataset="mixture")


def test_fewer_samples_than_fourier_features(workspace, capsys):
    words = ("params.information.batch=400", "params.information.fourier=300")
    assert "fewer than the 300 samples" in STAGES.refused(capsys, "compress", *words, dataset="mixture")


@pytest.mark.parametrize(
    ("script", "word", "said"),
    [
        ("generate", "params.secrets=1", "mixture.secrets=1"),
        ("digits", "params.share=0", "params.share=0"),
        ("motion", "params.channels=[sky]", "no channel sky"),
        ("motion", "params.secrets=[height]", "height"),
        ("motion", "params.share=1.5", "params.share=1.5"),
        ("motion", "params.most=0", "params.most=0"),
        ("motion", "eval_split=train", "expected val or test"),
        ("attack", "params.neighbours=0", "neighbours=0"),
        ("attack", "params.widths=[]", "params.widths=[]"),
    ],
)
def test_impossible_settings_of_the_other_stages(workspace, capsys, script, word, said):
    keys = {"motion": {"dataset": "motionsense"}, "attack": {"dataset": "mixture"}}.get(script, {})
    assert said in STAGES.refused(capsys, script, word, **keys)


def test_a_secret_that_follows_from_the_label(workspace, capsys):
    folder = Path(f"runs/{SLUG}/tables/smoke/mixture/0")
    x, u, train = artifacts.read_npz(folder / "0.npz", "x", "u", "train")
    artifacts.write_npz(folder / "0.npz", x=x, u=u, train=train, secret_subject=u % 3)
    artifacts.write_manifest(folder / "manifest.json", outputs=[folder / "0.npz"])
    for script in ("compress", "attack"):
        assert "follows from the utility label" in STAGES.refused(capsys, script, dataset="mixture")


@pytest.mark.parametrize("script", ["compress", "attack"])
@pytest.mark.parametrize("damage", ["removed", "truncated"])
def test_damaged_inputs(workspace, capsys, script, damage):
    names = ["tables/smoke/mixture/0/0.npz", "maps/smoke/mixture/0/0.safetensors"]
    path = Path(f"runs/{SLUG}") / names[script == "attack"]
    content = path.read_bytes()
    path.unlink()
    if damage == "truncated":
        path.write_bytes(content[:-20])
    assert str(path) in STAGES.refused(capsys, script, dataset="mixture")
