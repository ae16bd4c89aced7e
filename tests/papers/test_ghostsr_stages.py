"""GhostSR's stage scripts at the smoke scale, in a folder of their own: outputs, wrong input, the paper's settings."""

import os
import shutil
from pathlib import Path

import numpy
import pytest
import torch
import yaml

from stages.lib import artifacts
from stages.lib.restoration import degrade, quality, sets
from stages.papers.ghostsr import audit, evaluate, figures, finetune, folders, measure, pretrain, saved, shakedown
from stages.papers.ghostsr.arms import TRAINED
from stages.report import schema
from tests.papers.prepared import outputs, refusal

ROOT = Path(__file__).parents[2]
SCRIPTS = {"pretrain": pretrain, "finetune": finetune, "evaluate": evaluate}
SIDE = 48
torch.set_num_threads(1)


def photograph(seed: int, side: int) -> numpy.ndarray:
    """Smooth colours with a few edges, uint8 [side, side, 3]."""
    random = numpy.random.RandomState(seed)
    y, x = numpy.mgrid[:side, :side] / side
    waves = [numpy.sin(random.uniform(2, 9) * x + random.uniform(2, 9) * y + random.uniform(0, 6)) for _ in range(3)]
    image = numpy.stack(waves, -1) * 60 + 120 + 50 * (x > random.uniform(0.2, 0.8))[..., None]
    return image.clip(0, 255).astype(numpy.uint8)


