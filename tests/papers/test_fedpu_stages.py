"""FedPU's stage scripts at the smoke scale, in a folder of their own: outputs, clients as stages, wrong input, settings."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml

from stages.lib import artifacts, data
from stages.lib.training import evaluate
from stages.papers.fedpu import aggregate, audit, client, federate, figures, nets, parity, saved, shakedown
from stages.papers.fedpu.arms import ARMS
from stages.report import schema
from tests.papers.prepared import prepare, refusal

ROOT = Path(__file__).parents[2]
SCRIPTS = {"federate": federate, "client": client, "aggregate": aggregate, "parity": parity}
WHOLE = {"scale": "parallel", "dataset": "mnist", "scene": "iid", "arm": "fedpu_prox", "seed": 100}
THREE = ("params.clients=3", "params.scenes.iid.positives=[4,3,3]", "params.images=150")
STAGES = Path("runs/fedpu/stages/parallel/mnist/iid/fedpu_prox/100")
FAST = "params.scenes.iid.arms=[fedpu,positives_only]"
torch.set_num_threads(1)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params and both data sets prepared, which is also the current folder."""
    shutil.copytree(ROOT / "params", tmp_path / "params")
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path / "runs/prepare", "digits", (1, 8, 8))
    prepare(tmp_path / "runs/prepare", "mnist", (1, 28, 28))
    return tmp_path


def run(script: str, *more: str, **keys: object) -> None:
    """Runs a stage script's main with command-line words."""
    first = {"scale": "smoke", "dataset": "digits", "seed": 0} if script == "federate" else WHOLE
    SCRIPTS[script].main([f"{key}={value}" for key, value in {**first, **keys}.items()] + list(more))


def outputs() -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(Path("runs/fedpu").rglob("*")) if p.is_file()}


def refused(capsys: pytest.CaptureFixture, script: str, *more: str, **keys: object) -> str:
    return refusal(capsys, lambda: run(script, *more, **keys))


def rows(dataset: str, seed: int = 0, scale: str = "smoke") -> dict[tuple[str, int, str], float]:
    content = artifacts.read_json(f"runs/fedpu/metrics/{scale}/{dataset}/{seed}.json")
    return {(row["arm"], row["seed"], row["metric"]): row["value"] for row in content["rows"]}


# --- what comes out -------------------------------------------------------------------------------


def test_all_arms_go_through_and_give_the_same_bytes_again(workspace):
    for dataset in ("digits", "mnist"):
        run("federate", dataset=dataset)
    first, found, tested = outputs(), rows("mnist"), data.load("mnist", "test")
    assert {arm for arm, *_ in found} == set(ARMS)
    folder = Path("runs/fedpu/federations/smoke/mnist/0")
    artifacts.verify_manifest(folder / "manifest.json")
    tensors, record = artifacts.load_tensors(folder / "fedpu-iid.safetensors")
    net = nets.build(record)
    net.load_state_dict(tensors)
    assert evaluate(net, tested) == found["fedpu", 0, "accuracy_iid"]
    assert found["fedpu", 0, "kilobytes_iid"] == 2 * 10 * nets.state_bytes(net) / 1000
    assert len({found[arm, 0, "kilobytes_iid"] for arm in ARMS}) == 1
    run("federate", dataset="mnist")
    assert outputs() == first and not list(Path("runs").rglob("*.state"))
    claims = schema.parse(yaml.safe_load((ROOT / "params/fedpu/claim.yaml").read_text()), "claim.yaml").claims
    for claim in claims:
        for arm in (claim.method_arm, claim.baseline_arm):
            assert (arm, 0, claim.metric) in rows(claim.dataset)


def test_repetitions_are_the_single_ones_and_the_measured_split_is_a_setting(workspace):
    run("federate", FAST, "repeats=2", "eval_split=val", seed=1)
    together = rows("digits", 1)
    run("federate", FAST, "eval_split=val", seed=2)
    alone = rows("digits", 2)
    assert alone == {key: value for key, value in together.items() if key[1] == 2} and len(together) == 2 * len(alone)
    weights = artifacts.load_tensors("runs/fedpu/federations/smoke/digits/2/fedpu-iid.safetensors")[0]
    run("federate", FAST, seed=2)
    again = artifacts.load_tensors("runs/fedpu/federations/smoke/digits/2/fedpu-iid.safetensors")[0]
    assert all(torch.equal(again[name], value) for name, value in weights.items())


