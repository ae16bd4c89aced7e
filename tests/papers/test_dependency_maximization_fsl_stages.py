"""The stage scripts at the smoke scale, in a folder of their own: outputs, wrong input, the paper's settings."""

import shutil
from pathlib import Path

import numpy
import pytest
import torch
import yaml

from stages.lib import artifacts, weights
from stages.papers.dependency_maximization_fsl import audit, features, figures, shakedown, tasks, train
from stages.papers.dependency_maximization_fsl.arms import ARMS
from stages.report import schema, summarise
from tests.papers.prepared import outputs, refusal

ROOT = Path(__file__).parents[2]
SCRIPTS = {"train": train, "features": features, "tasks": tasks}
SLUG = "dependency_maximization_fsl"
torch.set_num_threads(1)


def prepare(dataset: str, shape: tuple[int, ...], classes: dict[str, int]) -> None:
    """A prepared set divided by classes: patterns with noise, 40 images a class."""
    random, paths = numpy.random.RandomState(0), []
    names = {split: [f"{split}{i}" for i in range(count)] for split, count in classes.items()}
    for split, count in classes.items():
        y = numpy.repeat(numpy.arange(count), 40)
        x = random.randint(60, 196, (count, *shape))[y] + random.normal(0, 30, (len(y), *shape))
        paths.append(Path("runs/prepare") / dataset / f"{split}.npz")
        artifacts.write_npz(paths[-1], x=numpy.clip(x, 0, 255).astype(numpy.uint8), y=y.astype(numpy.int64))
    artifacts.write_manifest(
        paths[0].with_name("manifest.json"), outputs=paths, mean=[0.5] * shape[0], std=[0.25] * shape[0],
        source="sample", files="embedded sample", class_split=names, classes=[n for part in names.values() for n in part],
    )  # fmt: skip


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params and a small set prepared under the glyphs' name, which is also the current folder."""
    shutil.copytree(ROOT / "params", tmp_path / "params")
    monkeypatch.chdir(tmp_path)
    prepare("glyphs", (1, 16, 16), {"train": 4, "val": 5, "test": 6})
    return tmp_path


def run(script: str, *more: str, **keys: object) -> None:
    """Runs a stage script's main with command-line words."""
    words = {"scale": "smoke", "seed": 0, "dataset": "glyphs", **keys}
    SCRIPTS[script].main([f"{key}={value}" for key, value in words.items()] + list(more))


def everything(seed: int = 0, *more: str) -> None:
    for script in SCRIPTS:
        run(script, *more, seed=seed)


def refused(capsys: pytest.CaptureFixture, script: str, *more: str, **keys: object) -> str:
    return refusal(capsys, lambda: run(script, *more, **keys))


def rows(seed: int = 0, dataset: str = "glyphs") -> dict[tuple[str, int, str], float]:
    content = artifacts.read_json(f"runs/{SLUG}/metrics/smoke/{dataset}/{seed}.json")
    return {(row["arm"], row["seed"], row["metric"]): row["value"] for row in content["rows"]}


def test_all_arms_go_through_and_give_the_same_bytes_again(workspace):
    everything()
    first, found = outputs(f"runs/{SLUG}"), rows()
    assert {arm for arm, *_ in found} == set(ARMS)
    folder = Path(f"runs/{SLUG}/tasks/smoke/glyphs/0")
    artifacts.verify_manifest(folder / "manifest.json")
    (values,) = artifacts.read_npz(folder / "accuracies.npz", "one_shot/dm_ida/0")
    assert values.shape == (4,) and values.mean() == found["dm_ida", 0, "accuracy_one_shot"]
    assert found["ce", 0, "gain_one_shot"] == 0
    everything()
    assert outputs(f"runs/{SLUG}") == first and not list(Path("runs").rglob("*.state"))
    claims = schema.parse(yaml.safe_load((ROOT / f"params/{SLUG}/claim.yaml").read_text()), "claim.yaml").claims
    for claim in claims:
        for arm in (claim.method_arm, claim.baseline_arm):
            assert (arm, 0, claim.metric) in found or claim.dataset != "glyphs"