def prepare(name: str, splits: dict[str, dict[str, list[numpy.ndarray]]]) -> None:
    """A prepared set of photographs: splits, their groups, their images."""
    folder, lines, made = Path("runs/prepare", name), [",".join(sets.COLUMNS)], []
    folder.mkdir(parents=True, exist_ok=True)
    for split, groups in splits.items():
        offset = 0
        for group, images in groups.items():
            for i, image in enumerate(images):
                lines.append(f"{split},{group},{group}{i},clean,{image.shape[0]},{image.shape[1]},{offset}")
                offset += image.size
        numpy.save(folder / f"{split}.npy", numpy.concatenate([one.ravel() for images in groups.values() for one in images]))
        made.append(folder / f"{split}.npy")
    (folder / "index.csv").write_text("\n".join(lines) + "\n")
    artifacts.write_manifest(
        folder / "manifest.json", outputs=[*made, folder / "index.csv"], dataset=name, source="sample", files="embedded sample"
    )


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params and both sets prepared, which is also the current folder."""
    shutil.copytree(ROOT / "params", tmp_path / "params")
    monkeypatch.chdir(tmp_path)
    some = [photograph(i, SIDE) for i in range(8)]
    prepare("div2k", {"train": {"DIV2K": some[:3]}, "val": {"DIV2K": some[3:4]}, "test": {"DIV2K": some[4:5]}})
    prepare("benchmarks", {"test": {"Set5": some[5:7], "Set14": some[7:8]}})
    return tmp_path


def run(script: str, *more: str, seed: int = 0) -> None:
    SCRIPTS[script].main(["scale=smoke", f"seed={seed}", *more])


def everything(*more: str, seed: int = 0) -> None:
    for script in SCRIPTS:
        run(script, *(word for word in more if script != "pretrain" or not word.startswith("arms=")), seed=seed)


def rows(seed: int = 0) -> dict[tuple[str, int, str], float]:
    content = artifacts.read_json(folders.metrics("smoke", seed))
    return {(row["arm"], row["seed"], row["metric"]): row["value"] for row in content["rows"]}


def refused(capsys: pytest.CaptureFixture, script: str, *more: str) -> str:
    return refusal(capsys, lambda: run(script, *more))


# --- what comes out -------------------------------------------------------------------------------


def test_all_arms_go_through_and_give_the_same_bytes_again(workspace):
    everything()
    first, found = outputs("runs/ghostsr"), rows()
    folder = folders.folder("evaluated", "smoke", 0)
    for stage in ("pretrained", "nets", "evaluated"):
        folders.verified(folders.folder(stage, "smoke", 0))
    split = sets.load("benchmarks", "test")
    options = evaluate.main.configure(["scale=smoke", "seed=0"]).params
    pairs = measure.test_pairs(split, 2, options)
    for arm in TRAINED:
        own = [found[arm, 0, f"psnr_{name}"] for name in ("Set5", "Set14")]
        assert found[arm, 0, "psnr"] == pytest.approx((2 * own[0] + own[1]) / 3)
    net, form = saved.load(folder / "ghost.safetensors")
    assert form.name == "sliced"
    values, _ = measure.figures(net, pairs, 2, options, torch.device("cpu"))
    assert values["psnr"] == found["ghost", 0, "psnr"] and values["ssim"] == found["ghost", 0, "ssim"]
    for metric in ("parameters", "macs", "layer_macs"):
        assert found["ghost", 0, metric] == found["narrow", 0, metric] < found["full", 0, metric]
    assert found["ghost", 0, "layer_macs"] == found["full", 0, "layer_macs"] / 2
    assert found["copy", 0, "off_centre"] == 0.0 and found["drawn", 0, "moved"] == 0.0
    for claim in schema.parse(yaml.safe_load((ROOT / "params/ghostsr/claim.yaml").read_text()), "claim.yaml").claims:
        for arm in (claim.method_arm, claim.baseline_arm):
            assert (arm, 0, claim.metric) in found
    everything()
    assert outputs("runs/ghostsr") == first and not list(Path("runs").rglob("*.state"))


@pytest.mark.slow
def test_figures_are_drawn_alike(workspace):
    everything("arms=[full,ghost,copy,narrow]")
    drawn = []
    for _ in range(2):
        figures.main(["scale=smoke", "seeds=[0]"])
        drawn.append(
            [
                (figures.REPORTS / f"{name}-smoke.{kind}").read_bytes()
                for name in ("pictures", "gaps")
                for kind in ("png", "svg")
            ]
        )
    assert drawn[0] == drawn[1]


def test_bicubic_row_is_the_rounded_bicubic_image(workspace):
    everything("arms=[full,ghost,copy,narrow,drawn]")
    pairs = sets.load("benchmarks", "test").scaled_pairs(2)
    own = [
        quality.measure(degrade.upscale(sets.tensor(pair.corrupted), 2, quantise=True), sets.tensor(pair.clean), 2)["psnr"]
        for pair in pairs
    ]
    assert rows()["bicubic", 0, "psnr"] == pytest.approx(sum(own) / len(own))
    assert rows()["ghost", 0, "psnr_before"] != rows()["random", 0, "psnr_before"]
    run("evaluate", "arms=[full,ghost,copy,narrow,drawn]", "params.groups=[Set14]")
    assert ("ghost", 0, "psnr_Set5") not in rows() and rows()["ghost", 0, "psnr"] == rows()["ghost", 0, "psnr_Set14"]
    test = rows()["ghost", 0, "psnr"]
    run("evaluate", "arms=[full,ghost,copy,narrow,drawn]", "eval_split=val")
    assert rows()["ghost", 0, "psnr"] != test and ("ghost", 0, "psnr_DIV2K") in rows()


@pytest.mark.slow
def test_repetitions_are_the_single_ones(workspace):
    everything("repeats=2", "arms=[ghost,narrow]", seed=1)
    together = rows(1)
    everything("arms=[ghost,narrow]", seed=2)
    assert rows(2) == {key: value for key, value in together.items() if key[1] == 2} and len(together) == 2 * len(rows(2))


def test_tiles_and_ensemble_of_an_equivariant_function(workspace):
    options = evaluate.main.configure(["scale=smoke", "seed=0", "params.crop=0"]).params
    low = sets.tensor(sets.load("benchmarks", "test").scaled_pairs(2)[0].corrupted)

    class Smooth(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return degrade.upscale(x, 2)

    net = Smooth()
    whole = measure.enlarged(net, low, 2, options)
    options.ensemble = True
    assert torch.allclose(measure.enlarged(net, low, 2, options), whole, atol=1e-3)
    options.ensemble, options.tile, options.margin = False, 16, 4
    assert torch.allclose(measure.enlarged(net, low, 2, options), whole, atol=1e-3)


def test_a_central_part_is_cut_alike_from_both_images():
    pair = sets.scaled_pair(sets.Photograph("one", photograph(1, 40)), 2)
    part = measure.central(pair, 8)
    assert part.corrupted.shape == (8, 8, 3) and numpy.array_equal(part.clean, pair.clean[12:28, 12:28])
    assert measure.central(pair, 0) is pair and measure.central(pair, 99).clean.shape == pair.clean.shape


# --- the shipped settings -------------------------------------------------------------------------


@pytest.mark.parametrize("scale", ["smoke", "small", "medium", "paper"])
def test_settings_compose(monkeypatch, scale):
    monkeypatch.chdir(ROOT)
    found = {name: script.main.configure([f"scale={scale}", "seed=0"]) for name, script in SCRIPTS.items()}
    claims = schema.parse(yaml.safe_load((ROOT / "params/ghostsr/claim.yaml").read_text()), "claim.yaml").claims
    for claim in claims:
        if scale in claim.scales and claim.metric in ("psnr", "ssim"):
            trained = {*found["evaluate"].arms, "bicubic"}
            assert {claim.method_arm, claim.baseline_arm} <= trained


def test_paper_scale_has_the_official_recipe(monkeypatch):
    monkeypatch.chdir(ROOT)
    found = finetune.main.configure(["scale=paper", "seed=0"])
    assert (found.net.features, found.net.blocks, found.net.res_scale) == (256, 32, 0.1) and not found.net.bicubic_skip
    recipe, ghost = found.pretrain, found.ghost
    assert (recipe.batch, recipe.patch * found.net.factor, recipe.lr, recipe.clip) == (16, 192, 1e-4, 0.0)
    assert recipe.steps == 6000 * 800 // 16 and recipe.milestones == [pytest.approx(4000 / 6000)]
    assert (ghost.ratio, ghost.radius, ghost.logit_rate, ghost.noise_decay, ghost.noise_epochs) == (0.5, 1, 1.0, 0.97, 6000)
    from stages.papers.ghostsr.training import rate

    assert [rate(recipe)(step) for step in (0, 199999, 200000)] == [1e-4, 1e-4, 5e-5]


@pytest.mark.slow
def test_audit_agrees_to_the_digit(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(audit, "CSV", tmp_path / "audit.csv")
    audit.main([])
    lines = (tmp_path / "audit.csv").read_text().splitlines()
    wrong = [line for line in lines[1:] if ",True," not in line]
    assert len(lines) == 1 + 11 * 2 + 10 * 2 + 11 and len(wrong) == 1 and "first version" in wrong[0]


def test_audit_rows_of_the_smallest_net(monkeypatch):
    monkeypatch.chdir(ROOT)
    params = audit.main.configure([]).params
    found = audit.sizes(params.nets["IMDN x4"].net, params)
    assert all(row["ok"] for row in audit.net_rows("IMDN x4", params.nets["IMDN x4"], found))
    cut = audit.Printed("IMDN x4", True, "parameter_cut", 1 - 417552 / 715176, 0.0, "test")
    assert audit.printed_row(cut, {"IMDN x4": found})["ok"]
    with pytest.raises(audit.StageError, match="unknown net or quantity"):
        audit.printed_row(audit.Printed("IMDN x4", True, "latency", 1.0, 0.0, "test"), {"IMDN x4": found})


@pytest.mark.slow
def test_shakedown_of_a_net(workspace):
    shutil.copytree(ROOT / "params", "params", dirs_exist_ok=True)
    config = shakedown.main.configure(["threads=1", "device=cpu", "finetune.patch=24"])
    facts = shakedown.shake("IMDN x2", config, torch.device("cpu"))
    assert facts["converted_layers"] == 24 and facts["parameters"] == 396780 - 24 * 9


# --- wrong input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("script", "word", "said"), [
    ("pretrain", "net.name=vdsr", "expected one of edsr, rdn, carn, imdn"),
    ("pretrain", "net.factor=5", "expected one of 2, 3, 4"),
    ("pretrain", "params.patch=30", "smaller than a patch of 30"),
    ("pretrain", "params.steps=7", "multiple of epoch"),
    ("pretrain", "params.lr=1e30", "not finite"),
    ("pretrain", "params.lr=nan", "params.recipe.lr"),
    ("pretrain", "params.milestones=[2]", "ascending shares"),
    ("pretrain", "params.warmup=12", "fewer than steps"),
    ("pretrain", "params.nonsense=1", "nonsense"),
    ("pretrain", "repeats=0", "repeats=0"),
    ("finetune", "arms=[wide]", "there is no arm wide"),
    ("finetune", "ghost.ratio=0", "ghost.ratio"),
    ("finetune", "ghost.noise_decay=1.5", "noise_decay"),
    ("finetune", "arms=[ghost]", "run the stage that makes it"),
    ("evaluate", "params.crop=-1", "evaluate.crop"),
    ("evaluate", "params.tile=8", "tile"),
])  # fmt: skip
def test_impossible_settings(workspace, capsys, script, word, said):
    more = ["params.margin=4"] if word == "params.tile=8" else []
    assert said in refused(capsys, script, word, *more)


def test_files_of_another_net_are_refused(workspace, capsys):
    run("pretrain")
    assert "another net" in refused(capsys, "finetune", "net.blocks=3", "arms=[ghost]")
    assert "edsr only" in refused(capsys, "finetune", "net.name=imdn", "arms=[narrow]")
    run("finetune", "arms=[full,ghost,drawn]")
    assert "another net" in refused(capsys, "evaluate", "arms=[ghost]", "ghost.ratio=0.25")
    assert "has no set Urban100" in refused(capsys, "evaluate", "arms=[ghost]", "params.groups=[Urban100]")
    for place in ("pretrained/smoke/0/full", "nets/smoke/0/ghost"):
        path = Path(f"runs/ghostsr/{place}.safetensors")
        whole = path.read_bytes()
        path.write_bytes(whole[:-100])
        assert str(path) in refused(capsys, "evaluate", "arms=[ghost]")
        path.write_bytes(whole)


def test_photographs_that_are_missing_or_damaged(workspace, capsys):
    path = Path("runs/prepare/div2k/train.npy")
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    assert "train.npy" in refused(capsys, "pretrain")
    os.remove(path)
    assert "train.npy" in refused(capsys, "pretrain")
    path.write_bytes(whole)
    run("pretrain")
    Path("runs/prepare/div2k/index.csv").write_text("other\n")
    assert "index.csv" in refused(capsys, "finetune", "arms=[ghost]")


def test_every_file_that_a_stage_reads_is_checked(workspace, capsys):
    """Cut short, changed at its end, emptied or gone: one line that names it, or the manifest that has its hash."""
    words = ("arms=[full,ghost]",)
    everything(*words)
    nets, prepared = Path("runs/ghostsr"), Path("runs/prepare")
    inputs = {
        "pretrain": (prepared / "div2k", ("index.csv", "train.npy", "manifest.json")),
        "finetune": (nets / "pretrained/smoke/0", ("full.safetensors", "manifest.json")),
        "evaluate": (nets / "nets/smoke/0", ("ghost.safetensors", "manifest.json")),
    }
    inputs["evaluate "] = (prepared / "benchmarks", ("index.csv", "test.npy", "manifest.json"))
    for script, (folder, names) in inputs.items():
        for path in (folder / name for name in names):
            whole = path.read_bytes()
            for damaged in (whole[: len(whole) // 2], whole[:-8] + b"\x01" * 8, b"", None):
                path.unlink()
                if damaged is not None:
                    path.write_bytes(damaged)
                own = () if script == "pretrain" else words
                assert path.name in refused(capsys, script.strip(), *own), (path, damaged)
            path.write_bytes(whole)


def test_pictures_of_damaged_or_missing_figures(workspace, capsys):
    everything("arms=[full,ghost]")
    for path in (folders.metrics("smoke", 0), folders.folder("evaluated", "smoke", 0) / "pictures.npz"):
        whole = path.read_bytes()
        for damaged in (whole[: len(whole) // 2], None):
            path.unlink()
            if damaged is not None:
                path.write_bytes(damaged)
            assert path.name in no_pictures(capsys, "seeds=[0]")
        path.write_bytes(whole)
    assert "seeds=[]" in no_pictures(capsys, "seeds=[]")
    assert "1/manifest.json" in no_pictures(capsys, "seeds=[0,1]")
    run("finetune", "arms=[ghost]")
    run("evaluate", "arms=[ghost]")
    assert "no arm full" in no_pictures(capsys, "seeds=[0]")


def no_pictures(capsys: pytest.CaptureFixture, *words: str) -> str:
    """The one line on stderr of the stage figures, which must fail and draw nothing."""
    with pytest.raises(SystemExit) as stopped:
        figures.main(["scale=smoke", *words])
    text = capsys.readouterr().err
    assert stopped.value.code == 1 and text.startswith("error: ") and text.count("\n") == 1, text
    assert not list(Path("reports").rglob("*.png"))
    return text


def test_an_image_no_multiple_of_the_factor_is_cut(workspace):
    odd = photograph(1, 49)[:, :47]
    pair = sets.scaled_pair(sets.Photograph("odd", odd), 4)
    assert pair.clean.shape == (48, 44, 3) and pair.corrupted.shape == (12, 11, 3)


def test_outputs_in_the_way(workspace, capsys):
    Path("runs/ghostsr").write_text("in the way")
    with pytest.raises(SystemExit) as stopped:
        run("pretrain")
    text = capsys.readouterr().err
    assert stopped.value.code == 1 and text.count("\n") == 1 and "runs/ghostsr" in text


def test_a_scripts_help_names_every_parameter(workspace, capsys):
    for script, words in (
        ("pretrain", ("milestones", "res_scale")),
        ("finetune", ("logit_rate",)),
        ("evaluate", ("ensemble",)),
    ):
        SCRIPTS[script].main(["--help"])
        text = capsys.readouterr().out
        assert all(word in text for word in words)


def test_a_killed_training_goes_on_to_the_same_bytes(workspace, monkeypatch):
    """The offsets' optimiser, noise and patches are restored with the weights."""
    from stages.lib import resume
    from stages.lib import training as loop

    run("pretrain")
    words = ("arms=[ghost]", "params.steps=6", "params.epoch=3")
    run("finetune", *words)
    wanted = outputs("runs/ghostsr")
    shutil.rmtree("runs/ghostsr/nets")
    kept = resume.Keeper.save

    def stop(self: resume.Keeper, run: loop.Run, now: bool = False) -> None:
        kept(self, run, now=True)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(resume.Keeper, "save", stop)
        with pytest.raises(SystemExit):
            run("finetune", *words)
    assert list(Path("runs").rglob("*.state"))
    run("finetune", *words)
    assert outputs("runs/ghostsr") == wanted and not list(Path("runs").rglob("*.state"))
