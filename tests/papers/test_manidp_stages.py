"""ManiDP's stage scripts at the smoke scale, in a folder of their own: outputs, pairing, wrong input, resuming."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml

from stages.lib import artifacts, training, weights
from stages.lib.files import repetitions
from stages.papers.manidp import dense, experiment, gate, train
from stages.papers.manidp.arms import ARMS
from stages.papers.manidp.gated import GatedNet
from stages.papers.manidp.sliced import Sliced
from stages.report import schema
from tests.papers.prepared import Stages, outputs

ROOT = Path(__file__).parents[2]
STAGES = Stages("manidp", train=train, gate=gate)
run, refused, rows = STAGES.run, STAGES.refused, STAGES.rows


@pytest.fixture(scope="module")
def origin(tmp_path_factory) -> Path:
    """A workspace in which both data sets are prepared and trained."""
    return STAGES.trained(tmp_path_factory.mktemp("manidp"))


@pytest.fixture
def workspace(origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A private copy of it, which is also the current folder."""
    folder = Path(shutil.copytree(origin, tmp_path / "copy"))
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("dataset", ["cifar10", "digits"])
@pytest.mark.parametrize("arm", list(ARMS))
def test_every_arm_goes_through(workspace, dataset, arm):
    run("gate", dataset=dataset, arm=arm)
    folder = Path(f"runs/manidp/gate/smoke/{dataset}/{arm}/0")
    artifacts.verify_manifest(folder / "manifest.json")
    net, found = weights.load_model(folder / "model.safetensors"), rows(dataset, arm)
    config = gate.main.configure(["scale=smoke", f"dataset={dataset}", f"arm={arm}", "seed=0"])
    held_out, _ = dense.held_out_split(dataset, "test", config.data)
    assert found[0, "accuracy"] == training.evaluate(net, held_out)
    assert isinstance(net, GatedNet) == (arm != "dense")
    assert ((0, "spearman_noise") in found) == (arm != "dense" and dataset == "digits")
    if arm == "dense":
        assert found[0, "macs_ratio"] == 1.0
        return
    assert 0 < found[0, "macs_ratio"] <= 1 + 1e-9 or arm == "static"
    assert found[0, "macs_ratio_matched"] <= config.params.budget + 0.1
    record = artifacts.read_json(folder / "thresholds.json")["repetitions"][0]
    assert record["sliced_gap"] < 1e-4
    assert len(record["thresholds"]) == 4
    assert (record["matched"] == []) == (arm == "static")
    with torch.no_grad():
        gap = (Sliced(net)(held_out.x[:20].clone()) - net(held_out.x[:20])).abs().amax(1)
    assert float(gap.median()) < 1e-4


def test_stages_give_the_same_bytes_again_and_repetitions_are_the_single_ones(workspace):
    for words in (("train",), ("gate",)):
        keys = {"arm": "manidp"} if words[0] == "gate" else {}
        run(*words, dataset="digits", **keys)
        first = outputs("runs/manidp")
        run(*words, dataset="digits", **keys)
        assert outputs("runs/manidp") == first
    run("train", "repeats=2", dataset="digits", seed=3)
    run("gate", "repeats=2", dataset="digits", arm="manidp", seed=3)
    together = rows("digits", "manidp", 3)
    assert {seed for seed, _ in together} == set(repetitions(3, 2))
    run("train", dataset="digits", seed=6)
    run("gate", dataset="digits", arm="manidp", seed=6)
    assert {k: v for k, v in together.items() if k[0] == 6} == rows("digits", "manidp", 6)


def test_a_stopped_training_goes_on_to_the_same_net(workspace, monkeypatch):
    config = gate.main.configure(["scale=smoke", "dataset=digits", "arm=static", "seed=0"])
    split = dense.training_split("digits", config.data)
    net = weights.load_model("runs/manidp/train/smoke/digits/0/dense.safetensors")

    def go(state):
        return experiment.gate_and_train(net, split, config.params, 0, torch.device("cpu"), "static", state)[0].state_dict()

    whole = go(None)
    from stages.papers.manidp.training import Schedule

    close, calls = Schedule.close, []

    def stop(self, model, epoch):
        close(self, model, epoch)
        calls.append(epoch)
        if len(calls) == 2:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Schedule, "close", stop)
    with pytest.raises(Exception, match="SIGTERM"):
        go(Path("state"))
    resumed = go(Path("state"))
    assert sorted(calls) == [0, 1, 2, 3]
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_dense_arm_sees_the_same_data_and_thresholds_come_from_the_last_pass(workspace):
    run("gate", "params.hold=0", dataset="digits", arm="plain")
    net = weights.load_model("runs/manidp/gate/smoke/digits/plain/0/model.safetensors")
    assert all(int(g.seen) == 0 for g in net.gates)  # every pass starts a new average
    assert all(float(g.threshold) > -1 for g in net.gates)
    run("gate", "params.warmup=99", dataset="digits", arm="plain")
    net = weights.load_model("runs/manidp/gate/smoke/digits/plain/0/model.safetensors")
    assert all(float(g.threshold) < -1 for g in net.gates)


