"""Tiny ImageNet's reader: layouts, splits, pixels, refusals."""

from __future__ import annotations

import csv
import io
import shutil
from pathlib import Path

import numpy
import pytest
from PIL import Image

from stages.lib import artifacts, data
from stages.prepare import image_samples, images, samples, tiny_imagenet

ROOT = Path(__file__).parents[2]
REAL = ROOT / "../shared/data/tiny-imagenet"
WNIDS = ["n02124075", "n01443537"]  # not in alphabetical order, as in the publisher's wnids.txt
PREPARED = Path("runs/prepare/tiny_imagenet")


@pytest.fixture(scope="module")
def embedded() -> dict[str, bytes]:
    """The embedded sample, by path."""
    return image_samples.tiny_imagenet(samples.photographs())


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A root with params."""
    shutil.copytree(ROOT / "params/dataset", tmp_path / "params/dataset")
    shutil.copy(ROOT / "params/config.yaml", tmp_path / "params/config.yaml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def photo(seed: int, size: int = 64, mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    pixels = numpy.random.RandomState(seed).randint(0, 256, (4, 4, 3)).astype(numpy.uint8)
    Image.fromarray(pixels).resize((size, size)).convert(mode).save(buffer, "JPEG")
    return buffer.getvalue()


def publisher(val: str = "flat") -> Path:
    """Two classes with 12 training and 2 validation images each."""
    files = {f"train/{wnid}/images/{wnid}_{i}.JPEG": photo(20 * k + i) for k, wnid in enumerate(WNIDS) for i in range(12)}
    for number in range(4):
        wnid = WNIDS[number % 2]
        folder = {"flat": "val/images", "folders": f"val/{wnid}", "deep": f"val/{wnid}/images"}[val]
        files[f"{folder}/val_{number}.JPEG"] = photo(100 + number)
    lines = [f"val_{number}.JPEG\t{WNIDS[number % 2]}\t0\t0\t63\t63\n" for number in range(4)]
    files |= {"wnids.txt": "\n".join(WNIDS).encode(), "val/val_annotations.txt": "".join(lines).encode()}
    files["words.txt"] = b"n01443537\tgoldfish, Carassius auratus\nn02124075\tEgyptian cat\nn00000001\tother\n"
    files["train/n01443537/n01443537_boxes.txt"] = b"n01443537_0.JPEG\t0\t0\t1\t1\n"
    return write(Path("data/publisher/tiny_imagenet/tiny-imagenet-200"), files)


def manifest() -> dict:
    return artifacts.verify_manifest(PREPARED / "manifest.json")


def fails(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        tiny_imagenet.main(["image_source=publisher", *arguments])
    err = capsys.readouterr().err
    assert end.value.code == 1
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert not (PREPARED / "manifest.json").exists()
    return err


def test_the_sample_becomes_three_splits_and_an_index(project, embedded):
    write(Path("data/sample/tiny_imagenet/tiny-imagenet-200"), embedded)
    tiny_imagenet.main([])
    about = manifest()
    assert (about["files"], about["source"], len(about["classes"])) == ("embedded sample", "sample", 10)
    assert about["counts"] == {"train": 960, "val": 240, "test": 300}
    assert about["about"]["modes"] == {"L": 2, "RGB": 1498}
    assert artifacts.sha256(PREPARED / "index.csv") == about["index_sha256"]
    for name, count in about["counts"].items():
        split = data.load("tiny_imagenet", name)
        assert split.x.shape == (count, 3, 64, 64)
        assert split.y.bincount().tolist() == [count // 10] * 10
    first = {item.name: item.read_bytes() for item in PREPARED.iterdir()}
    tiny_imagenet.main(["threads=2"])
    assert {item.name: item.read_bytes() for item in PREPARED.iterdir()} == first


def test_the_samples_validation_images_come_from_cells_of_their_own(project, embedded):
    """The last by number are held out, and those the writer drew from other cells."""
    write(Path("data/sample/tiny_imagenet/tiny-imagenet-200"), embedded)
    tiny_imagenet.main([])
    with (PREPARED / "index.csv").open() as handle:
        rows = [row for row in csv.DictReader(handle) if row["split"] != "test"]
    for row in rows:
        number = int(row["path"].rsplit("_", 1)[1].split(".")[0])
        assert row["split"] == ("val" if number >= image_samples.TINY.train else "train")


@pytest.mark.parametrize("val", ["flat", "folders", "deep"])
def test_every_layout_gives_the_same_splits(project, val):
    publisher(val)
    tiny_imagenet.main(["image_source=publisher"])
    about = manifest()
    assert about["classes"] == sorted(WNIDS)
    assert about["words"] == {"n01443537": "goldfish, Carassius auratus", "n02124075": "Egyptian cat"}
    assert about["counts"] == {"train": 22, "val": 2, "test": 4}
    assert (about["files"], about["files_because"]) == (
        "subset",
        "2 classes, 24 + 4 images of 200 classes, 100000 + 10000",
    )
    x, y = artifacts.read_npz(PREPARED / "test.npz", "x", "y")
    found = {image.tobytes(): label for image, label in zip(x, y.tolist())}
    for number in range(4):
        pixels = numpy.asarray(Image.open(io.BytesIO(photo(100 + number)))).transpose(2, 0, 1)
        assert found[pixels.tobytes()] == sorted(WNIDS).index(WNIDS[number % 2])


def test_pixels_are_rgb_whatever_the_mode(project):
    root = publisher()
    odd = {"L": photo(7, mode="L"), "CMYK": photo(8, mode="CMYK")}
    for number, content in enumerate(odd.values()):
        (root / f"val/images/val_{number}.JPEG").write_bytes(content)
    tiny_imagenet.main(["image_source=publisher"])
    assert manifest()["about"]["modes"] == {"CMYK": 1, "L": 1, "RGB": 26}
    x, _ = artifacts.read_npz(PREPARED / "test.npz", "x", "y")
    for place, content in enumerate(odd.values()):
        wanted = numpy.asarray(Image.open(io.BytesIO(content)).convert("RGB")).transpose(2, 0, 1)
        assert numpy.array_equal(x[place], wanted)
    assert numpy.array_equal(x[0, 0], x[0, 2])


def test_numbers_of_images_make_a_set_official(project):
    publisher()
    whole = ["params.official.classes=2", "params.official.train_per_class=12", "params.official.val_per_class=2"]
    tiny_imagenet.main(["image_source=publisher", *whole])
    assert manifest()["files"] == "official"
    tiny_imagenet.main(["image_source=publisher", *whole[:2], "params.official.val_per_class=1"])
    assert manifest()["files"] == "re-made"
    tiny_imagenet.main(["image_source=publisher", "params.official.classes=1"])
    assert manifest()["files"] == "re-made"


def test_limits_keep_the_balance_and_the_whole_index(project):
    publisher()
    tiny_imagenet.main(["image_source=publisher", "params.limit.train=10"])
    assert manifest()["counts"] == {"train": 10, "val": 2, "test": 4}
    assert numpy.bincount(artifacts.read_npz(PREPARED / "train.npz", "y")[0]).tolist() == [5, 5]
    assert len((PREPARED / "index.csv").read_text().splitlines()) == 29


def test_the_sample_and_the_publishers_files_are_not_mixed_up(project, capsys, embedded):
    folder = write(Path("data/publisher/tiny_imagenet/tiny-imagenet-200"), embedded)
    assert "embedded sample" in fails(capsys)
    shutil.copytree(folder, "data/sample/tiny_imagenet/tiny-imagenet-200")
    annotations = Path("data/sample/tiny_imagenet/tiny-imagenet-200/val/val_annotations.txt")
    lines = annotations.read_text().splitlines()
    words = [line.split("\t") for line in lines]
    words[0][1], words[1][1] = words[1][1], words[0][1]  # the images are untouched, two labels are exchanged
    assert words[0][1] != words[1][1]
    annotations.write_text("".join("\t".join(line) + "\n" for line in words))
    with pytest.raises(SystemExit):
        tiny_imagenet.main([])
    assert "pinned" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda lines: [*lines, "../../../secret.JPEG\tn01443537\t0\t0\t1\t1"], "line 5"),
        (lambda lines: [*lines, "/etc/passwd\tn01443537\t0\t0\t1\t1"], "line 5"),
        (lambda lines: [*lines, lines[0]], "a second time"),
        (lambda lines: [*lines, "val_9.JPEG\tn01443537\t0\t0\t1\t1"], "val_9.JPEG: not found"),
        (lambda lines: lines[:-1], "val_3.JPEG: no label"),
        (lambda lines: ["val_0.JPEG n01443537", *lines[1:]], "line 1"),
        (lambda lines: [lines[0].replace("n02124075", "n00000000"), *lines[1:]], "unknown wnid"),
        (lambda lines: [line.replace("n02124075", "n01443537") for line in lines], "no image of class n02124075"),
        (lambda lines: [], "no label"),
    ],
)
def test_wrong_annotations_are_named(project, capsys, edit, told):
    path = publisher() / "val/val_annotations.txt"
    path.write_text("\n".join(edit(path.read_text().splitlines())))
    assert told in fails(capsys)


def test_annotations_that_contradict_folders_are_refused(project, capsys):
    root = publisher("folders")
    (root / f"val/{WNIDS[0]}/val_0.JPEG").rename(root / f"val/{WNIDS[1]}/val_0.JPEG")
    assert f"move it to val/{WNIDS[0]}/" in fails(capsys)
    (root / "val/val_annotations.txt").unlink()
    tiny_imagenet.main(["image_source=publisher"])  # without annotations the folders alone say it


@pytest.mark.parametrize(
    ("wnids", "told"),
    [
        ("", "empty"),
        ("n02124075", "unknown wnid"),
        ("n02124075\nn01443537\nn02124075", "line 3"),
        ("n02124075\n../etc\nn01443537", "line 2"),
        ("n02124075\nn01443537\nn03000000", "n03000000: not found"),
    ],
)
def test_wrong_wnids_are_named(project, capsys, wnids, told):
    (publisher() / "wnids.txt").write_text(wnids)
    assert told in fails(capsys)


def test_missing_and_misplaced_files_are_named(project, capsys):
    assert "data/publisher/tiny_imagenet" in fails(capsys)
    root = publisher()
    (root / "train/n01443537/x.JPEG").write_bytes(photo(1))
    assert "beside the folder images" in fails(capsys)
    (root / "train/n01443537/x.JPEG").unlink()
    (root / "val/n01443537").mkdir()
    assert "not both" in fails(capsys)
    (root / "val/n01443537").rmdir()
    (root / "val/images/new.JPEG").write_bytes(photo(1))
    assert "new.JPEG: no label" in fails(capsys)
    (root / "val/images/new.JPEG").unlink()
    for item in (root / "train/n01443537/images").iterdir():
        item.unlink()
    assert "holds no image" in fails(capsys)
    (root / "val/val_annotations.txt").unlink()
    shutil.rmtree(root / "train/n01443537")
    assert "train/n01443537: not found" in fails(capsys)
    (root / "wnids.txt").unlink()
    assert "wnids.txt" in fails(capsys)


def test_damaged_images_and_wrong_sizes_are_named(project, capsys):
    path = publisher() / "train/n01443537/images/n01443537_3.JPEG"
    whole = path.read_bytes()
    path.write_bytes(whole[:-60])
    assert "n01443537_3.JPEG" in fails(capsys)
    path.write_bytes(photo(3, size=32))
    assert "n01443537_3.JPEG: 32 x 32" in fails(capsys)
    path.write_bytes(photo(3, size=65))
    assert "n01443537_3.JPEG: 65 x 65" in fails(capsys)
    path.write_bytes(whole[:-60])
    tiny_imagenet.main(["image_source=publisher", "params.damaged=[n01443537_3.JPEG]"])
    assert manifest()["about"]["left_out"] == ["train/n01443537/images/n01443537_3.JPEG"]
    assert manifest()["counts"]["train"] == 21


def test_bad_parameters_are_named(project, capsys):
    publisher()
    assert "held_out" in fails(capsys, "params.held_out.publisher=first")
    assert "between 0 and 1" in fails(capsys, "params.val_share.publisher=0")
    assert "size" in fails(capsys, "params.size=0")
    assert "without an image in val" in fails(capsys, "params.val_share.publisher=0.01")


def test_random_and_last_hold_out_the_same_number():
    items = [images.Item(f"train/{wnid}/{wnid}_{i}.JPEG", wnid, "train") for wnid in WNIDS for i in range(20)]
    for how in ("random", "last"):
        splits = images.hold_out(items, 0.25, 1, how)
        for wnid in WNIDS:
            assert [split for item, split in zip(items, splits) if item.wnid == wnid].count("val") == 5
    assert [split for split in images.hold_out(items, 0.25, 1, "last")][15:20] == ["val"] * 5  # 15 to 19, not 5 to 9
    assert images.hold_out(items, 0.25, 1) != images.hold_out(items, 0.25, 2)


def test_the_publishers_files(project):
    """20 of the 200 classes, 80 of 500 training images each: original bytes."""
    if not REAL.is_dir():
        pytest.skip("no publisher's files in ../shared/data/tiny-imagenet")
    Path("data/publisher").mkdir(parents=True)
    Path("data/publisher/tiny_imagenet").symlink_to(REAL.resolve())
    tiny_imagenet.main(["image_source=publisher"])
    about = manifest()
    assert (about["files"], about["files_because"]) == (
        "subset",
        "20 classes, 1600 + 1000 images of 200 classes, 100000 + 10000",
    )
    assert about["counts"] == {"train": 1440, "val": 160, "test": 1000}
    assert about["about"]["modes"] == {"L": 45, "RGB": 2555}  # as counted when the files were laid down
    assert about["words"]["n02124075"] == "Egyptian cat"
    assert numpy.allclose(about["mean"], [0.48, 0.45, 0.40], atol=0.03)  # about ImageNet's
    for name, count in about["counts"].items():
        assert numpy.bincount(artifacts.read_npz(PREPARED / f"{name}.npz", "y")[0]).tolist() == [count // 20] * 20