def test_a_killed_stage_goes_on_to_the_same_bytes(workspace, monkeypatch):
    run("federate", FAST)
    whole = outputs()
    shutil.rmtree("runs/fedpu")
    restored, save = [], artifacts.write_csv
    restore = saved.Keeper.restore
    monkeypatch.setattr(artifacts, "write_csv", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(SystemExit):
        run("federate", FAST)
    assert list(Path("runs").rglob("*.state"))
    monkeypatch.setattr(artifacts, "write_csv", save)
    monkeypatch.setattr(saved.Keeper, "restore", lambda self, device: restored.append(restore(self, device)) or restored[-1])
    run("federate", FAST)
    assert outputs() == whole and all(one is not None for one in restored) and not list(Path("runs").rglob("*.state"))


@pytest.mark.slow
def test_figures_are_drawn_the_same_again(workspace):
    for dataset in ("digits", "mnist"):
        run("federate", dataset=dataset)
    pictures, drawn = [figures.REPORTS / f"{name}.{kind}" for name in ("rounds", "sensitivity") for kind in ("png", "svg")], []
    for _ in range(2):
        figures.main(["scales=[smoke]", "seeds=[0]"])
        drawn.append([path.read_bytes() for path in pictures])
    assert drawn[0] == drawn[1]


# --- clients as stages ----------------------------------------------------------------------------


def federation_of_stages() -> None:
    for turn in (1, 2):
        for number in (1, 2, 0):  # any order
            run("client", *THREE, round=turn, client=number)
        run("aggregate", *THREE, round=turn)


def test_clients_as_stages_give_the_bits_of_one_process(workspace, capsys):
    federation_of_stages()
    run("parity", *THREE, round=2)
    found = rows("mnist", 100, "parallel")
    assert found["fedpu_prox", 100, "differing"] == 0 and found["fedpu_prox", 100, "tensors"] == 8
    parts = [artifacts.load_tensors(STAGES / f"clients/2/{k}/client.safetensors")[1] for k in range(3)]
    assert sum(part["part"] for part in parts) == 2 and sum(part["taken"] for part in parts) == 4
    first, last = outputs(), next(k for k, part in enumerate(parts) if part["part"])
    run("client", *THREE, round=2, client=last)
    assert outputs() == first
    # Every folder that a stage reads is hashed again, and damage told.
    for path, script, words in (
        (STAGES / "clients/1/2/client.safetensors", "client", {"round": 2, "client": 2}),
        (STAGES / "rounds/1/global.safetensors", "client", {"round": 2, "client": 2}),
        (STAGES / "clients/2/2/client.safetensors", "aggregate", {"round": 2}),
        (STAGES / "rounds/2/global.safetensors", "parity", {"round": 2}),
    ):
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        assert str(path) in refused(capsys, script, *THREE, **words)
        path.write_bytes(content)
    assert "another net" in refused(capsys, "aggregate", *THREE, "params.net.width=40", round=2)
    assert "differs from the loop" in refused(capsys, "parity", *THREE, "params.lr.fedpu_prox=0.06", round=2)


@pytest.mark.parametrize(
    ("script", "words", "said"),
    [
        ("client", ["round=3"], "expected 1 to params.rounds=2"),
        ("client", ["client=10"], "expected 0 to 9"),
        ("client", ["round=2"], "rounds/1"),
        ("aggregate", ["round=0"], "round=0"),
        ("aggregate", ["round=1"], "clients/1/0"),
        ("parity", ["round=1"], "the stages end there"),
    ],
)
def test_impossible_stages_of_clients(workspace, capsys, script, words, said):
    assert said in refused(capsys, script, *words)


def test_unknown_scenes_and_arms_of_clients_are_told(workspace, capsys):
    assert "choose one of iid" in refused(capsys, "client", scene="city")
    assert "choose one of fedpu" in refused(capsys, "client", arm="sgd")


# --- the shipped settings -------------------------------------------------------------------------


@pytest.mark.parametrize("scale", ["smoke", "small", "medium", "paper"])
def test_settings_compose_with_ten_clients_or_more(monkeypatch, scale):
    monkeypatch.chdir(ROOT)
    for dataset in ("digits", "mnist") if scale != "paper" else ("mnist", "cifar10"):
        found = federate.main.configure([f"scale={scale}", f"dataset={dataset}", "seed=0"]).params
        assert found.clients >= 10 and {"iid", "noniid"} <= set(found.scenes)
        assert {arm for scene in found.scenes.values() for arm in scene.arms or ARMS} <= set(found.lr)


def test_paper_scale_is_the_official_codes(monkeypatch):
    monkeypatch.chdir(ROOT)
    mnist = federate.main.configure(["scale=paper", "dataset=mnist", "seed=0"]).params
    assert (mnist.clients, mnist.epochs, mnist.batch, mnist.momentum, mnist.decay) == (10, 20, 500, 0.9, 0.992)
    assert (set(mnist.lr.values()), mnist.risk.weight, mnist.scenes["iid"].least) == ({0.01}, 1.0, 41)
    cifar = federate.main.configure(["scale=paper", "dataset=cifar10", "seed=0"]).params
    assert (cifar.clients, cifar.participation, cifar.epochs, sum(cifar.pool)) == (100, 0.1, 2, 60000)


def test_audit_agrees_to_the_digit(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(audit, "CSV", tmp_path / "audit.csv")
    audit.main([])
    lines = (tmp_path / "audit.csv").read_text().splitlines()
    assert len(lines) == 1 + 4 + 4 + 10 + 1 + 4 + 2 and all(",True," in line for line in lines[1:])


def test_shakedown_of_the_small_net(monkeypatch):
    monkeypatch.chdir(ROOT)
    config = shakedown.main.configure(["threads=1", "device=cpu"])
    facts = shakedown.shake("mnist", config.mnist, config.params, torch.device("cpu"))
    assert facts["parameters"] == 18158 and set(facts["rounds"].values()) == {2} and len(facts["rounds"]) == len(ARMS) - 1
    assert facts["gigabytes_at_full_scale"] == pytest.approx(2 * 10 * 200 * 72632 / 1e9)


@pytest.mark.slow
def test_shakedown_of_resnet9(monkeypatch):
    monkeypatch.chdir(ROOT)
    config = shakedown.main.configure(["threads=1", "device=cpu"])
    facts = shakedown.shake("cifar10", config.cifar10, config.params, torch.device("cpu"))
    assert facts["parameters"] == 6575370 and facts["clients_at_full_scale"] == 100


# --- wrong input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("params.scenes.iid.positives=[0,10]", "a client needs 1 or more"),
        ("params.scenes.iid.positives=[]", "a client needs 1 or more"),
        ("params.scenes.iid.priors=[0.5,0.4]", "sum to 0.9"),
        ("params.scenes.iid.priors=[0.5,0.5]", "one for each of 10 classes"),
        ("params.scenes.iid.label_rate=0.01", "no image of positive class"),
        ("params.scenes.iid={positives:[10],label_rate:1.0}", "no unlabelled image"),
        ("params.scenes.iid.least=50", "has no positive class"),
        ("params.scenes.iid.classes_per_client=11", "expected 1 to 10"),
        ("params.scenes.iid.arms=[sgd]", "choose one of fedpu"),
        ("params.scenes.iid.partition=random", "expected one of shards, fedmatch"),
        ("params.scenes.iid={partition:fedmatch}", "need"),
        ("params.images=301", "there are 300"),
        ("params.participation=0", "participation=0"),
        ("params.early=2", "at most rounds=1"),
        ("params.epochs=1", "needs epochs=2 or more"),
        ("params.net.kind=vit", "expected one of mlp, cnn, resnet9"),
        ("params.net.kind=cnn", "too small"),
        ("params.risk.eps=0", "risk.eps=0"),
        ("params.prox.form=cubed", "expected one of squared, norm"),
        ("params.lr.fedpu=0", "params.lr.fedpu=0"),
        ("params.lr.fedpu=1e30", "not finite"),
        ("params.momentum=1", "momentum=1"),
        ("params.pool=[100,100]", "sizes of train, val and test"),
        ("repeats=0", "repeats=0: expected 1 or more"),
    ],
)
def test_impossible_settings(workspace, capsys, word, said):
    assert said in refused(capsys, "federate", word)


