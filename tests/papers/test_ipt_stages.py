"""IPT's stage scripts at the smoke scale, in a folder of their own: outputs, wrong input, the paper's settings."""

import hashlib
import io
import shutil
from pathlib import Path

import numpy
import pytest
import torch
import yaml
from PIL import Image

from stages.lib import artifacts
from stages.lib.restoration import sets
from stages.papers.ipt import audit, experiment, figures, finetune, photographs, pretrain, scratch, shakedown
from stages.papers.ipt.arms import PRETRAINED, SCRATCH
from stages.report import schema
from tests.papers.prepared import outputs, refusal

ROOT = Path(__file__).parents[2]
SCRIPTS = {"pretrain": pretrain, "finetune": finetune, "scratch": scratch}
NAMES = [f"{number:04d}" for number in range(1, 11)]
torch.set_num_threads(1)


def picture(seed: int, side: int) -> numpy.ndarray:
    """Smooth colours and an edge, uint8 [side, side, 3]."""
    random = numpy.random.RandomState(seed)
    y, x = numpy.mgrid[:side, :side] / side
    waves = [numpy.sin(random.uniform(2, 9) * x + random.uniform(2, 9) * y) for _ in range(3)]
    return (numpy.stack(waves, -1) * 60 + 120 + 50 * (x > random.uniform(0.2, 0.8))[..., None]).clip(0, 255).astype(numpy.uint8)


def prepare(name: str, splits: dict[str, list[tuple[str, str, numpy.ndarray]]]) -> None:
    """A prepared set of photographs: (name, kind, image) by split."""
    folder, lines, made = Path("runs/prepare", name), [",".join(sets.COLUMNS)], []
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "val", "test"):
        offset, images = 0, splits.get(split, [])
        for title, kind, image in images:
            lines.append(f"{split},{name},{title},{kind},{image.shape[0]},{image.shape[1]},{offset}")
            offset += image.size
        pixels = [image.ravel() for _, _, image in images] or [numpy.empty(0, numpy.uint8)]
        numpy.save(folder / f"{split}.npy", numpy.concatenate(pixels))
        made.append(folder / f"{split}.npy")
    (folder / "index.csv").write_text("\n".join(lines) + "\n")
    made.append(folder / "index.csv")
    artifacts.write_manifest(folder / "manifest.json", outputs=made, dataset=name, source="sample", files="embedded sample")


