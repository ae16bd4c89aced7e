"""MILAN's stage scripts at the smoke scale: outputs, wrong input, the paper's settings."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml

from stages.lib import artifacts, data
from stages.papers.milan import (
    audit,
    checkpoint,
    convert,
    cost,
    evaluate,
    figures,
    pretrain,
    pretraining,
    scenes,
    shakedown,
    teach,
    transfer,
)
from stages.papers.milan.arms import ARMS, REFERENCE, TEACHERS
from stages.papers.milan.descent import LayerwiseAdamW, rate
from stages.papers.milan.encoder import Classifier, Encoder, restored
from stages.papers.milan.settings import Descent, Net
from stages.papers.milan.tower import Shape, Tower
from stages.report import schema
from tests.papers.prepared import Stages, digits, outputs, refusal, refuses_damage

ROOT = Path(__file__).parents[2]
RUNS = Path("runs/milan")
PLACE = "smoke/scenes/0"
STAGES = Stages("milan", teach=teach, pretrain=pretrain, evaluate=evaluate)
torch.set_num_threads(1)


def everything(*more: str, seed: int = 0) -> None:
    for script in ("teach", "pretrain", "evaluate"):
        STAGES.run(script, *more, dataset="scenes", seed=seed)


def refused(capsys: pytest.CaptureFixture, script: str, *more: str, **keys: object) -> str:
    return refusal(capsys, lambda: STAGES.run(script, *more, **{"dataset": "scenes", **keys}))


def rows(seed: int = 0) -> dict[tuple[str, int, str], float]:
    content = artifacts.read_json(RUNS / f"metrics/smoke/scenes/{seed}.json")
    return {(row["arm"], row["seed"], row["metric"]): row["value"] for row in content["rows"]}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with params and digits prepared, in which all stages have run."""
    folder = digits(tmp_path_factory.mktemp("milan"))
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


def test_every_arm_is_measured_and_every_claim_has_its_figures(workspace):
    found = rows()
    assert {arm for arm, *_ in found} == {*ARMS, REFERENCE}
    claims = schema.parse(yaml.safe_load((ROOT / "params/milan/claim.yaml").read_text()), "claim.yaml")
    assert set(claims.arms) == {*ARMS, REFERENCE}
    for claim in claims.claims:
        assert {(claim.method_arm, 0, claim.metric), (claim.baseline_arm, 0, claim.metric)} <= set(found)
    for arm in ARMS:
        assert all(0.0 <= found[arm, 0, name] <= 1.0 for name in ("fine_tuned", "probe_class", "probe_mean", "foreground_iou"))
    assert found["milan", 0, "decoder_macs"] == found["random_mask", 0, "decoder_macs"]
    assert (
        found["random_mask", 0, "decoder_macs"] < found["full_decoder", 0, "decoder_macs"] == found["pixels", 0, "decoder_macs"]
    )
    assert found["random_mask", 0, "visible_foreground"] == found["pixels", 0, "visible_foreground"]
    assert 0.0 < found[REFERENCE, 0, "attention_entropy"] < 1.0
    for kind in ("teachers", "students"):
        assert artifacts.verify_manifest(RUNS / kind / PLACE / "manifest.json")["inputs"]


def test_figures_are_those_of_the_saved_student(workspace):
    cfg = evaluate.main.configure(["scale=smoke", "dataset=scenes", "seed=0"])
    parts = scenes.divide(data.load("digits", "train"), cfg.images.originals)
    tested = scenes.compose(data.load("digits", "test"), cfg.params.tested, cfg.images, 0, "tested")
    labelled = scenes.compose(parts["labels"], cfg.params.labels, cfg.images, 0, "labels")
    path = RUNS / "students" / PLACE / "milan.safetensors"
    encoder = restored(*artifacts.load_tensors(path), cfg.student.net, tested.x.shape[1:], str(path))
    seen, asked = (transfer.features(encoder, one.x, torch.device("cpu")) for one in (labelled, tested))
    assert (
        transfer.probe(seen[:, 0], labelled.y, asked[:, 0], tested.y, cfg.params.probe_c) == rows()["milan", 0, "probe_class"]
    )