def test_claims_name_arms_and_metrics_that_the_stage_writes(workspace):
    paper = schema.parse(yaml.safe_load((ROOT / "params/manidp/claim.yaml").read_text()), "claim.yaml")
    assert set(paper.arms) == set(ARMS)
    known = {}
    for claim in paper.claims:
        for arm in (claim.method_arm, claim.baseline_arm):
            if (claim.dataset, arm) not in known:
                run("gate", dataset=claim.dataset, arm=arm)
                known[claim.dataset, arm] = {metric for _, metric in rows(claim.dataset, arm)}
            assert claim.metric in known[claim.dataset, arm]


@pytest.mark.parametrize("scale", ["smoke", "small", "medium", "paper"])
def test_settings_compose(monkeypatch, scale):
    monkeypatch.chdir(ROOT)
    for dataset in ("cifar10", "imagenet") if scale == "paper" else ("cifar10", "digits"):
        keys = [f"scale={scale}", f"dataset={dataset}", "seed=0"]
        train.main.configure(keys)
        experiment.check(gate.main.configure([*keys, "arm=plain"]).params)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("params.keep_rate=0", "params.keep_rate=0.0: expected a share in (0, 1]"),
        ("params.keep_rate=1.2", "params.keep_rate=1.2"),
        ("params.keep_rates={plain: -1}", "params.keep_rates.plain=-1"),
        ("params.keep_rates={plian: 0.5}", "arm=plian"),
        ("params.budget=0.01", "params.budget=0.01"),
        ("params.form=whole", "params.form=whole"),
        ("params.lam=-1", "params.lam=-1"),
        ("params.gamma=.nan", "params.gamma"),
        ("params.static_share=1", "params.static_share=1"),
        ("params.easy=0", "params.easy"),
        ("params.epochs=0", "params.epochs=0"),
        ("params.lr=1e30", "not finite"),
        ("params.batch=1", "params.batch=1"),
        ("params.batch=199", "has one image"),
        ("arm=mandip", "arm=mandip: there is no such arm"),
        ("seed=9", "runs/manidp/train/smoke/digits/9"),
        ("data.noise=-1", "params.noise=-1"),
    ],
)
def test_impossible_settings_of_gate(workspace, capsys, word, said):
    keys = {"dataset": "digits", "arm": "manidp"}
    key, _, value = word.partition("=")
    more = () if key in ("arm", "seed") else (word,)
    keys |= {key: value} if not more else {}
    assert said in refused(capsys, "gate", *more, **keys)
    assert not Path("runs/manidp/gate").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["params.net.name=lenet"], "net.name"),
        (["params.net.options.depth=9"], "correct its options"),
        (["params.net.options.image=32"], "the net takes [1, 32, 32] images, the data are [1, 8, 8]"),
        (["params.net.name=preresnet"], "basic blocks"),
        (["params.epochs=-1"], "epochs=-1"),
        (["data.limit=3"], "at least one for each"),
    ],
)
def test_impossible_settings_of_train(workspace, capsys, words, said):
    before = outputs("runs/manidp")
    assert said in refused(capsys, "train", *words, dataset="digits")
    assert outputs("runs/manidp") == before


@pytest.mark.parametrize("name", ["dense.safetensors", "manifest.json"])
def test_truncated_inputs(workspace, capsys, name):
    path = Path("runs/manidp/train/smoke/digits/0") / name
    path.write_bytes(path.read_bytes()[:-20])
    assert name in refused(capsys, "gate", dataset="digits", arm="plain")
    assert not Path("runs/manidp/gate").exists()


def test_images_that_are_not_numbers(workspace):
    config = gate.main.configure(["scale=smoke", "dataset=digits", "arm=plain", "seed=0"])
    split = dense.training_split("digits", config.data)
    split.x[0, 0, 0, 0] = float("nan")
    net = weights.load_model("runs/manidp/train/smoke/digits/0/dense.safetensors")
    with pytest.raises(Exception, match="NaN"):
        experiment.gate_and_train(net, split, config.params, 0, torch.device("cpu"))


def test_an_output_that_cannot_be_written(workspace, capsys):
    Path("runs/manidp/metrics").mkdir(parents=True)
    Path("runs/manidp/metrics/smoke").write_text("a file in the way")
    assert "cannot be written" in refused(capsys, "gate", dataset="digits", arm="plain")


def test_help_names_every_parameter(workspace, capsys):
    for script, word in (("train", "params.net.name"), ("gate", "params.gate_scale")):
        STAGES.scripts[script].main(["--help"])
        assert word in capsys.readouterr().out
