"""FocusFormer's stage scripts at the smoke scale, in a folder of their own: outputs, wrong input, the paper's settings."""

from pathlib import Path

import pytest
import torch
import yaml

from stages.lib import artifacts, data, macs, training, weights
from stages.papers.focusformer import audit, cost, experiment, figures, oracle, search, shakedown, train
from stages.papers.focusformer.arms import ARMS, SUPERNETS
from stages.report import schema
from tests.papers.prepared import digits, outputs, refusal

ROOT = Path(__file__).parents[2]
SCRIPTS = {"train": train, "search": search, "oracle": oracle}
torch.set_num_threads(1)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params and digits prepared, which is also the current folder."""
    monkeypatch.chdir(digits(tmp_path))
    return tmp_path


def run(script: str, *more: str, **keys: object) -> None:
    """Runs a stage script's main with command-line words."""
    words = {"scale": "smoke", "seed": 0, **({} if script == "oracle" else {"dataset": "digits"}), **keys}
    SCRIPTS[script].main([f"{key}={value}" for key, value in words.items()] + list(more))


def refused(capsys: pytest.CaptureFixture, script: str, *more: str, **keys: object) -> str:
    return refusal(capsys, lambda: run(script, *more, **keys))


def everything(seed: int = 0, *more: str) -> None:
    for name in SUPERNETS:
        run("train", *more, supernet=name, seed=seed)
    run("search", *more, seed=seed)


def rows(dataset: str, seed: int = 0) -> dict[tuple[str, int, str], float]:
    content = artifacts.read_json(f"runs/focusformer/metrics/smoke/{dataset}/{seed}.json")
    return {(row["arm"], row["seed"], row["metric"]): row["value"] for row in content["rows"]}


# --- what comes out -------------------------------------------------------------------------------


def test_all_arms_go_through_and_give_the_same_bytes_again(workspace):
    everything()
    run("oracle")
    first, found, test = outputs("runs/focusformer"), rows("digits"), data.load("digits", "test")
    assert {arm for arm, *_ in found} == set(ARMS)
    folder = Path("runs/focusformer/search/smoke/digits/0")
    artifacts.verify_manifest(folder / "manifest.json")
    for arm in ARMS:
        values = [found[arm, 0, f"accuracy_{i}"] for i in range(1, 5)]
        assert found[arm, 0, "accuracy"] == pytest.approx(sum(values) / 4)
        assert found[arm, 0, "evaluations"] == (0 if arm == "focus_decode" else 4 * 8)
    chosen = artifacts.read_json(folder / "architectures.json")["repetitions"][0]["arms"]
    for i, record in enumerate(chosen["focus_decode"], 1):
        net = weights.load_model(folder / f"decoded-{i}.safetensors")
        assert {key: net.record()[key] for key in record} == record
        assert training.evaluate(net, test) == found["focus_decode", 0, f"accuracy_{i}"]
        assert macs.count(net, test.x[:1]) == found["focus_decode", 0, f"macs_{i}"]
    everything()
    run("oracle")
    assert outputs("runs/focusformer") == first and not list(Path("runs").rglob("*.state"))
    claims = schema.parse(yaml.safe_load((ROOT / "params/focusformer/claim.yaml").read_text()), "claim.yaml").claims
    for claim in claims:
        for arm in (claim.method_arm, claim.baseline_arm):
            assert (arm, 0, claim.metric) in rows(claim.dataset)


def test_evolved_architectures_meet_their_budgets(workspace):
    everything()
    params = search.main.configure(["scale=smoke", "dataset=digits", "seed=0"]).supernet
    canvas = cost.canvas(params.supernet, (1, 8, 8), 10)
    for i, budget in enumerate(cost.budgets(params.space, canvas, params.budgets), 1):
        assert all(value <= budget for (arm, _, metric), value in rows("digits").items()
                   if metric == f"macs_{i}" and arm != "focus_decode")  # fmt: skip