def rained(title: str, seed: int) -> list[tuple[str, str, numpy.ndarray]]:
    """A clean image, its layer of rain, and both together."""
    clean, layer = picture(seed, 40), numpy.repeat(picture(seed + 50, 40)[..., :1] // 4, 3, 2)
    both = numpy.minimum(clean.astype(int) + layer, 255).astype(numpy.uint8)
    return [(title, "clean", clean), (title, "rainy", both), (title, "streaks", layer)]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params and the three sets prepared, which is also the current folder."""
    shutil.copytree(ROOT / "params", tmp_path / "params")
    monkeypatch.chdir(tmp_path)
    train = [(name, "clean", picture(seed, 50)) for seed, name in enumerate(NAMES)]
    prepare("div2k", {"train": train, "val": [(f"001{i}", "clean", picture(20 + i, 41)) for i in (1, 2)]})
    prepare("benchmarks", {"test": [(f"b{i}", "clean", picture(30 + i, 44)) for i in range(3)]})
    rain = {"train": [row for i in range(1, 6) for row in rained(str(i), i)], "val": rained("6", 6), "test": rained("001", 7)}
    prepare("rain", rain)
    return tmp_path


def run(script: str, *more: str, **keys: object) -> None:
    """Runs a stage script's main with command-line words."""
    words = {"scale": "smoke", "seed": 0, **({} if script == "scratch" else {"arm": "ipt"}), **keys}
    SCRIPTS[script].main([f"{key}={value}" for key, value in words.items()] + list(more))


def refused(capsys: pytest.CaptureFixture, script: str, *more: str, **keys: object) -> str:
    return refusal(capsys, lambda: run(script, *more, **keys))


def everything(*more: str, seed: int = 0) -> None:
    for arm in PRETRAINED:
        run("pretrain", *(word for word in more if "=" not in word or word.startswith("repeats")), arm=arm, seed=seed)
        run("finetune", *more, arm=arm, seed=seed)
    run("scratch", *more, seed=seed)


def rows(dataset: str, arm: str, seed: int = 0) -> dict[tuple[int, str], float]:
    content = artifacts.read_json(f"runs/ipt/metrics/smoke/{dataset}/{arm}/{seed}.json")
    return {(row["seed"], row["metric"]): row["value"] for row in content["rows"]}


# --- what comes out -------------------------------------------------------------------------------


def test_all_arms_go_through_and_figures_are_drawn(workspace, capsys):
    everything()
    claimed = schema.parse(yaml.safe_load((ROOT / "params/ipt/claim.yaml").read_text()), "claim.yaml")
    assert set(claimed.arms) == {*PRETRAINED, *SCRATCH, "input"}
    for claim in claimed.claims:
        for arm in (claim.method_arm, claim.baseline_arm):
            assert (0, claim.metric) in rows(claim.dataset, arm)
    for arm in claimed.arms:
        for metric in ("sr2", "denoise30", "denoise70"):
            assert ((0, f"psnr_{metric}") in rows("benchmarks", arm)) == (metric != "sr2" or arm != "dncnn_scratch")
        assert 0 < rows("rain", arm)[0, "ssim_derain"] <= 1
    assert all(value == 0 for (_, metric), value in rows("benchmarks", "input").items() if metric.startswith("gain"))
    found, plain = rows("benchmarks", "ipt"), rows("benchmarks", "input")
    assert found[0, "gain_sr2"] == pytest.approx(found[0, "psnr_sr2"] - plain[0, "psnr_sr2"])
    for folder in ("pretrain/smoke/ipt/0", "finetune/smoke/ipt_single/0", "scratch/smoke/0"):
        artifacts.verify_manifest(Path("runs/ipt", folder, "manifest.json"))
    pictures = [figures.REPORTS / f"{name}.{kind}" for name in ("pictures", "gains") for kind in ("png", "svg")]
    figures.main(["scales=[smoke]", "seeds=[0]"])
    assert all(path.stat().st_size > 1000 for path in pictures)
    for path in (Path("runs/ipt/scratch/smoke/0/images.npz"), Path("runs/ipt/metrics/smoke/rain/ipt/0.json")):
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        assert path.name in undrawn(capsys, "seeds=[0]")
        path.write_bytes(whole)
    assert "seeds=[]" in undrawn(capsys, "seeds=[]")
    assert "1/manifest.json" in undrawn(capsys, "seeds=[0,1]")


def undrawn(capsys, word: str) -> str:
    """The one line of the stage `figures` where it must fail."""
    with pytest.raises(SystemExit) as stopped:
        figures.main(["scales=[smoke]", word])
    text = capsys.readouterr().err
    assert stopped.value.code == 1 and text.startswith("error: ") and text.count("\n") == 1, text
    return text


@pytest.mark.slow
def test_the_same_bytes_again_and_repetitions_are_the_single_ones(workspace):
    run("pretrain")
    run("finetune")
    first = outputs("runs/ipt")
    run("pretrain")
    run("finetune")
    assert outputs("runs/ipt") == first and not list(Path("runs").rglob("*.state"))
    for script in ("pretrain", "finetune"):
        run(script, "repeats=2", seed=1)
        run(script, seed=2)
    together, alone = rows("benchmarks", "ipt", 1), rows("benchmarks", "ipt", 2)
    assert alone == {key: value for key, value in together.items() if key[0] == 2} and len(together) == 2 * len(alone)


@pytest.mark.slow
def test_drawings_have_the_same_bytes_again(workspace):
    everything()
    drawn = []
    for _ in range(2):
        figures.main(["scales=[smoke]", "seeds=[0]"])
        drawn.append({path.name: path.read_bytes() for path in figures.REPORTS.iterdir()})
    assert drawn[0] == drawn[1] and len(drawn[0]) == 4


def test_evaluation_split_is_a_setting(workspace):
    run("pretrain")
    run("finetune")
    tested = rows("benchmarks", "ipt"), rows("rain", "ipt")
    run("finetune", "eval_split=val")
    assert rows("benchmarks", "ipt") != tested[0] and rows("rain", "ipt") != tested[1]


def test_a_single_tasks_pretraining_leaves_the_other_heads_alone(workspace):
    run("pretrain", arm="ipt_single")
    cfg = pretrain.main.configure(["scale=smoke", "arm=ipt_single", "seed=0"])
    fresh = experiment.fresh(PRETRAINED["ipt_single"], cfg.params.tasks, cfg.net, cfg.peers, 0).state_dict()
    tensors, _ = artifacts.load_tensors("runs/ipt/pretrain/smoke/ipt_single/0/net.safetensors")
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        other = part in ("heads", "tails", "queries") and rest.split(".")[0] != "sr2"
        assert not other or torch.equal(value, fresh[name]), name


def test_pretraining_reads_imagenet_through_its_index(workspace, capsys):
    folder, lines = Path("data/sample/imagenet/train"), ["path,class,label,split,width,height,mode,format,bytes,sha256"]
    folder.mkdir(parents=True)
    for i, (mode, side) in enumerate((("RGB", 60), ("L", 20), ("CMYK", 49))):
        buffer = io.BytesIO()
        Image.fromarray(picture(i, side)).convert(mode).save(buffer, "JPEG")
        (folder / f"{i}.JPEG").write_bytes(buffer.getvalue())
        digest = hashlib.sha256(buffer.getvalue()).hexdigest()
        lines.append(
            f"train/{i}.JPEG,n1,0,{'val' if i else 'train'},{side},{side},{mode},JPEG,{len(buffer.getvalue())},{digest}"
        )
    index = Path("runs/prepare/imagenet/index.csv")
    index.parent.mkdir(parents=True)
    index.write_text("\n".join(lines) + "\n")
    about = {"classes": ["n1"], "index_sha256": artifacts.sha256(index), "root": "data/sample/imagenet", "source": "sample"}
    artifacts.write_manifest(index.with_name("manifest.json"), outputs=[index], **about)
    pool = photographs.pretraining("imagenet", [])
    assert len(pool) == 3 and [pool[i].pixels.shape for i in range(3)] == [(60, 60, 3), (20, 20, 3), (49, 49, 3)]
    run("pretrain", "params.source=imagenet", "params.photographs=[]")
    (folder / "1.JPEG").write_bytes(b"damaged")
    assert "1.JPEG" in refused(capsys, "pretrain", "params.source=imagenet", "params.recipe.steps=12", seed=1)


# --- the shipped settings -------------------------------------------------------------------------


@pytest.mark.parametrize("scale", ["smoke", "small", "medium"])
def test_settings_compose_and_trainings_see_different_photographs(monkeypatch, scale):
    monkeypatch.chdir(ROOT)
    found = finetune.main.configure([f"scale={scale}", "arm=ipt", "seed=0"])
    experiment.check_disjoint(found.pretrain, found.params)
    assert scratch.main.configure([f"scale={scale}", "seed=0"]).params == found.params
    long = experiment.target_recipe(SCRATCH["ipt_scratch_long"], found.pretrain, found.params)
    many, batch = len(found.params.targets), found.params.recipe.batch
    spent = found.pretrain.recipe.steps * found.pretrain.recipe.batch + many * found.params.recipe.steps * batch
    assert 0 <= many * long.steps * long.batch - spent < many * batch


def test_paper_scale_is_the_papers(monkeypatch):
    monkeypatch.chdir(ROOT)
    found = finetune.main.configure(["scale=paper", "arm=ipt", "seed=0"])
    recipe = found.pretrain.recipe
    assert recipe.steps == 300 * (1281167 // 256) and (recipe.batch, recipe.lr, recipe.clip) == (256, 5e-5, 1.0)
    assert (found.pretrain.contrastive.weight, found.pretrain.contrastive.tau, found.params.recipe.lr) == (0.1, 0.07, 2e-5)
    assert (found.measure.stride, found.measure.margin, found.net.input_skip, found.net.unit) == (12, 12, False, 1.0)
    experiment.check_disjoint(found.pretrain, found.params)  # rain: all of it in both, as in the paper


def test_audit_agrees_to_the_digit(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(audit, "CSV", tmp_path / "audit.csv")
    audit.main([])
    lines = (tmp_path / "audit.csv").read_text().splitlines()
    assert len(lines) == 1 + 6 + 1 + 4 + 11 + 2 + 2 and all(",True," in line for line in lines[1:])


@pytest.mark.slow
def test_shakedown(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(shakedown, "FACTS", tmp_path / "ipt.json")
    shakedown.main(["threads=1", "device=cpu", "net.layers=1"])
    facts = artifacts.read_json(tmp_path / "ipt.json")
    assert facts["finetuned"]["restored"] == [3, 122, 80] and len(facts["tasks_drawn"]) == 2


# --- wrong input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("arm=best", "choose one of ipt, ipt_plain"),
        ("net.patch_dim=5", "does not divide net.image"),
        ("net.heads=5", "does not divide a token's"),
        ("net.head_kernel=4", "expected an odd number"),
        ("net.positions=twice", "expected one of once, every, none"),
        ("net.init=zeros", "expected one of torch, mindspore"),
        ("net.unit=0", "net.unit=0"),
        ("params.tasks=[sr2,sr2]", "different tasks"),
        ("params.tasks=[sr5]", "expected sr2, sr3"),
        ("params.single=denoise70", "params.pretrain.single"),
        ("params.source=cifar10", "expected one of div2k, imagenet"),
        ("params.photographs=['0001']", "0001 in both"),
        ("params.photographs=[]", "all of them in one"),
        ("params.photographs=['0099']", "has no photograph 0099"),
        ("params.rain=['9']", "has no photograph 9"),
        ("params.recipe.lr=nan", "params.lr"),
        ("params.recipe.lr=1e30", "not finite"),
        ("params.recipe.schedule=linear", "expected one of step, cosine"),
        ("params.recipe.epochs=2", "params.recipe.epochs"),
        ("params.contrastive.tau=0", "contrastive.tau"),
        ("params.contrastive.form=both", "expected one of code, paper"),
        ("params.contrastive.max_tokens=1", "contrastive.max_tokens"),
        ("repeats=0", "repeats=0: expected 1 or more"),
    ],
)
def test_impossible_settings_of_pretraining(workspace, capsys, word, said):
    keys = {"arm": word.removeprefix("arm=")} if word.startswith("arm=") else {}
    assert said in refused(capsys, "pretrain", *([] if keys else [word]), **keys)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("params.targets=[]", "one or more different tasks"),
        ("params.targets=[{task: denoise30, start: sr2}]", "its scale differs"),
        ("params.targets=[{task: denoise30, start: denoise10}]", "denoise10"),
        ("measure.stride=0", "params.measure.stride=0"),
        ("measure.stride=9", "leave gaps"),
        ("measure.crop=12", "smaller than SSIM"),
        ("eval_split=train", "expected val or test"),
    ],
)
def test_impossible_settings_of_trials(workspace, capsys, word, said):
    assert said in refused(capsys, "scratch", word)


