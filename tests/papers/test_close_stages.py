"""CLOSE's stage scripts at the smoke scale, in a folder of their own: outputs, repetition, wrong input, resuming."""

import shutil
from pathlib import Path

import numpy
import pytest
import torch
import yaml

from stages.lib import artifacts, ranking, runtime
from stages.lib.data import load
from stages.lib.errors import StageError
from stages.papers.close import arms, division, figures, quality, rank, space, supernets, training, truth
from stages.papers.close.settings import ARMS, CHOICE, SAMPLED
from stages.report import schema
from tests.papers.prepared import digits, outputs, refusal

ROOT = Path(__file__).parents[2]
SCRIPTS = {"truth": truth, "supernets": supernets, "rank": rank, "figures": figures}
FAST = ["params.epochs=2", "params.schedule=[1,1,2]", "params.checkpoints=[1,2]"]

torch.set_num_threads(1)


def run(script: str, *more: str, **keys: object) -> None:
    """Runs a stage script's main with command-line words."""
    words = {"scale": "smoke", "dataset": "digits", **({} if script == "truth" else {"seed": 0}), **keys}
    SCRIPTS[script].main([f"{key}={value}" for key, value in words.items()] + list(more))


def refused(capsys: pytest.CaptureFixture, script: str, *more: str, **keys: object) -> str:
    return refusal(capsys, lambda: run(script, *more, **keys))


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh folder, which is also the current one."""
    monkeypatch.chdir(digits(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which truth, supernets and rank have run once."""
    folder = digits(tmp_path_factory.mktemp("close"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for script in ("truth", "supernets", "rank"):
            run(script)
    return folder


@pytest.fixture
def after(searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, which is also the current folder."""
    shutil.copytree(searched, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


# --- what comes out -------------------------------------------------------------------------------


def test_the_table_of_truths(after):
    folder = Path("runs/close/truth/smoke/digits")
    assert "runs/prepare/digits/test.npz" in artifacts.verify_manifest(folder / "manifest.json")["inputs"]
    table = artifacts.read_json(folder / "table.json")
    assert table["split"] == "test" and len(table["rows"]) == 12
    for row in table["rows"]:
        assert space.has_live_convolution(space.parse(row["architecture"]))
        assert row["accuracy"] == pytest.approx(numpy.mean(row["accuracies"])) and len(row["accuracies"]) == 2


def test_supernets_hold_every_arm_and_score_the_table(after):
    folder = Path("runs/close/supernets/smoke/digits/0")
    inputs = artifacts.verify_manifest(folder / "manifest.json")["inputs"]
    assert set(inputs) == {"runs/prepare/digits/train.npz", "runs/prepare/digits/manifest.json"}  # no label of another split
    record = artifacts.read_json(folder / "supernets.json")
    table = artifacts.read_json("runs/close/truth/smoke/digits/table.json")
    assert record["architectures"] == [row["architecture"] for row in table["rows"]]
    for arm in ARMS:
        (scores,) = artifacts.read_npz(folder / "scores.npz", f"{arm}/0")
        assert scores.shape == (2, 12) and ((scores >= 0) & (scores <= 1)).all()
        tensors, about = artifacts.load_tensors(folder / f"{arm}.safetensors")
        assert about["arm"] == arm and len(record["parameters"][arm]) == 2
        assert sum(value.numel() for value in tensors.values()) == sum(record["parameters"][arm])
    blocks = {arm: sizes[0] for arm, sizes in record["parameters"].items()}
    assert blocks["glow_1"] < blocks["close"] == blocks["glow_3"] == blocks["random_gate"] < blocks["vanilla"]


def test_arms_that_differ_later_have_the_same_first_scores(after):
    first = {arm: artifacts.read_npz("runs/close/supernets/smoke/digits/0/scores.npz", f"{arm}/0")[0][0] for arm in ARMS}
    for arm in ("glow_1", "random_gate", "arch_gate"):
        assert (first[arm] == first["close"]).all()  # one block until the second level
    assert not (first["vanilla"] == first["close"]).all()


def test_metrics_are_those_of_the_scores(after):
    content = artifacts.read_json("runs/close/metrics/smoke/digits/0.json")
    found = {(row["arm"], row["metric"]): row["value"] for row in content["rows"]}
    truths = [row["accuracy"] for row in artifacts.read_json("runs/close/truth/smoke/digits/table.json")["rows"]]
    for arm in (*ARMS, SAMPLED):
        (scores,) = artifacts.read_npz("runs/close/supernets/smoke/digits/0/scores.npz", f"{arm}/0")
        assert found[arm, "kendall"] == ranking.kendall(scores[-1], truths)
        assert found[arm, "regret"] == max(truths) - truths[int(numpy.argmax(scores[-1]))] >= 0
    assert found[CHOICE, "regret"] == pytest.approx(max(truths) - numpy.mean(truths))
    assert {(line["arm"], line["epoch"]) for line in content["curves"]} == {(arm, epoch) for arm in ARMS for epoch in (1, 3)}


def test_stages_give_the_same_bytes_again(after):
    first = outputs("runs/close")
    for script in ("truth", "supernets", "rank"):
        run(script)
    assert outputs("runs/close") == first


def test_repetitions_of_a_matrix_seed_are_the_single_ones(workspace):
    run("supernets", "repeats=2", *FAST, seed=1)
    together = {name: artifacts.read_npz("runs/close/supernets/smoke/digits/1/scores.npz", f"{name}/3")[0] for name in ARMS}
    run("supernets", *FAST, seed=3)
    for arm, scores in together.items():
        assert (artifacts.read_npz("runs/close/supernets/smoke/digits/3/scores.npz", f"{arm}/3")[0] == scores).all()


def test_a_training_goes_on_from_its_last_epoch(workspace, monkeypatch, capsys):
    cfg = supernets.main.configure(["scale=smoke", "dataset=digits", "seed=0"])
    device = runtime.prepare(1, "cpu", 0)
    train, score = division.divide(load("digits", "train"), cfg.data)
    pool = space.searchable()
    scored = training.Scored(pool[:5], score)

    def learn(state: Path | None) -> training.Learner:
        trainee = arms.build("close", cfg.net, cfg.gate, cfg.params, (1, 8, 8), 10, 4)
        return training.train(trainee, train, pool, scored, cfg.params, 4, device, state)

    whole, real, epochs = learn(None), training._epoch, []

    def stop_in_the_third(run, *rest):
        epochs.append(run.step)
        if len(epochs) == 3:
            raise KeyboardInterrupt
        real(run, *rest)

    monkeypatch.setattr(training, "_epoch", stop_in_the_third)
    with pytest.raises(KeyboardInterrupt):
        learn(Path("state"))
    monkeypatch.setattr(training, "_epoch", real)
    capsys.readouterr()
    resumed = learn(Path("state"))
    assert "resumed at epoch" in capsys.readouterr().out and not Path("state").exists()
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_the_rate_is_forgotten_at_the_restart():
    cfg = supernets.main.configure(["scale=smoke", "dataset=digits", "seed=0"]).params
    flat = [1.0] * 10
    cfg.restart = 0
    assert training.rate(cfg, flat, 10) < training.rate(cfg, flat, 2) == cfg.lr
    cfg.restart = 9
    assert training.rate(cfg, flat, 8) < training.rate(cfg, flat, 9) == training.rate(cfg, flat, 10) == cfg.lr


def test_the_picture_is_the_same_every_time(after):
    run_figures = ["scales=[smoke]", "seeds=[0]", "dataset=digits", "out=one"]
    figures.main(run_figures)
    figures.main([*run_figures[:-1], "out=two"])
    first = {Path(name).name: content for name, content in outputs("one").items()}
    assert first == {Path(name).name: content for name, content in outputs("two").items()}
    assert set(first) == {"ranking.png", "ranking.svg"} and b"CLOSENet" in first["ranking.svg"]


# --- the shipped settings -------------------------------------------------------------------------


def test_claims_name_arms_and_metrics_that_the_stages_write(after):
    paper = schema.parse(yaml.safe_load((ROOT / "params/close/claim.yaml").read_text()), "claim.yaml")
    assert paper.arms == list(ARMS)
    written = {(row["arm"], row["metric"]) for row in artifacts.read_json("runs/close/metrics/smoke/digits/0.json")["rows"]}
    for claim in paper.claims:
        assert {(claim.method_arm, claim.metric), (claim.baseline_arm, claim.metric)} <= written, claim.id


@pytest.mark.parametrize(
    ("scale", "dataset"), [("smoke", "digits"), ("small", "digits"), ("medium", "digits"), ("paper", "cifar10")]
)
def test_settings_compose(monkeypatch, scale, dataset):
    monkeypatch.chdir(ROOT)
    found = supernets.main.configure([f"scale={scale}", f"dataset={dataset}", "seed=0"])
    assert len(found.params.schedule) == (4 if scale == "paper" else 3)
    assert truth.main.configure([f"scale={scale}", f"dataset={dataset}"]).space == found.space
    rank.main.configure([f"scale={scale}", f"dataset={dataset}", "seed=0"])


# --- wrong input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("params.schedule=[1,2,4]", "a level starts in epoch 4, the run has 3"),
        ("params.schedule=[1,3,2]", "never fall"),
        ("params.schedule=[2,3]", "first level to start in epoch 1"),
        ("params.schedule=[]", "first level to start in epoch 1"),
        ("params.checkpoints=[1,2]", "the last one 3"),
        ("params.checkpoints=[3,3]", "expected rising epochs"),
        ("params.restart=4", "the run has 3 epochs"),
        ("params.wit_from=next", "expected one of prev, random"),
        ("params.gate_at_level=copy", "expected one of inherit, last, mlp"),
        ("params.lr=-1", "params.lr"),
        ("params.lr=1e30", "supernet"),
        ("params.batch=1", "batch=1: expected 2 or more"),
        ("params.epocs=2", "epocs"),
        ("space.operations=[none,conv_9x9]", "unknown operation conv_9x9"),
        ("space.operations=[none,skip_connect,avg_pool_3x3]", "no cell has a convolution"),
        ("space.architectures=7000", "expected 1 to 6321"),
        ("data.train=400", "need 500 examples, there are 300"),
        ("data.score=0", "data.score=0"),
        ("net.channels=[]", "net.channels=[]"),
        ("net.channels=[4,4,4,4,4]", "leave nothing"),
        ("net.dropout=1.0", "net.dropout=1.0"),
        ("gate.temperature=0", "temperature=0"),
        ("gate.encoder.widths=[]", "gate.encoder"),
        ("repeats=0", "repeats=0: expected 1 or more"),
        ("dataset=mnist", "no section 'mnist'"),
    ],
)
def test_impossible_settings(workspace, capsys, word, said):
    keys = {"dataset": word.partition("=")[2]} if word.startswith("dataset") else {}
    words = [] if keys else [word]
    assert said.replace("params.", "") in refused(capsys, "supernets", *words, **keys)


@pytest.mark.parametrize("word", ["params.seeds=0", "params.together=0", "params.batch=1", "params.lr=nan"])
def test_impossible_tables(workspace, capsys, word):
    assert word.partition("=")[0].replace("params.", "truth.") in refused(capsys, "truth", word)


def test_a_table_that_is_missing_empty_truncated_or_anothers(after, capsys):
    path = Path("runs/close/truth/smoke/digits/table.json")
    whole = path.read_text()
    table = artifacts.read_json(path)
    artifacts.write_json(path, {**table, "rows": table["rows"][1:]})
    assert "stage again" in refused(capsys, "rank")
    artifacts.write_json(path, {"rows": []})
    assert "holds no rows" in refused(capsys, "rank")
    path.write_text(whole[:-50])
    assert "not JSON" in refused(capsys, "rank")
    path.unlink()
    assert "table.json" in refused(capsys, "rank")


def test_scores_and_images_that_are_spoiled(after, capsys):
    scores = Path("runs/close/supernets/smoke/digits/0/scores.npz")
    scores.write_bytes(scores.read_bytes()[:-30])
    assert "scores.npz" in refused(capsys, "rank")
    images = Path("runs/prepare/digits/train.npz")
    images.write_bytes(images.read_bytes()[:-30])
    for script in ("supernets", "truth"):
        assert "train.npz" in refused(capsys, script)


def test_an_output_that_cannot_be_written(workspace, capsys):
    Path("runs/close").write_text("in the way")
    with pytest.raises(SystemExit) as stopped:
        run("truth")
    text = capsys.readouterr().err
    assert stopped.value.code == 1 and text.count("\n") == 1 and "runs/close" in text


def test_values_of_a_small_table_by_hand():
    truths = [0.5, 0.9, 0.7]
    found = quality.values([[0.1, 0.2, 0.3], [0.1, 0.2, 0.2]], truths, 0.34)
    assert found["kendall_first"] == pytest.approx(1 / 3) and found["regret"] == 0.0  # of equal scores the first counts
    assert quality.regret([0.1, 0.2, 0.3], truths) == pytest.approx(0.2)
    assert quality.regret_of_random_choice(truths) == pytest.approx(0.2)
    with pytest.raises(StageError, match="lacks b"):
        quality.aligned([{"architecture": "a", "accuracy": 1.0}], ["a", "b"], "table.json")


def test_a_scripts_help_names_every_parameter(workspace, capsys):
    for script, words in {"truth": ("together",), "supernets": ("gate_at_level", "wit_from"), "rank": ("ratio",)}.items():
        SCRIPTS[script].main(["--help"])
        text = capsys.readouterr().out
        assert all(word in text for word in words)
