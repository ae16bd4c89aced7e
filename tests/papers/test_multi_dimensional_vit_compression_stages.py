"""The stage scripts at the smoke scale: outputs, wrong input, the paper's settings."""

import shutil
from pathlib import Path

import numpy
import pytest
import torch
import yaml

from stages.lib import artifacts, data, macs, training, weights
from stages.papers.multi_dimensional_vit_compression import (
    audit,
    cost,
    experiment,
    figures,
    finetune,
    images,
    search,
    shakedown,
    train,
)
from stages.papers.multi_dimensional_vit_compression import space as spaces
from stages.papers.multi_dimensional_vit_compression.arms import ARMS
from stages.papers.multi_dimensional_vit_compression.gated import dense_shape
from stages.report import schema
from tests.papers.prepared import Stages, digits, outputs

ROOT = Path(__file__).parents[2]
SLUG = "multi_dimensional_vit_compression"
RUNS = Path("runs") / SLUG
STAGES = Stages(SLUG, train=train, search=search, finetune=finetune)
torch.set_num_threads(1)


def everything(*more: str, seed: int = 0) -> None:
    for script in ("train", "search", "finetune"):
        STAGES.run(script, *more, dataset="digits", seed=seed)


def refused(capsys, script: str, *more: str) -> str:
    return STAGES.refused(capsys, script, *more, dataset="digits")


def rows(seed: int = 0) -> dict[tuple[str, int, str], float]:
    content = artifacts.read_json(RUNS / f"metrics/smoke/digits/{seed}.json")
    return {(row["arm"], row["seed"], row["metric"]): row["value"] for row in content["rows"]}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with params and digits prepared, in which all stages have run."""
    folder = digits(tmp_path_factory.mktemp("mdvit"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        everything()
    return folder


@pytest.fixture
def workspace(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, which is also the current folder."""
    folder = shutil.copytree(finished, tmp_path / "copy")
    monkeypatch.chdir(folder)
    return folder


# --- what comes out -------------------------------------------------------------------------------


def test_every_arm_is_cut_measured_and_meets_its_budget(workspace):
    found, params = rows(), search.main.configure(["scale=smoke", "dataset=digits", "seed=0"])
    assert {arm for arm, *_ in found} == set(ARMS)
    options, test = params.params.search, images.placed(data.load("digits", "test"), params.train.images, "test")
    for name, arm in ARMS.items():
        share = 1.0 if arm.choice == "dense" else options.tight if arm.tight else options.budget
        slack = 0.1 if arm.choice == "uniform" else options.tolerance
        assert found[name, 0, "flops_share"] == pytest.approx(share, rel=slack + 1e-9)
        assert found[name, 0, "gap"] < 1e-4 and ("search_accuracy" in {m for a, _, m in found if a == name}) == arm.searched
    assert found["joint", 0, "evaluations"] == found["tight_random_search", 0, "evaluations"] == options.evaluations
    assert found["uniform", 0, "evaluations"] == found["dense", 0, "evaluations"] == 0
    for name in finetune.SAVED:
        net = weights.load_model(RUNS / f"finetune/smoke/digits/0/{name}.safetensors")
        assert training.evaluate(net, test) == found[name, 0, "accuracy_after"]
        assert macs.count(net, test.x[:1]) == found[name, 0, "macs"]
        assert macs.parameters(net) == found[name, 0, "parameters"]
    layers = artifacts.read_json(RUNS / "metrics/smoke/digits/0.json")["layers"]
    assert len(layers) == len(ARMS) * 2 * 3 and all(1 <= row["kept"] <= row["channels"] for row in layers)
    claims = schema.parse(yaml.safe_load((ROOT / f"params/{SLUG}/claim.yaml").read_text()), "claim.yaml")
    assert tuple(claims.arms) == tuple(ARMS)
    for claim in claims.claims:
        assert {(claim.method_arm, 0, claim.metric), (claim.baseline_arm, 0, claim.metric)} <= set(found)
    for stage in ("dense", "search", "finetune"):
        assert artifacts.verify_manifest(RUNS / f"{stage}/smoke/digits/0/manifest.json")["inputs"]