def test_finetuning_without_its_net_or_with_another(workspace, capsys):
    assert "manifest.json" in refused(capsys, "finetune")
    run("pretrain")
    assert "another net" in refused(capsys, "finetune", "net.layers=2")
    path = Path("runs/ipt/pretrain/smoke/ipt/0/net.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    assert str(path) in refused(capsys, "finetune")


@pytest.mark.parametrize("script", ["pretrain", "finetune", pytest.param("scratch", marks=pytest.mark.slow)])
def test_every_file_that_a_stage_declares_is_checked_before_it_trains(workspace, capsys, script):
    """Cut short, changed at its end or gone: one line that names it, or the manifest that holds its hash."""
    if script == "finetune":
        run("pretrain")
    declared = yaml.safe_load((ROOT / "stages/papers/ipt/dvc.yaml").read_text())["stages"][script]["deps"]
    # The validation split is another run's.
    read = [Path(dep) for dep in declared if dep.startswith("runs/prepare") and not dep.endswith("val.npy")]
    for path in [*read, *sorted(Path("runs/ipt").rglob("pretrain/*/*/*/*"))]:
        whole = path.read_bytes()
        for damaged in (whole[: len(whole) // 2], whole[:-8] + b"\x01" * 8, None):
            path.unlink()
            if damaged is not None:
                path.write_bytes(damaged)
            assert path.name in refused(capsys, script), (path, damaged)
            path.write_bytes(whole)
    assert not list(Path("runs").rglob("*.state"))


def test_photographs_smaller_than_a_patch_are_named_where_pairs_are_needed(workspace, capsys):
    prepare("div2k", {"train": [(name, "clean", picture(seed, 20)) for seed, name in enumerate(NAMES)]})
    run("pretrain")  # enlarged there, as the official code does
    assert "smaller than a patch" in refused(capsys, "scratch")


def test_help_names_every_parameter(workspace, capsys):
    for script, words in (("pretrain", ("contrastive.tau", "net.patch_dim")), ("scratch", ("measure.margin", "scratch_lr"))):
        SCRIPTS[script].main(["--help"])
        text = capsys.readouterr().out
        assert all(word in text for word in words)
