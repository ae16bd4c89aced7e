"""The stage scripts at the smoke scale, in a folder of their own: outputs, pairing, wrong input."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from stages.lib import artifacts, data, macs, training, weights
from stages.papers.discriminant_information_pruning import channels, precision, prune, train
from stages.papers.discriminant_information_pruning.arms import ARMS
from stages.papers.discriminant_information_pruning.recall import ARMS as CHANNEL_ARMS
from stages.report import schema
from tests.papers.prepared import Stages, outputs

ROOT = Path(__file__).parents[2]
SLUG = train.SLUG
STAGES = Stages(SLUG, train=train, prune=prune, channels=channels)
run, refused, rows = STAGES.run, STAGES.refused, STAGES.rows


@pytest.fixture(scope="module")
def origin(tmp_path_factory) -> Path:
    """A workspace in which both data sets are prepared and trained."""
    return STAGES.trained(tmp_path_factory.mktemp("discri"))


@pytest.fixture
def workspace(origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A private copy of it, which is also the current folder."""
    folder = Path(shutil.copytree(origin, tmp_path / "copy"))
    monkeypatch.chdir(folder)
    return folder


def net_of(dataset: str, arm: str) -> torch.nn.Module:
    return weights.load_model(f"runs/{SLUG}/prune/smoke/{dataset}/{arm}/0/model.safetensors")


def selection(dataset: str, arm: str) -> dict:
    return artifacts.read_json(f"runs/{SLUG}/prune/smoke/{dataset}/{arm}/0/selection.json")["repetitions"][0]


# --- what comes out ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arm", list(ARMS))
def test_every_arm_goes_through(workspace, arm):
    dataset = ("digits", "cifar10")[list(ARMS).index(arm) % 2]
    run("prune", dataset=dataset, arm=arm)
    net, found, test = net_of(dataset, arm), rows(dataset, arm), data.load(dataset, "test")
    assert found[0, "accuracy_after"] == training.evaluate(net, test)
    assert ((0, "accuracy_before") in found) == (arm != "thin_scratch")
    assert found[0, "macs"] == macs.count(net, test.x[:1])
    assert found[0, "parameters"] == macs.parameters(net)
    assert found[0, "bytes"] == Path(f"runs/{SLUG}/prune/smoke/{dataset}/{arm}/0/model.safetensors").stat().st_size
    dense = weights.load_model(f"runs/{SLUG}/train/smoke/{dataset}/0/dense.safetensors")
    share = found[0, "macs"] / macs.total(dense.record()).macs
    whole = ARMS[arm].structure in ("whole", "bits")
    limit = {"di_56": 0.56, "di_30": 0.3, "l1_30": 0.3, "transferred_30": 0.3}.get(arm, 0.5)
    assert share == 1 if whole else share <= limit
    layers = artifacts.read_json(f"runs/{SLUG}/metrics/smoke/{dataset}/{arm}/0.json")["layers"]
    assert [net.get_submodule(row["layer"]).in_channels for row in layers] == [row["kept"] for row in layers]
    assert selection(dataset, arm)["surgery_gap"] < 1e-4
    manifest = artifacts.verify_manifest(f"runs/{SLUG}/prune/smoke/{dataset}/{arm}/0/manifest.json")
    assert f"runs/{SLUG}/train/smoke/{dataset}/0/manifest.json" in manifest["inputs"]


def test_quantised_arms_end_on_their_grid(workspace):
    run("prune", dataset="digits", arm="mixed_bits")
    found, bits, net = rows("digits", "mixed_bits"), selection("digits", "mixed_bits")["bits"], net_of("digits", "mixed_bits")
    assert found[0, "weight_bits"] == 3
    assert (0, "accuracy_raw") in found
    for name, each in bits.items():
        weight = net.get_submodule(name).weight
        assert torch.allclose(weight, precision.quantised(weight, torch.tensor(each)), atol=1e-6)
        assert sum(each) == 3 * len(each)


def test_distillation_changes_the_training_alone(workspace):
    for arm in ("di", "distilled"):
        run("prune", dataset="digits", arm=arm)
    assert selection("digits", "di")["layers"] == selection("digits", "distilled")["layers"]
    assert rows("digits", "di")[0, "accuracy_before"] == rows("digits", "distilled")[0, "accuracy_before"]
    assert not torch.equal(net_of("digits", "di").fc.weight, net_of("digits", "distilled").fc.weight)


def test_transferred_widths_keep_the_proportions(workspace):
    for arm in ("di", "transferred_30"):
        run("prune", dataset="digits", arm=arm)
    wide, narrow = ([len(x["kept"]) for x in selection("digits", arm)["layers"]] for arm in ("di", "transferred_30"))
    assert all(a >= b for a, b in zip(wide, narrow))
    assert wide != narrow