def test_a_class_that_is_positive_nowhere_and_a_missing_rate(workspace, capsys):
    keys = ("params.clients=5", "params.scenes.iid.positives=[1]")
    assert "class 5, 6, 7, 8, 9 is positive in no client" in refused(capsys, "federate", *keys)
    path = Path("params/fedpu/smoke.yaml")
    path.write_text(path.read_text().replace("    code_v1: 0.03\n", "", 1))
    assert "has no learning rate for code_v1" in refused(capsys, "federate")


def test_inputs_that_are_missing_or_truncated_and_outputs_in_the_way(workspace, capsys):
    path = Path("runs/prepare/digits/train.npz")
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    assert "train.npz" in refused(capsys, "federate")
    path.unlink()
    assert "train.npz" in refused(capsys, "federate")
    path.write_bytes(whole)
    Path("runs/fedpu").write_text("in the way")
    with pytest.raises(SystemExit) as stopped:
        run("federate", FAST)
    text = capsys.readouterr().err
    assert stopped.value.code == 1 and text.count("\n") == 1 and "runs/fedpu" in text


def test_a_scripts_help_names_every_parameter(workspace, capsys):
    for script, words in (("federate", ("prox.partial", "risk.nonnegative", "eval_split")), ("client", ("client", "round"))):
        SCRIPTS[script].main(["--help"])
        text = capsys.readouterr().out
        assert all(word in text for word in words)