@pytest.mark.slow
def test_repetitions_are_the_single_ones_and_figures_are_drawn(workspace):
    everything(1, "repeats=2")
    together = rows("digits", 1)
    everything(2)
    alone = rows("digits", 2)
    assert alone == {key: value for key, value in together.items() if key[1] == 2} and len(together) == 2 * len(alone)
    pictures = [figures.REPORTS / f"{name}.{kind}" for name in ("fronts", "costs") for kind in ("png", "svg")]
    drawn = []
    for _ in range(2):
        figures.main(["scales=[smoke]", "seeds=[2]"])
        drawn.append([path.read_bytes() for path in pictures])
    assert drawn[0] == drawn[1]


def test_evaluation_split_is_a_setting_and_search_does_not_see_it(workspace):
    everything()
    first = artifacts.read_json("runs/focusformer/search/smoke/digits/0/architectures.json")
    run("search", "eval_split=val")
    assert artifacts.read_json("runs/focusformer/search/smoke/digits/0/architectures.json") == first
    net = weights.load_model("runs/focusformer/search/smoke/digits/0/decoded-1.safetensors")
    assert rows("digits")["focus_decode", 0, "accuracy_1"] == training.evaluate(net, data.load("digits", "val"))


# --- the shipped settings -------------------------------------------------------------------------


@pytest.mark.parametrize("scale", ["smoke", "small", "medium"])
def test_settings_compose_and_budgets_can_be_searched(monkeypatch, scale):
    monkeypatch.chdir(ROOT)
    found = search.main.configure([f"scale={scale}", "dataset=digits", "seed=0"])
    oracle.main.configure([f"scale={scale}", "seed=0"])
    train.main.configure([f"scale={scale}", "dataset=digits", "supernet=focus", "seed=0"])
    canvas = cost.canvas(found.supernet.supernet, (1, 8, 8), 10)
    from stages.papers.focusformer import choosing
    from stages.papers.focusformer import space as spaces

    wanted = found.params.evolution.population * found.params.evolution.generations
    for budget in cost.budgets(found.supernet.space, canvas, found.supernet.budgets):
        legal = choosing.operators(found.supernet.space, canvas, found.params, budget).legal
        assert sum(map(legal, spaces.everything(found.supernet.space))) > 1.5 * wanted


def test_paper_scale_has_autoformers_recipe(monkeypatch):
    monkeypatch.chdir(ROOT)
    found = search.main.configure(["scale=paper", "dataset=imagenet", "seed=0"])
    settings = found.supernet.recipe
    assert (settings.epochs, settings.batch, settings.lr, settings.warmup) == (500, 1024, 5e-4 * 1024 / 512, 20)
    assert (settings.smoothing, settings.mixup, settings.cutmix, settings.erase) == (0.1, 0.8, 1.0, 0.25)
    evolution = found.params.evolution
    assert (evolution.population, evolution.generations, evolution.parents) == (50, 20, 10)
    cost.budgets(found.supernet.space, cost.canvas(found.supernet.supernet, (3, 224, 224), 1000), found.supernet.budgets)