def test_the_same_bytes_again_and_only_the_evaluation_reads_the_tested_split(workspace):
    first = outputs(str(RUNS))
    for split in ("val", "test"):
        Path(f"runs/prepare/digits/{split}.npz").rename(f"{split}.npz")
    STAGES.run("teach", dataset="scenes")
    STAGES.run("pretrain", dataset="scenes")
    for split in ("val", "test"):
        Path(f"{split}.npz").rename(f"runs/prepare/digits/{split}.npz")
    STAGES.run("evaluate", dataset="scenes")
    assert outputs(str(RUNS)) == first and not list(Path("runs").rglob("*.state"))


def test_arms_share_initial_weights_and_a_teacher_alone_sets_the_target(workspace):
    """The arm without pre-training is the initial net; all other arms have left it, each for another place."""
    settings = pretrain.main.configure(["scale=smoke", "dataset=scenes", "seed=0"]).params
    tensors = {name: artifacts.load_tensors(RUNS / "students" / PLACE / f"{name}.safetensors")[0] for name in ARMS}
    fresh = pretraining.fresh_encoder(settings, torch.Size([1, 16, 16]), 0).state_dict()
    assert all(torch.equal(fresh[name], value) for name, value in tensors["none"].items())
    marks = {tuple(found["blocks.0.attention.qkv.weight"].flatten()[:8].tolist()) for found in tensors.values()}
    assert len(marks) == len(ARMS)


@pytest.mark.slow
def test_repetitions_are_the_single_ones(workspace):
    everything("repeats=2", seed=1)
    together = rows(1)
    everything(seed=2)
    alone = rows(2)
    assert alone == {key: value for key, value in together.items() if key[1] == 2} and len(together) == 2 * len(alone)


def test_pictures(workspace):
    drawn = []
    for _ in range(2):
        figures.main(["scale=smoke", "dataset=scenes", "seeds=[0]"])
        drawn.append(outputs("reports"))
    assert drawn[0] == drawn[1]
    assert {Path(name).name for name in drawn[0]} == {f"{a}-smoke.{b}" for a in ("scenes", "arms") for b in ("png", "svg")}


def test_a_clip_tower_from_disk_is_the_teacher(workspace, capsys):
    """Converted weights take the place of the trained teacher, and stay as they are."""
    cfg = teach.main.configure(["scale=smoke", "dataset=scenes", "seed=0"])
    torch.manual_seed(0)
    tower = Tower(Shape(16, 1, 4, 16, 2, 2, 12))
    torch.save({f"visual.{name}": value for name, value in tower.state_dict().items()}, "clip.pt")
    digest = artifacts.sha256(Path("clip.pt"))
    convert.main(["source=clip.pt", f"sha256={digest}", "folder=clip", "head_dim=8"])
    words = ("params.weights=clip", f"params.source_sha256={digest}")
    STAGES.run("teach", *words, dataset="scenes")
    found = checkpoint.load(RUNS / "teachers" / PLACE / "language.safetensors")
    assert all(torch.equal(value, tower.state_dict()[name]) for name, value in found.state_dict().items())
    assert found.shape.joint == cfg.params.joint
    assert "clip" in refused(capsys, "teach", *words, "params.joint=13")
    assert "convert that file" in refused(capsys, "teach", words[0], f"params.source_sha256={'0' * 64}")


# --- how it learns --------------------------------------------------------------------------------


def test_rate_starts_at_0_peaks_after_the_warm_up_and_ends_at_0():
    at = rate(Descent(400, 40.0, 4096, 2.4e-3, 0.05), 10)
    assert at(0) == 0.0 and at(400) == 2.4e-3 and at(4000) == pytest.approx(0.0, abs=1e-12)
    assert at(200) == pytest.approx(1.2e-3) and at(2200) == pytest.approx(1.2e-3)
    assert all(at(i) < at(i + 1) for i in range(400)) and all(at(i) > at(i + 1) for i in range(400, 3999))


def test_rates_fall_from_the_head_to_the_stem_and_vectors_do_not_decay():
    torch.manual_seed(0)
    net = Classifier(Encoder(Net(4, 16, 2, 2), torch.Size([1, 16, 16])), 10)
    optimiser = LayerwiseAdamW(net, 0.05, 0.5)
    assert optimiser.scales == [0.125, 0.25, 0.5, 1.0]
    assert {id(p) for p in optimiser.held} == {id(p) for p in net.parameters()}
    before = {name: value.clone() for name, value in net.named_parameters()}
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimiser.step(0.01)
    moved = {name: (before[name] - value).detach().abs().max() for name, value in net.named_parameters()}
    assert moved["head.bias"].item() == pytest.approx(0.01, rel=1e-3)
    assert moved["encoder.blocks.0.norm1.bias"].item() == pytest.approx(0.0025, rel=1e-3)