def test_stages_give_the_same_bytes_again(workspace):
    for script, keys in (("train", {"dataset": "digits"}), ("prune", {"dataset": "digits", "arm": "di"}), ("channels", {})):
        run(script, **keys)
        first = outputs(f"runs/{SLUG}")
        run(script, **keys)
        assert outputs(f"runs/{SLUG}") == first, script


def test_several_repetitions_in_one_process_are_the_single_ones(workspace):
    run("train", "repeats=2", dataset="digits", seed=3)
    run("prune", "repeats=2", dataset="digits", arm="random", seed=3)
    run("channels", "repeats=2", seed=3)
    together = rows("digits", "random", 3)
    generated = artifacts.read_json(f"runs/{SLUG}/metrics/smoke/channels/3.json")["rows"]
    assert {seed for seed, _ in together} == {6, 7} == {row["seed"] for row in generated}
    for seed in (6, 7):
        run("train", dataset="digits", seed=seed)
        run("prune", dataset="digits", arm="random", seed=seed)
        assert {k: v for k, v in together.items() if k[0] == seed} == rows("digits", "random", seed)
        run("channels", seed=seed)
        alone = artifacts.read_json(f"runs/{SLUG}/metrics/smoke/channels/{seed}.json")["rows"]
        assert [row for row in generated if row["seed"] == seed] == alone


def test_evaluation_split_is_a_setting(workspace):
    run("prune", "eval_split=val", dataset="digits", arm="l1")
    found = training.evaluate(net_of("digits", "l1"), data.load("digits", "val"))
    assert rows("digits", "l1")[0, "accuracy_after"] == found


def test_training_never_sees_the_hold_out(workspace):
    """Replacing the hold-out images changes no weight of the dense net."""
    from stages.papers.discriminant_information_pruning.division import divided

    before = weights.load_model(f"runs/{SLUG}/train/smoke/digits/0/dense.safetensors")
    folder, about = Path("runs/prepare/digits"), artifacts.read_json("runs/prepare/digits/manifest.json")
    x, y = artifacts.read_npz(folder / "train.npz", "x", "y")
    options = train.main.configure(["scale=smoke", "dataset=digits", "seed=0"]).params
    split = data.load("digits", "train")
    numbered = data.Split(torch.arange(len(y)).view(-1, 1, 1, 1), split.y, split.classes, (0.0,), (1.0,), "sample")
    _, held_out = divided(numbered, options.limit, options.holdout)
    x[held_out.x.flatten().numpy()] = 0
    artifacts.write_npz(folder / "train.npz", x=x, y=y)
    about["outputs"]["train.npz"] = artifacts.sha256(folder / "train.npz")
    artifacts.write_json(folder / "manifest.json", about)
    run("train", dataset="digits")
    after = weights.load_model(f"runs/{SLUG}/train/smoke/digits/0/dense.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(before.state_dict().values(), after.state_dict().values()))


# --- the shipped settings ---------------------------------------------------------------------------------------------


def test_claims_name_arms_and_metrics_that_the_stages_write(workspace):
    paper = schema.parse(yaml.safe_load((ROOT / f"params/{SLUG}/claim.yaml").read_text()), "claim.yaml")
    assert set(paper.arms) == set(ARMS)
    for claim in paper.claims:
        for arm in (claim.method_arm, claim.baseline_arm):
            if claim.dataset == "channels":
                assert arm in CHANNEL_ARMS
                assert claim.metric in ("channel_recall", "information_kept", "ridge_accuracy")
            elif claim.metric == "accuracy_raw":
                assert ARMS[arm].structure == "bits"
            else:
                assert claim.metric in ("accuracy_before", "accuracy_after")
                assert (arm, claim.metric) != ("thin_scratch", "accuracy_before")


@pytest.mark.parametrize("scale", ["smoke", "small", "medium"])
@pytest.mark.parametrize("dataset", ["cifar10", "digits"])
def test_settings_compose_and_budgets_are_equal(monkeypatch, scale, dataset):
    monkeypatch.chdir(ROOT)
    keys = [f"scale={scale}", f"dataset={dataset}", "seed=0"]
    first = train.main.configure(keys).params
    both = prune.main.configure([*keys, "arm=di"])
    chosen, last = both.params, both.finetune
    assert last.scratch.epochs == first.epochs + last.epochs
    assert (last.batch, last.scratch.lr) == (first.batch, first.lr)
    assert len({(p.limit, p.holdout) for p in (first, chosen, last)}) == 1
    assert chosen.budgets == {"di_56": 0.56, "di_30": 0.3, "l1_30": 0.3, "transferred_30": 0.3}
    channels.main.configure([f"scale={scale}", "seed=0"])


# --- wrong input ------------------------------------------------------------------------------------------------------


def test_an_unknown_arm(workspace, capsys):
    assert "arm=id: there is no such arm" in refused(capsys, "prune", dataset="digits", arm="id")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("params.budget=1.0", "params.budget=1.0: expected a share"),
        ("params.budget=0", "params.budget=0.0"),
        ("params.budgets={di: 1.5}", "params.budgets.di=1.5"),
        ("params.budgets={id: 0.5}", "params.budgets.id: there is no such arm"),
        ("params.budget=0.01", "no structure meets it"),
        ("params.delta=1.0", "params.delta=1.0"),
        ("params.most=0", "params.most=0.0"),
        ("params.layers=all", "params.layers=all: expected accuracy or information"),
        ("params.hook=input", "params.hook=input: expected one of output, activation"),
        ("params.ridge=none", "params.ridge=none"),
        ("params.rho=0", "params.rho=0.0"),
        ("params.rho=-1", "params.rho=-1.0"),
        ("params.rho=.nan", "params.rho"),
        ("params.batches=0", "params.batches=0"),
        ("params.batch=1000", "lower batch"),
        ("params.holdout=3", "holdout: 3 images"),
        ("params.holdout=1000", "need 1150 examples"),
        ("params.interlude.every=0", "params.interlude.every=0"),
        ("params.precision.levels=[1,2]", "precision.levels"),
        ("params.precision.mean=9", "precision.mean=9"),
        ("params.budgte=0.5", "params.budgte"),
        ("finetune.lr=1e30", "not finite"),
        ("repeats=0", "repeats=0: expected 1 or more"),
        ("eval_split=tets", "split=tets"),
    ],
)
def test_impossible_settings_of_prune(workspace, capsys, word, said):
    assert said in refused(capsys, "prune", word, dataset="digits", arm="di")
    assert not Path(f"runs/{SLUG}/prune").exists()


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("params.net.name=lenet", "net.name"),
        ("params.net.options.image=32", "the net takes [1, 32, 32] images, the data are [1, 8, 8]"),
        ("params.limit=3", "limit: 3 images"),
        ("params.epochs=-1", "epochs=-1"),
        ("params.lr=1e30", "not finite"),
        ("dataset=mnist", "no section 'mnist'"),
    ],
)
def test_impossible_settings_of_train(workspace, capsys, word, said):
    assert said in refused(capsys, "train", word, **({} if word.startswith("dataset") else {"dataset": "digits"}))