def test_the_same_bytes_again_and_the_search_reads_no_other_split(workspace):
    first = outputs(str(RUNS))
    for split in ("val", "test"):
        Path(f"runs/prepare/digits/{split}.npz").rename(f"{split}.npz")
    STAGES.run("train", dataset="digits")
    STAGES.run("search", dataset="digits")
    for split in ("val", "test"):
        Path(f"{split}.npz").rename(f"runs/prepare/digits/{split}.npz")
    STAGES.run("finetune", dataset="digits")
    assert outputs(str(RUNS)) == first and not list(Path("runs").rglob("*.state"))


def test_the_trials_are_what_the_search_says(workspace):
    params = search.main.configure(["scale=smoke", "dataset=digits", "seed=0"])
    options = params.params.search
    found = artifacts.read_json(RUNS / "search/smoke/digits/0/policies.json")["repetitions"][0]["arms"]
    split, _ = experiment.training_images("digits", params.train)
    shape = dense_shape(experiment.record_of(params.train, split), options.reduce)
    for name, arm in ARMS.items():
        if not arm.searched:
            continue
        trials, whole = found[name]["trials"], cost.dense_flops(shape)
        budget = whole * (options.tight if arm.tight else options.budget)
        assert found[name]["policy"] == max(trials, key=lambda one: one["score"])["policy"]
        for trial in trials:
            policy = spaces.from_record(trial["policy"])
            assert trial["flops"] == cost.flops(shape, policy.neurons, policy.heads, policy.sparsity, fused=True)[0]
            assert abs(trial["flops"] - budget) <= options.tolerance * budget
    firsts = [found[name]["trials"][: options.initial] for name in ("joint", "random_search")]
    assert firsts[0] == firsts[1]


@pytest.mark.slow
def test_repetitions_are_the_single_ones(workspace):
    everything("repeats=2", seed=1)
    together = rows(1)
    everything(seed=2)
    alone = rows(2)
    assert alone == {key: value for key, value in together.items() if key[1] == 2} and len(together) == 2 * len(alone)


def test_pictures(workspace, capsys):
    drawn = []
    for _ in range(2):
        figures.main(["scale=smoke", "dataset=digits", "seeds=[0]"])
        drawn.append(outputs("reports"))
    assert drawn[0] == drawn[1]
    assert {Path(name).name for name in drawn[0]} == {f"{a}-smoke.{b}" for a in ("search", "policies") for b in ("png", "svg")}
    policies = RUNS / "search/smoke/digits/0/policies.json"
    policies.write_bytes(policies.read_bytes()[:100])
    with pytest.raises(SystemExit):
        figures.main(["scale=smoke", "dataset=digits", "seeds=[0]"])
    assert "policies.json" in capsys.readouterr().err and outputs("reports") == drawn[0]
    assert figures.best_so_far([0.1, 0.3, 0.2], 5) == [0.1, 0.3, 0.3, 0.3, 0.3]


# --- the shipped settings -------------------------------------------------------------------------


@pytest.mark.parametrize("scale", ["smoke", "small", "medium"])
def test_every_arms_budget_can_be_met(monkeypatch, scale):
    monkeypatch.chdir(ROOT)
    cfg = finetune.main.configure([f"scale={scale}", "dataset=digits", "seed=0"])
    net, options = cfg.train.net, cfg.compress.search
    side = cfg.train.images.side // net.patch
    shape = cost.Shape(
        side * side + 1, net.embed, net.embed // net.heads, net.heads, net.hidden, net.depth, tuple(options.reduce)
    )
    for arm in ARMS.values():
        if arm.choice != "dense":
            spaces.make(shape, options, options.tight if arm.tight else options.budget, arm.dimensions)
    assert options.budget == 0.6 or scale == "smoke"


def test_paper_scale_is_the_official_codes(monkeypatch):
    monkeypatch.chdir(ROOT)
    cfg = finetune.main.configure(["scale=paper", "dataset=imagenet", "seed=0"])
    options, recipe = cfg.compress.search, cfg.train.recipe
    assert (options.initial, options.steps, options.tokens, options.rounding) == (100, 100, "published", "floor")
    assert round(options.tight * 4540695552 / 1e9, 3) == 1.84
    assert (recipe.lr, recipe.warmup, recipe.mixup, recipe.cutmix, recipe.erase) == (5e-4 * 1024 / 512, 5, 0.8, 1.0, 0.25)
    shape = cost.Shape(197, 384, 64, 6, 1536, 12, (4, 7, 10))
    space = spaces.make(shape, options, options.tight)
    assert space.sample(numpy.random.RandomState(0), 3, 100_000).shape == (3, 25)