def test_extra_passes_cost_what_the_teacher_costs():
    cfg = pretrain.main.configure(["scale=smoke", "dataset=scenes", "seed=0"])
    net = cfg.teacher.net
    tower = Tower(Shape(16, 1, net.patch, net.width, net.depth, net.heads, cfg.teacher.joint))
    extra = pretraining.extra_epochs(cfg.params, cfg.teacher, torch.Size([1, 16, 16]), tower)
    asked = sum(part.macs for part in cost.tower(tower.shape))
    spent = asked * (3 * cfg.teacher.pairs * cfg.teacher.descent.epochs + cfg.params.scenes)
    one = sum(part.macs for part in cost.encoder(cfg.params.net, (1, 16, 16), 4))
    one += sum(part.macs for part in cost.decoder(cfg.params.decoder, cfg.params.net.width, 16, 4, 16, prompting=False))
    assert 3 * one * cfg.params.scenes * (extra - 1) < spent <= 3 * one * cfg.params.scenes * extra


# --- the shipped settings -------------------------------------------------------------------------


@pytest.mark.parametrize("scale", ["smoke", "small", "medium"])
def test_settings_compose_and_arms_of_the_claims_are_trained(monkeypatch, scale):
    monkeypatch.chdir(ROOT)
    cfg = evaluate.main.configure([f"scale={scale}", "dataset=scenes", "seed=0"])
    for script in (teach, pretrain):
        script.main.configure([f"scale={scale}", "dataset=scenes", "seed=0"])
    claims = schema.parse(yaml.safe_load((ROOT / "params/milan/claim.yaml").read_text()), "claim.yaml").claims
    wanted = {arm for claim in claims if scale in claim.scales for arm in (claim.method_arm, claim.baseline_arm)}
    assert wanted <= set(cfg.student.arms) and {"language", "image"} == set(TEACHERS)
    assert cfg.student.mask_ratio == 0.75 and cfg.student.average_targets == 1


def test_paper_scale_is_the_official_codes(monkeypatch):
    monkeypatch.chdir(ROOT)
    cfg = shakedown.main.configure(["threads=1", "device=cpu"])
    descent, recipe = cfg.student.descent, cfg.transfer.recipe
    assert (descent.epochs, descent.warmup, descent.batch, descent.lr) == (400, 40, 4096, 1.5e-4 * 4096 / 256)
    assert (descent.weight_decay, list(descent.betas), cfg.student.mask_ratio) == (0.05, [0.9, 0.95], 0.75)
    assert (recipe.epochs, recipe.batch, recipe.lr, recipe.lr_end, recipe.warmup) == (100, 1024, 1e-4 * 1024 / 256, 1e-6, 5)
    assert (recipe.mixup, recipe.cutmix, recipe.erase, recipe.smoothing) == (0.8, 1.0, 0.25, 0.1)
    assert (cfg.transfer.layer_decay, cfg.transfer.drop_path) == (0.65, 0.1)
    decoder = cfg.student.decoder
    assert (decoder.width, decoder.depth, decoder.heads, cfg.teacher.joint) == (512, 8, 16, 512)