def test_audit_agrees_to_the_digit(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(audit, "CSV", tmp_path / "audit.csv")
    audit.main([])
    lines = (tmp_path / "audit.csv").read_text().splitlines()
    assert len(lines) == 1 + 3 * 4 + 3 * 3 + 3 and all(",True," in line for line in lines[1:])


@pytest.mark.slow
def test_shakedown_of_the_smallest_space(monkeypatch):
    monkeypatch.chdir(ROOT)
    config = shakedown.main.configure(["threads=1", "device=cpu"])
    facts = shakedown.shake("Ti", config, torch.device("cpu"))
    assert facts["supernet_parameters"] == 11669224 and facts["evaluations"] == 2 and len(facts["drawn_macs"]) == 2


# --- wrong input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("supernet=focused", "choose one of uniform, uniform_extra, focus"),
        ("params.budgets=[0.01,0.5]", "the reachable range"),
        ("params.budgets=[0.5,0.4]", "in ascending order"),
        ("params.space.heads=[]", "space.heads=[]"),
        ("params.space.ratio=[1,8]", "exceeds the supernet's"),
        ("params.space.embed=[16,8]", "ascending order"),
        ("params.supernet.bias_slicing=random", "expected one of interleaved, prefix"),
        ("params.supernet.patch=3", "does not divide"),
        ("params.sampler.reward=best", "expected one of dominance, tunas, mnas"),
        ("params.sampler.scored=1", "params.sampler.scored=1"),
        ("params.sampler.prior=all", "expected one of anchors, range"),
        ("params.sampler.images=101", "at most held_out"),
        ("params.held_out=300", "fewer than the 300 training images"),
        ("params.recipe.lr=nan", "params.recipe.lr"),
        ("params.recipe.warmup=2", "fewer passes than"),
        ("params.recipe.lr=1e30", "not finite"),
        ("params.recipe.epoch=2", "params.recipe.epoch"),
        ("repeats=0", "repeats=0: expected 1 or more"),
    ],
)
def test_impossible_settings_of_training(workspace, capsys, word, said):
    keys = {} if word.startswith("supernet=") else {"supernet": "focus"}
    assert said in refused(capsys, "train", word, **keys)


def test_a_data_set_without_settings(workspace, capsys):
    assert "no section 'mnist" in refused(capsys, "train", dataset="mnist", supernet="focus")


def test_impossible_searches(workspace, capsys):
    assert "missing" in refused(capsys, "search") or "No such file" in refused(capsys, "search")
    for name in SUPERNETS:
        run("train", supernet=name)
    assert "no candidate meets the constraints" in refused(
        capsys, "search", "params.floor=0.9999", "params.evolution.random_trials=50"
    )
    assert "evolution.population=2" in refused(capsys, "search", "params.evolution.population=2")
    assert "another supernet" in refused(capsys, "search", "supernet.supernet.depth=3")
    path = Path("runs/focusformer/supernets/smoke/digits/focus/0/supernet.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    assert str(path) in refused(capsys, "search")


def test_inputs_that_are_missing_or_truncated_and_outputs_in_the_way(workspace, capsys):
    path = Path("runs/prepare/digits/train.npz")
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    assert "train.npz" in refused(capsys, "train", supernet="uniform")
    path.write_bytes(whole)
    Path("runs/focusformer").write_text("in the way")
    with pytest.raises(SystemExit) as stopped:
        run("train", supernet="uniform")
    text = capsys.readouterr().err
    assert stopped.value.code == 1 and text.count("\n") == 1 and "runs/focusformer" in text


@pytest.mark.parametrize(("word", "said"), [("params.updates=0", "updates=0"), ("params.budgets=[0.5]", "two or more")])
def test_impossible_oracles(workspace, capsys, word, said):
    assert said in refused(capsys, "oracle", word)


def test_a_scripts_help_names_every_parameter(workspace, capsys):
    for script, words in (("train", ("sampler.explore", "supernet.bias_slicing")), ("search", ("evolution.parents", "floor"))):
        SCRIPTS[script].main(["--help"])
        text = capsys.readouterr().out
        assert all(word in text for word in words)


def test_a_sampler_of_another_space_is_refused(workspace):
    everything()
    params = search.main.configure(["scale=smoke", "dataset=digits", "seed=0"]).supernet
    net = experiment.load_supernet(
        Path("runs/focusformer/supernets/smoke/digits/focus/0/supernet.safetensors"), params, torch.Size([1, 8, 8]), 10,
        torch.device("cpu"),
    )  # fmt: skip
    params.budgets = [0.2, 0.5]
    with pytest.raises(experiment.StageError, match="another sampler"):
        experiment.load_sampler(Path("runs/focusformer/supernets/smoke/digits/focus/0/sampler.safetensors"), params, net)