@pytest.mark.slow
def test_repetitions_are_the_single_ones_and_pictures_and_tables_are_made(workspace):
    everything(1, "repeats=2")
    together = rows(1)
    everything(2)
    assert rows(2) == {key: value for key, value in together.items() if key[1] == 2}
    for kind in ("metrics", "backbones"):
        shutil.copytree(f"runs/{SLUG}/{kind}/smoke/glyphs", f"runs/{SLUG}/{kind}/smoke/mnist_fs")
    path = Path(f"runs/{SLUG}/metrics/smoke/mnist_fs/2.json")
    path.write_text(path.read_text().replace('"glyphs"', '"mnist_fs"'))
    prepare("mnist_fs", (1, 16, 16), {"train": 4, "val": 5, "test": 6})
    claim = Path(f"params/{SLUG}/claim.yaml")
    claim.write_text(claim.read_text().replace("scales: [small, medium]", "scales: [smoke]"))
    summarise.main([f"paper={SLUG}", "scale=smoke", "seeds=[2]"])
    assert "dm_ida" in Path(f"runs/results/{SLUG}/smoke/claims.csv").read_text()
    pictures = [figures.REPORTS / f"{name}.png" for name in ("rounds", "shots")]
    drawn = []
    for _ in range(2):
        figures.main(["scales=[smoke]", "seeds=[2]"])
        drawn.append([path.read_bytes() for path in pictures])
    assert drawn[0] == drawn[1]


def test_evaluation_split_is_a_setting_of_the_features_alone(workspace):
    everything()
    first = rows()
    run("features", "eval_split=val")
    (y,) = artifacts.read_npz(f"runs/{SLUG}/features/smoke/glyphs/0/features.npz", "y")
    assert len(set(y.tolist())) == 5
    run("tasks")
    assert rows() != first


@pytest.mark.parametrize("scale", ["smoke", "small", "medium"])
@pytest.mark.parametrize("dataset", ["glyphs", "mnist_fs"])
def test_settings_compose_and_hold_all_that_claims_ask_for(monkeypatch, scale, dataset):
    monkeypatch.chdir(ROOT)
    words = [f"scale={scale}", f"dataset={dataset}", "seed=0"]
    for script in SCRIPTS.values():
        found = script.main.configure(words)
    claims = schema.parse(yaml.safe_load((ROOT / f"params/{SLUG}/claim.yaml").read_text()), "claim.yaml").claims
    for claim in claims:
        if claim.dataset == dataset and scale in claim.scales:
            arms = found.params.settings[claim.metric.partition("_")[2]].arms
            assert {claim.method_arm, claim.baseline_arm} <= set(arms) <= set(ARMS)


def test_paper_scale_has_the_official_settings(monkeypatch):
    monkeypatch.chdir(ROOT)
    found = tasks.main.configure(["scale=paper", "dataset=mini_imagenet", "seed=0"]).params
    assert (found.tasks, found.fit.steps, found.fit.lr, found.fit.dm, found.fit.mi) == (600, 1000, 1e-4, 0.01, 1.0)
    assert (found.rounds.rounds, found.rounds.increment, found.rounds.kernel_limit) == (60, 5, 75)
    assert [one.temperature for one in found.settings.values()] == [64, 32, 64, 32]
    recipe = train.main.configure(["scale=paper", "dataset=mini_imagenet", "seed=0"]).params.recipe
    assert (recipe.epochs, recipe.batch, recipe.lr, recipe.smoothing, recipe.jitter) == (100, 128, 0.1, 0.1, 0.4)