def test_audit_agrees_to_the_digit(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(audit, "CSV", tmp_path / "audit.csv")
    audit.main([])
    lines = (tmp_path / "audit.csv").read_text().splitlines()
    assert len(lines) == 1 + 4 * 4 + 4 + 1 and all(",True," in line for line in lines[1:])


@pytest.mark.slow
def test_shakedown_of_the_real_nets(monkeypatch):
    monkeypatch.chdir(ROOT)
    facts = shakedown.shake(shakedown.main.configure(["threads=1", "device=cpu"]), torch.device("cpu"))
    assert (facts["teacher_parameters"], facts["encoder_parameters"]) == (86192640, 85647360)
    assert facts["targets"][1:] == [197, 512] and facts["fine_tuned"]["logits"] == [1, 1000]


# --- wrong input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("params.net.heads=3", "net.heads=3: expected a divisor"),
        ("params.net.patch=5", "do not tile"),
        ("params.net.depth=0", "net.depth=0"),
        ("params.temperature=0", "teacher.temperature=0"),
        ("params.descent.lr=nan", "descent.lr"),
        ("params.descent.lr=1e30", "not finite"),
        ("params.descent.warmup=3", "descent.warmup"),
        ("params.descent.betas=[0.9]", "descent.betas"),
        ("params.pairs=5", "too few"),
        ("params.views.shift=-1", "views.shift=-1"),
        ("params.weights=nowhere", "convert.py"),
        ("params.pair=5", "params.pair"),
        ("images.digit=17", "images.digit=17"),
        ("images.noise=-1", "images.noise"),
        ("images.originals.teacher=1000", "more than the 300 training images"),
        ("images.originals.teacher=9", "originals.teacher=9"),
        ("repeats=0", "repeats=0: expected 1 or more"),
    ],
)
def test_impossible_settings_of_the_teachers(workspace, capsys, word, said):
    assert said in refused(capsys, "teach", word)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("params.mask_ratio=1.0", "student.mask_ratio=1.0"),
        ("params.mask_ratio=0.99", "hides all of 16 patches"),
        ("params.average_targets=3", "average_targets=3: the teacher has 2 blocks"),
        ("params.arms=[milan,clip]", "there is no arm clip"),
        ("params.net.patch=8", "the teacher has 16 patches, the student 4"),
        ("params.decoder.heads=5", "decoder.heads=5"),
        ("params.pixel_lr=-1", "student.pixel_lr"),
        ("params.descent.epochs=0", "descent.epochs=0"),
        ("params.descent.lr=1e30", "not finite"),
        ("images.canvas=20", "patches"),
        ("repeats=2", "language-0.safetensors"),
    ],
)
def test_impossible_pretraining(workspace, capsys, word, said):
    assert said in refused(capsys, "pretrain", word)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("params.labels=9", "too few"),
        ("params.tested=0", "transfer.tested=0"),
        ("params.probe_c=0", "transfer.probe_c=0"),
        ("params.layer_decay=1.5", "transfer.layer_decay=1.5"),
        ("params.drop_path=1.0", "transfer.drop_path"),
        ("params.recipe.lr=1e30", "not finite"),
        ("params.recipe.epoch=2", "recipe.epoch"),
        ("student.net.depth=3", "holds another encoder"),
        ("eval_split=training", "training"),
        ("repeats=2", "language-0.safetensors"),
    ],
)
def test_impossible_evaluations(workspace, capsys, word, said):
    assert said in refused(capsys, "evaluate", word)


def test_a_data_set_without_settings(workspace, capsys):
    assert "no section 'digits" in refused(capsys, "teach", dataset="digits")


def test_inputs_that_are_missing_or_damaged(workspace, capsys):
    inputs = {
        "teach": ["runs/prepare/digits/train.npz", "runs/prepare/digits/manifest.json"],
        "pretrain": [
            "runs/prepare/digits/train.npz",
            f"{RUNS}/teachers/{PLACE}/manifest.json",
            *(f"{RUNS}/teachers/{PLACE}/{kind}.safetensors" for kind in TEACHERS),
        ],
        "evaluate": [
            "runs/prepare/digits/test.npz",
            f"{RUNS}/teachers/{PLACE}/language.safetensors",
            f"{RUNS}/students/{PLACE}/manifest.json",
            f"{RUNS}/students/{PLACE}/losses.json",
            *(f"{RUNS}/students/{PLACE}/{arm}.safetensors" for arm in ("milan", "none")),
        ],
    }
    for script, paths in inputs.items():
        for path in map(Path, paths):
            whole = path.read_bytes()
            for damaged in (whole[: len(whole) // 2], None):
                path.unlink(missing_ok=True)
                if damaged is not None:
                    path.write_bytes(damaged)
                assert path.name in refused(capsys, script), (path, damaged)
            path.write_bytes(whole)


def test_pictures_of_damaged_figures(workspace, capsys):
    paths = (RUNS / f"metrics/{PLACE}.json", RUNS / f"teachers/{PLACE}/language.safetensors")
    refuses_damage(capsys, lambda: figures.main(["scale=smoke", "dataset=scenes", "seeds=[0]"]), *paths)


def test_an_output_that_cannot_be_written(workspace, capsys):
    shutil.rmtree(RUNS)
    RUNS.write_text("in the way")
    assert "milan" in refused(capsys, "teach")


def test_help_names_every_parameter(capsys):
    for script, words in (
        (teach, ("views.shift", "images.noise")),
        (pretrain, ("average_targets", "pixel_normalise")),
        (evaluate, ("layer_decay", "recipe.mixup")),
        (convert, ("head_dim",)),
    ):
        script.main(["--help"])
        text = capsys.readouterr().out
        assert all(word in text for word in words)