def test_audit_agrees_to_the_digit(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(audit, "CSV", tmp_path / "audit.csv")
    audit.main([])
    lines = (tmp_path / "audit.csv").read_text().splitlines()
    assert len(lines) == 1 + 3 + 4 + 4 + 8 + 2 + 2 and all(",True," in line for line in lines[1:])


@pytest.mark.slow
def test_shakedown_of_the_smallest_net(monkeypatch):
    monkeypatch.chdir(ROOT)
    facts = shakedown.shake("DeiT-Ti", shakedown.main.configure(["threads=1", "device=cpu"]), torch.device("cpu"))
    assert facts["dense_parameters"] == 5717416 and facts["dense_macs"] == 1253683200 and facts["evaluations"] == 3
    assert facts["compressed_macs"] < 0.46 * facts["dense_macs"] and facts["tokens"][3] < 197


# --- wrong input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("params.net.heads=3", "does not divide the width"),
        ("params.net.patch=16", "do not tile images of 12"),
        ("params.net.patch=5", "do not tile"),
        ("params.net.patch=0", "net.patch=0: expected 1 or more"),
        ("params.images.side=7", "at least the images' 8 x 8"),
        ("params.images.held_out=300", "fewer than the 300"),
        ("params.images.noise=nan", "images.noise"),
        ("params.recipe.lr=1e30", "not finite"),
        ("params.recipe.epoch=2", "recipe.epoch"),
        ("repeats=0", "repeats=0: expected 1 or more"),
    ],
)
def test_impossible_settings_of_training(workspace, capsys, word, said):
    shutil.rmtree(RUNS)
    assert said in refused(capsys, "train", word)
    assert not RUNS.exists()


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("params.search.budget=0.1", "out of reach"),
        ("params.search.tight=0.2", "out of reach"),
        ("params.search.budget=1.0", "between 0 and 1"),
        ("params.search.tolerance=1e-9", "none of 20000 random policies"),
        ("params.search.reduce=[2,9]", "the net has 3 blocks"),
        ("params.search.reduce=[2,1]", "in ascending order"),
        ("params.search.tokens=all", "expected one of real, published"),
        ("params.search.rounding=up", "expected one of round, floor"),
        ("params.search.initial=1", "initial=1: expected 2 or more"),
        ("params.ranking.widths=[]", "ranking.widths=[]"),
        ("params.ranking.lambda_hsic=2", "expected a share"),
        ("train.net.depth=2", "holds another net"),
    ],
)
def test_impossible_searches(workspace, capsys, word, said):
    assert said in refused(capsys, "search", word)


def test_inputs_that_are_missing_or_damaged(workspace, capsys):
    for script, path in (
        ("train", Path("runs/prepare/digits/train.npz")),
        ("train", Path("runs/prepare/digits/manifest.json")),
        ("search", RUNS / "dense/smoke/digits/0/dense.safetensors"),
        ("search", RUNS / "dense/smoke/digits/0/manifest.json"),
        ("finetune", RUNS / "search/smoke/digits/0/policies.json"),
        ("finetune", RUNS / "search/smoke/digits/0/places.npz"),
        ("finetune", RUNS / "dense/smoke/digits/0/dense.safetensors"),
        ("finetune", Path("runs/prepare/digits/test.npz")),
    ):
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        assert path.name in refused(capsys, script)
        path.unlink()
        assert path.name in refused(capsys, script)
        path.write_bytes(whole)
    assert "expected a policy of each arm for the repetitions [0, 1]" in refused_with_two(capsys)


def refused_with_two(capsys) -> str:
    """The line of a fine-tuning that wants one repetition more than was searched."""
    return refused(capsys, "finetune", "repeats=2")


def test_an_output_that_cannot_be_written(workspace, capsys):
    shutil.rmtree(RUNS)
    RUNS.write_text("in the way")
    assert SLUG in refused(capsys, "train")


def test_help_names_every_parameter(capsys):
    for script, words in ((train, ("net.heads", "images.clutter")), (search, ("search.jitter", "ranking.mu_redundancy"))):
        script.main(["--help"])
        text = capsys.readouterr().out
        assert all(word in text for word in words)