@pytest.mark.parametrize(("word", "said"), [("params.rho=0", "rho=0.0"), ("params.copies=99", "params.copies=99")])
def test_impossible_settings_of_channels(workspace, capsys, word, said):
    assert said in refused(capsys, "channels", word)


@pytest.mark.parametrize("damage", ["missing", "truncated", "foreign"])
def test_a_damaged_dense_net(workspace, capsys, damage):
    path = Path(f"runs/{SLUG}/train/smoke/digits/0/dense.safetensors")
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:100] if damage == "truncated" else b"text")
    assert "dense.safetensors" in refused(capsys, "prune", dataset="digits", arm="di")


def test_damaged_data(workspace, capsys):
    path = Path("runs/prepare/digits/train.npz")
    path.write_bytes(path.read_bytes()[:1000])
    assert "train.npz" in refused(capsys, "prune", dataset="digits", arm="di")
    assert "train.npz" in refused(capsys, "train", dataset="digits")


def test_weights_that_are_not_finite(workspace, capsys):
    path = Path(f"runs/{SLUG}/train/smoke/digits/0/dense.safetensors")
    net = weights.load_model(path)
    content = net.state_dict()
    content["fc.weight"][0, 0] = float("nan")
    from safetensors.torch import save

    path.write_bytes(save(content, metadata={"architecture": json.dumps(net.record(), sort_keys=True)}))
    about = artifacts.read_json(path.parent / "manifest.json")
    about["outputs"][path.name] = artifacts.sha256(path)
    artifacts.write_json(path.parent / "manifest.json", about)
    assert "NaN" in refused(capsys, "prune", dataset="digits", arm="di")


def test_an_output_that_cannot_be_written(workspace, capsys):
    folder = Path(f"runs/{SLUG}/prune/smoke/digits/di")
    folder.parent.mkdir(parents=True)
    folder.write_text("in the way")
    assert "cannot be written" in refused(capsys, "prune", dataset="digits", arm="di")
    assert not Path(f"runs/{SLUG}/metrics").exists()


@pytest.mark.parametrize("script", list(STAGES.scripts))
def test_help_explains_every_parameter(capsys, monkeypatch, script):
    monkeypatch.chdir(ROOT)
    STAGES.scripts[script].main(["--help", "scale=small"])
    text = capsys.readouterr().out
    assert "params." in text
    assert os.linesep + os.linesep in text
