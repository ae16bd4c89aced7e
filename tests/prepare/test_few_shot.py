"""Sets divided by classes: prepared sets divided anew, glyphs, and the publishers' layouts with what they refuse."""

from __future__ import annotations

import io
import pickle
import shutil
from pathlib import Path

import numpy
import pytest
import yaml
from PIL import Image

from stages.lib import artifacts, episodes
from stages.prepare import few_shot, few_shot_files, few_shot_glyphs, mnist, tiny_imagenet

ROOT = Path(__file__).parents[2]
REAL = ROOT / "../shared/data"
SPLITS = ("train", "val", "test")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A root with params."""
    shutil.copytree(ROOT / "params/dataset", tmp_path / "params/dataset")
    shutil.copy(ROOT / "params/config.yaml", tmp_path / "params/config.yaml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fails(capsys, stage, *arguments: str) -> str:
    """Run a stage, expect status 1 and one line; return it. Nothing may have been prepared."""
    before = set(Path("runs").rglob("manifest.json"))
    with pytest.raises(SystemExit) as end:
        stage.main(list(arguments))
    err = capsys.readouterr().err
    assert end.value.code == 1 and err.startswith("error: ") and err.count("\n") == 1, err
    assert set(Path("runs").rglob("manifest.json")) <= before
    return err


# --- a prepared set, divided anew -----------------------------------------------------------------


def pooled(count: int = 6, source: str = "sample") -> None:
    """A prepared set of `count` classes called 0, 1, ... whose images are constant: their class plus ten times their number."""
    paths = []
    for number, split in enumerate(SPLITS):
        y = numpy.tile(numpy.arange(count), 3)
        x = (y + 10 * (numpy.arange(len(y)) // count + 3 * number))[:, None, None, None] * numpy.ones((1, 1, 4, 4))
        paths.append(Path(f"runs/prepare/mnist/{split}.npz"))
        artifacts.write_npz(paths[-1], x=x.astype(numpy.uint8), y=y)
    about = {"classes": list(map(str, range(count))), "source": source, "files": "embedded sample"}
    artifacts.write_manifest("runs/prepare/mnist/manifest.json", outputs=paths, **about)


LISTS = "{train: ['5', '0'], val: ['2'], test: ['1', '3']}"


def test_all_images_of_a_class_go_where_it_is_listed(project):
    pooled()
    few_shot.main(["dataset=mnist_fs", f"params.classes.sample={LISTS}", "params.limit={train: null, val: 2, test: null}"])
    about = artifacts.verify_manifest("runs/prepare/mnist_fs/manifest.json")
    assert about["counts"] == {"train": 18, "val": 2, "test": 18} and about["classes"] == ["5", "0", "2", "1", "3"]
    x, y = artifacts.read_npz("runs/prepare/mnist_fs/train.npz", "x", "y")
    assert sorted(x[y == 0][:, 0, 0, 0].tolist()) == [5 + 10 * i for i in range(9)]
    found = episodes.load("mnist_fs", "test")
    assert found.classes == ("1", "3") and found.source == "sample"


def test_without_lists_shares_follow_the_order_of_classes(project):
    pooled(source="publisher")
    few_shot.main(["dataset=tiny_imagenet_fs", "params.of=mnist", "params.shares={train: 0.5, val: 0.2}"])
    about = artifacts.read_json("runs/prepare/tiny_imagenet_fs/manifest.json")
    assert about["class_split"] == {"train": ["0", "1", "2"], "val": ["3"], "test": ["4", "5"]}


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("params.classes.sample={train: ['0'], val: ['0'], test: ['1']}", "class 0 stands in train and val"),
        ("params.classes.sample={train: ['0'], val: ['7'], test: ['1']}", "mnist has no class 7"),
        ("params.classes.sample={train: ['0'], val: [], test: ['2']}", "val: no class"),
        ("params.shares={train: 0.5, val: 0.5}", "together below 1"),
        ("params.limit={train: 0, val: 1, test: 1}", "limit.train=0"),
        ("params.of=nothing", "runs/prepare/nothing/manifest.json"),
    ],
)
def test_impossible_divisions(project, capsys, word, said):
    pooled()
    words = [word] if "classes" in word else [word, f"params.classes.sample={LISTS}"]
    assert said in fails(capsys, few_shot, "dataset=mnist_fs", *words)


def test_a_truncated_prepared_set_is_refused(project, capsys):
    pooled()
    path = Path("runs/prepare/mnist/val.npz")
    path.write_bytes(path.read_bytes()[:-10])
    assert "val.npz" in fails(capsys, few_shot, "dataset=mnist_fs", f"params.classes.sample={LISTS}")


@pytest.mark.skipif(not (REAL / "mnist/MNIST").is_dir(), reason="needs ../shared/data/mnist")
@pytest.mark.slow
def test_novel_classes_of_the_publishers_mnist(project):
    (project / "data/publisher/mnist").mkdir(parents=True)
    (project / "data/publisher/mnist/MNIST").symlink_to((REAL / "mnist/MNIST").resolve())
    mnist.main(["source=publisher", "params.limit={train: 2000, val: 500, test: 500}"])
    few_shot.main(["dataset=mnist_fs"])
    about = artifacts.read_json("runs/prepare/mnist_fs/manifest.json")
    assert about["files"] == "official" and about["class_split"]["test"] == ["7", "8", "9"]
    assert episodes.load("mnist_fs", "test").x.shape[1:] == (1, 28, 28)


@pytest.mark.skipif(not (REAL / "tiny-imagenet").is_dir(), reason="needs ../shared/data/tiny-imagenet")
@pytest.mark.slow
def test_novel_classes_of_the_publishers_tiny_imagenet(project):
    (project / "data/publisher").mkdir(parents=True)
    (project / "data/publisher/tiny_imagenet").symlink_to((REAL / "tiny-imagenet").resolve())
    tiny_imagenet.main(["image_source=publisher"])
    few_shot.main(["dataset=tiny_imagenet_fs"])
    about = artifacts.read_json("runs/prepare/tiny_imagenet_fs/manifest.json")
    assert [len(about["class_split"][split]) for split in SPLITS] == [10, 5, 5] and about["source"] == "publisher"
    assert about["counts"] == {"train": 1300, "val": 650, "test": 650}


# --- glyphs ---------------------------------------------------------------------------------------


def test_glyphs_are_the_same_again_and_other_seeds_give_others(project):
    words = ["params.classes={train: 3, val: 2, test: 2}", "params.images=20"]
    made = []
    for seed in (1, 1, 2):
        few_shot_glyphs.main([*words, f"params.seed={seed}"])
        made.append(Path("runs/prepare/glyphs/test.npz").read_bytes())
    assert made[0] == made[1] != made[2]
    found = episodes.load("glyphs", "train")
    assert found.x.shape == (60, 1, 16, 16)
    centres = found.x.view(3, 20, -1).mean(1)
    near = (found.x.flatten(1)[:, None] - centres).square().sum(2).argmin(1)
    assert (near == found.y).float().mean() > 0.8


def test_a_pattern_that_is_not_moved_stays(project):
    pattern = numpy.random.RandomState(0).normal(size=(8, 8))
    still, shifted = (few_shot_glyphs.moved(pattern, numpy.full((2, 1, 1, 1), s), numpy.zeros((1, 1, 1))) for s in (0.0, 3.0))
    assert numpy.allclose(still[0], pattern) and numpy.allclose(shifted[0], numpy.roll(pattern, (3, 3), (0, 1)))


@pytest.mark.parametrize(
    "word", ["params.images=0", "params.noise=nan", "params.classes={train: 3, val: 0, test: 2}", "params.side=2"]
)
def test_impossible_glyphs(project, capsys, word):
    fails(capsys, few_shot_glyphs, word)


# --- the publishers' layouts ----------------------------------------------------------------------


def encoded(seed: int, kind: str = "PNG", size: tuple[int, int] = (12, 10)) -> bytes:
    buffer = io.BytesIO()
    pixels = numpy.random.RandomState(seed).randint(0, 256, (*size[::-1], 3)).astype(numpy.uint8)
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def write(path: Path, content: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


CLASSES = {"train": ["a", "b"], "val": ["c"], "test": ["d", "e"]}


def csv_set(root: Path) -> None:
    for split, names in CLASSES.items():
        lines = ["filename,label"]
        for name in names:
            for i in range(3):
                lines.append(f"{name}{i}.jpg,{name}")
                write(root / f"images/{name}{i}.jpg", encoded(ord(name) * 10 + i, "JPEG"))
        write(root / f"{split}.csv", "\n".join(lines) + "\n")


def pickled_set(root: Path) -> None:
    for split, names in CLASSES.items():
        images = [numpy.frombuffer(encoded(ord(name) * 10 + i), numpy.uint8).reshape(-1, 1) for name in names for i in range(3)]
        labels = {"label_specific": numpy.repeat(numpy.arange(len(names)), 3), "label_specific_str": names}
        write(root / f"{split}_images_png.pkl", pickle.dumps(images, protocol=2))
        write(root / f"{split}_labels.pkl", pickle.dumps(labels, protocol=2))


def cub_set(root: Path) -> None:
    names = [f"{number:03d}.bird" for number in range(1, 9)]
    files = [f"{name}/{i}.jpg" for name in names for i in range(3)]
    for number, file in enumerate(files):
        write(root / "images" / file, encoded(number, "JPEG"))
    write(root / "images.txt", "".join(f"{number} {file}\n" for number, file in enumerate(files, 1)))
    write(
        root / "image_class_labels.txt", "".join(f"{number} {(number - 1) // 3 + 1}\n" for number in range(1, len(files) + 1))
    )


def folder_set(root: Path) -> None:
    for split, names in CLASSES.items():
        write(root / f"splits/bertinetto/{split}.txt", "\n".join(names) + "\n")
        for name in names:
            for i in range(3):
                write(root / f"data/{name}/{i}.png", encoded(ord(name) * 10 + i))


MADE = {"mini_imagenet": csv_set, "tiered_imagenet": pickled_set, "cub": cub_set, "cifar_fs_png": folder_set}
WORDS = ["source=publisher", "params.resize=10", "params.size=8"]


def publisher(project: Path, dataset: str) -> Path:
    folder = yaml.safe_load((project / f"params/dataset/{dataset}.yaml").read_text())["folder"]
    root = project / "data/publisher" / dataset / folder
    MADE[dataset](root)
    return root


@pytest.mark.parametrize("dataset", MADE)
def test_layouts_are_read(project, dataset):
    publisher(project, dataset)
    few_shot_files.main([f"dataset={dataset}", *WORDS])
    about = artifacts.verify_manifest(f"runs/prepare/{dataset}/manifest.json")
    assert about["files"] == "re-made" and about["shape"] == [3, 8, 8]
    wanted = {"train": 4, "val": 2, "test": 2} if dataset == "cub" else {"train": 2, "val": 1, "test": 2}
    assert {split: len(names) for split, names in about["class_split"].items()} == wanted
    assert about["counts"] == {split: 3 * count for split, count in wanted.items()}
    if dataset == "cub":
        assert about["class_split"]["test"] == ["004.bird", "008.bird"]
    if dataset == "tiered_imagenet":
        x, y = artifacts.read_npz("runs/prepare/tiered_imagenet/test.npz", "x", "y")
        image = Image.open(io.BytesIO(encoded(ord("e") * 10 + 1)))
        assert numpy.array_equal(x[4], numpy.asarray(image.crop((2, 1, 10, 9))).transpose(2, 0, 1)) and y[4] == 1


def test_the_publishers_numbers_make_a_set_official(project):
    publisher(project, "cifar_fs_png")
    few_shot_files.main(["dataset=cifar_fs_png", *WORDS, "params.official={train: [2, 6], val: [1, 3], test: [2, 0]}"])
    assert artifacts.read_json("runs/prepare/cifar_fs_png/manifest.json")["files"] == "official"


def test_published_divisions_have_their_numbers_and_no_class_twice():
    for name, counts in (("mini_imagenet", [64, 16, 20]), ("cifar_fs", [64, 16, 20])):
        classes = yaml.safe_load((ROOT / f"params/dataset/{name}.yaml").read_text())["classes"]
        classes = classes.get("publisher", classes)
        assert [len(classes[split]) for split in SPLITS] == counts
        episodes.check_classes(classes, name)


@pytest.mark.parametrize(
    ("dataset", "file", "content", "said"),
    [
        ("mini_imagenet", "val.csv", "name,label\n", "expected the header"),
        ("mini_imagenet", "val.csv", "filename,label\n", "lists no image"),
        ("mini_imagenet", "val.csv", "filename,label\n../c0.jpg,c\n", "no plain file name"),
        ("mini_imagenet", "val.csv", "filename,label\nc0.jpg,c\nc0.jpg,c\n", "a second time"),
        ("mini_imagenet", "val.csv", "filename,label\nc9.jpg,c\n", "c9.jpg: not found"),
        ("mini_imagenet", "val.csv", "filename,label\nc0.jpg,a\n", "class a stands in train and val"),
        ("mini_imagenet", "images/c0.jpg", b"\xff\xd8broken", "c0.jpg"),
        ("tiered_imagenet", "val_labels.pkl", pickle.dumps({"label_specific": numpy.arange(3)}, protocol=2), "lacks label_specific_str"),
        ("tiered_imagenet", "val_labels.pkl", pickle.dumps({"label_specific": numpy.arange(3), "label_specific_str": ["c"]}, 2), "whole numbers 0 to 0"),
        ("tiered_imagenet", "val_labels.pkl", pickle.dumps({"label_specific": numpy.zeros(2, int), "label_specific_str": ["c"]}, 2), "2 labels for 3"),
        ("tiered_imagenet", "val_images_png.pkl", pickle.dumps(Path), "it asks for pathlib.Path"),
        ("tiered_imagenet", "val_images_png.pkl", b"\x80\x02cut", "not a pickle of tiered-ImageNet or cut short"),
        ("tiered_imagenet", "val_images_png.pkl", pickle.dumps({"a": 1}), "expected a list"),
        ("cub", "images.txt", "1 001.bird/0.jpg\n1 002.bird/0.jpg\n", "line 2"),
        ("cub", "image_class_labels.txt", "1 1\n", "not in both"),
        ("cifar_fs_png", "splits/bertinetto/val.txt", "c\nz\n", "no image (.png)"),
        ("cifar_fs_png", "splits/bertinetto/val.txt", "c\n../a\n", "no plain file name"),
        ("cifar_fs_png", "splits/bertinetto/val.txt", "c\nd\n", "class d stands in val and test"),
    ],
)  # fmt: skip
def test_damaged_sets_are_one_line(project, capsys, dataset, file, content, said):
    root = publisher(project, dataset)
    write(root / file, content)
    assert said in fails(capsys, few_shot_files, f"dataset={dataset}", *WORDS)


@pytest.mark.parametrize(
    ("word", "said"),
    [("params.layout=zip", "expected csv"), ("params.size=11", "1 to resize=10"), ("params.max_bytes=9", "at most 9"),
     ("source=sample", "not found"), ("params.max_pixels=9", "at most 9")],
)  # fmt: skip
def test_impossible_settings_of_a_layout(project, capsys, word, said):
    publisher(project, "cifar_fs_png")
    words = [item for item in WORDS if item.partition("=")[0] != word.partition("=")[0]]
    assert said in fails(capsys, few_shot_files, "dataset=cifar_fs_png", *words, word)