def test_audit_agrees_to_the_digit(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(audit, "CSV", tmp_path / "audit.csv")
    audit.main([])
    lines = (tmp_path / "audit.csv").read_text().splitlines()
    assert len(lines) == 1 + 4 + 3 + 9 + 6 and all(",True," in line for line in lines[1:])


def test_shakedown_of_the_tasks_and_of_a_small_backbone(monkeypatch):
    monkeypatch.chdir(ROOT)
    config = shakedown.main.configure(["threads=1", "device=cpu"])
    config.training.net.widths, config.training.net.blocks = [4, 8, 8, 16], 1
    net = shakedown.shake_backbone(config.training, config.params, torch.device("cpu"))
    assert net["features"] == 16 and net["image"] == [3, 80, 80]
    facts = shakedown.shake_tasks(config.tasks, config.params, 32, torch.device("cpu"))
    assert facts["semi_one_shot"]["pool"] == 300 and all(one["query"] == 75 for one in facts.values())


@pytest.mark.slow
def test_shakedown_at_full_size(monkeypatch):
    monkeypatch.chdir(ROOT)
    config = shakedown.main.configure(["threads=1", "device=cpu"])
    assert shakedown.shake_backbone(config.training, config.params, torch.device("cpu"))["parameters"] == 36523904


# --- wrong input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "word", "said"),
    [
        ("train", "params.net.kind=vgg", "expected one of conv, wide_residual"),
        ("train", "params.net.side=17", "net.side=17: images are [16, 16]"),
        ("train", "params.net.widths=[8]", "two or more"),
        ("train", "params.recipe.optimiser=lamb", "expected one of adam, sgd"),
        ("train", "params.recipe.lr=nan", "recipe.lr"),
        ("train", "params.recipe.crop=0", "recipe.crop=0"),
        ("train", "params.recipe.epoch=2", "params.recipe.epoch"),
        ("train", "repeats=0", "repeats=0: expected 1 or more"),
        ("tasks", "params.ways=7", "ways=7: the split has 6 classes"),
        ("tasks", "params.settings.one_shot.shots=40", "may need 46 images of a class, the smallest class has 40"),
        ("tasks", "params.settings.semi.pool=0", "pool=0"),
        ("tasks", "params.settings.one_shot.arms=[dm_idea]", "dm_idea is none of dm_ida"),
        ("tasks", "params.settings.one_shot.arms=[dm,dm]", "different names"),
        ("tasks", "params.settings.one_shot.temperature=0", "temperature=0"),
        ("tasks", "params.fit.normalise=n3", "expected one of none, n2"),
        ("tasks", "params.fit.sigma_y=0", "fit.sigma_y=0"),
        ("tasks", "params.rounds.components=60", "components=60"),
        ("tasks", "params.rounds.stop=never", "expected one of grow, stable_labels, either"),
        ("tasks", "params.tasks=1", "tasks=1"),
    ],
)
def test_impossible_settings(workspace, capsys, script, word, said):
    if script == "tasks":
        folder = Path(f"runs/{SLUG}/features/smoke/glyphs/0")
        values = numpy.random.RandomState(0).normal(size=(240, 64)).astype(numpy.float32)
        artifacts.write_npz(folder / "features.npz", features_0=values, y=numpy.repeat(numpy.arange(6), 40))
        artifacts.write_manifest(folder / "manifest.json", outputs=[folder / "features.npz"])
    assert said in refused(capsys, script, word)


def test_inputs_that_are_missing_damaged_or_of_another_net(workspace, capsys):
    assert "manifest.json" in refused(capsys, "features")
    run("train")
    assert "another net" in refused(capsys, "features", "params.pool=1")
    path = Path(f"runs/{SLUG}/backbones/smoke/glyphs/0/backbone.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    assert str(path) in refused(capsys, "features")
    path.write_bytes(whole)
    assert weights.load_model(path).record()["classes"] == 4
    run("features")
    path = Path(f"runs/{SLUG}/features/smoke/glyphs/0/features.npz")
    path.write_bytes(path.read_bytes()[:-100])
    assert str(path) in refused(capsys, "tasks")
    path = Path("runs/prepare/glyphs/train.npz")
    path.write_bytes(path.read_bytes()[:-20])
    assert "train.npz" in refused(capsys, "train")
    path = Path("runs/prepare/glyphs/manifest.json")
    path.write_text(path.read_text().replace('"test0"', '"train0"'))
    assert "class train0 stands in train and test" in refused(capsys, "train")


def test_a_data_set_without_settings_and_a_scripts_help(workspace, capsys):
    assert "no section 'mnist" in refused(capsys, "train", dataset="mnist")
    for script, word in (("train", "recipe.smoothing"), ("features", "eval_split"), ("tasks", "rounds.increment")):
        SCRIPTS[script].main(["--help"])
        assert word in capsys.readouterr().out
