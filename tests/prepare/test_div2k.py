"""DIV2K's reader: layout, splits, pixels, refusals; and the embedded sample."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
import yaml

from stages.lib.errors import StageError
from stages.lib.restoration import sets
from stages.prepare import div2k, image_samples, photographs, restoration_samples
from tests.prepare import photographs as helpers
from tests.prepare.photographs import ROOT, decoded, deep, manifest, photo, see_through, write

PUBLISHER = "restoration_source=publisher"


@pytest.fixture
def project(tmp_path, monkeypatch):
    return helpers.project(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def embedded() -> dict[str, bytes]:
    return restoration_samples.div2k()


def publisher(low: bool = True) -> Path:
    """14 training and 2 validation photographs; x2 of both, x3 of train."""
    files = {f"DIV2K_train_HR/{number:04d}.png": photo(number) for number in range(1, 15)}
    files |= {f"DIV2K_valid_HR/{number:04d}.png": photo(number) for number in (801, 802)}
    if low:
        files |= {f"DIV2K_train_LR_bicubic/X2/{number:04d}x2.png": photo(number, 50, 60) for number in range(1, 15)}
        files |= {f"DIV2K_valid_LR_bicubic/X2/{number:04d}x2.png": photo(number, 50, 60) for number in (801, 802)}
        files |= {f"DIV2K_train_LR_bicubic/X3/{number:04d}x3.png": photo(number, 33, 40) for number in range(1, 15)}
    return write(Path("data/publisher/div2k"), files)


def fails(capsys, *arguments: str) -> str:
    return helpers.fails(div2k, "div2k", capsys, PUBLISHER, *arguments)


# --- the sample -----------------------------------------------------------------------------------


def test_the_samples_bytes_are_the_pinned_ones_and_small(embedded):
    made = {"div2k": embedded, "benchmarks": restoration_samples.benchmarks(), "rain": restoration_samples.rain()}
    for dataset, files in made.items():
        pinned = yaml.safe_load((ROOT / f"params/dataset/{dataset}.yaml").read_text())["sample_sha256"]
        assert image_samples.digest(files) == pinned
    assert sum(len(content) for files in made.values() for content in files.values()) < 6_000_000


def test_no_photograph_is_in_two_splits():
    tables = restoration_samples
    files = [{name.partition(":")[0] for name in part} for part in (tables.TRAIN, tables.VAL, tables.VALID, tables.TEST)]
    assert sum(map(len, files)) == len(set.union(*files))
    train, val, valid, test = files
    for part, allowed in ((tables.RAINY_TRAIN, train), (tables.RAINY_VAL, val), (tables.RAINY_TEST, test)):
        assert {name.partition(":")[0] for name in part} <= allowed


def test_the_sample_becomes_three_splits(project, embedded):
    write(Path("data/sample/div2k"), embedded)
    div2k.main([])
    about = manifest("div2k")
    assert (about["files"], about["source"], about["about"]["files_in_two_splits"]) == ("embedded sample", "sample", 0)
    assert about["counts"] == {
        "train": {"DIV2K": {"clean": 10}},
        "val": {"DIV2K": {"clean": 3}},
        "test": {"DIV2K": {"clean": 1}},
    }
    found = [image for split in ("train", "val") for image in sets.photographs("div2k", split)]
    assert [image.name for image in found] == [f"{number:04d}" for number in range(1, 14)]
    for image in found:
        assert numpy.array_equal(image.pixels, decoded(embedded[f"DIV2K_train_HR/{image.name}.png"]))
        assert max(image.size) <= 324
    before = helpers.contents("runs/prepare/div2k")
    div2k.main(["threads=2"])
    assert helpers.contents("runs/prepare/div2k") == before


def test_the_sample_and_the_publishers_files_are_not_mixed_up(project, capsys, embedded):
    write(Path("data/publisher/div2k"), embedded)
    assert "embedded sample" in fails(capsys, "params.val_count.publisher=3")
    write(Path("data/sample/div2k"), embedded | {"DIV2K_train_HR/0003.png": photo(1)})
    assert "pinned" in helpers.fails(div2k, "div2k", capsys)


# --- the publisher's layout -----------------------------------------------------------------------


def test_splits_kinds_and_pixels(project):
    root = publisher()
    div2k.main([PUBLISHER])
    about = manifest("div2k")
    assert (about["files"], about["files_because"]) == ("subset", "14 + 2 photographs; officially 900")
    assert about["counts"]["train"] == {"DIV2K": {"clean": 4, "x2": 4, "x3": 4}}
    assert about["counts"]["val"] == {"DIV2K": {"clean": 10, "x2": 10, "x3": 10}}
    assert about["counts"]["test"] == {"DIV2K": {"clean": 2, "x2": 2}}
    train = sets.load("div2k", "train")
    assert [image.name for image in train.photographs()] == ["0001", "0002", "0003", "0004"]
    for pair in train.scaled_pairs(3):
        low = (root / f"DIV2K_train_LR_bicubic/X3/{pair.name}x3.png").read_bytes()
        assert numpy.array_equal(pair.corrupted, decoded(low))
        assert pair.clean.shape == (99, 120, 3)
    assert sets.load("div2k", "test").scaled_pairs(4)[0].corrupted.shape == (25, 30, 3)


def test_names_make_a_set_official(project):
    publisher(low=False)
    div2k.main([PUBLISHER, "params.official.train=14", "params.official.valid=2"])
    assert manifest("div2k")["files"] == "re-made"  # 0801 is none of 0001 to 0016
    for number in (801, 802):
        Path(f"data/publisher/div2k/DIV2K_valid_HR/{number:04d}.png").rename(
            f"data/publisher/div2k/DIV2K_valid_HR/{number - 786:04d}.png"
        )
    div2k.main([PUBLISHER, "params.official.train=14", "params.official.valid=2"])
    assert manifest("div2k")["files"] == "official"
    div2k.main([PUBLISHER, "params.official.train=15", "params.official.valid=1"])
    assert manifest("div2k")["files"] == "re-made"  # 0015 is a training photograph then


def test_grey_opaque_and_palette_images_become_rgb(project):
    odd = {"0001": photo(1, mode="L"), "0002": see_through(255), "0003": photo(3, mode="P"), "0004": photo(4, mode="1")}
    write(publisher(low=False), {f"DIV2K_train_HR/{name}.png": content for name, content in odd.items()})
    div2k.main([PUBLISHER])
    assert manifest("div2k")["about"]["modes"] == {"1": 1, "L": 1, "P": 1, "RGB": 12, "RGBA": 1}
    for image in sets.photographs("div2k", "train"):
        assert numpy.array_equal(image.pixels, decoded(odd[image.name]))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (deep(), "16 bits"),
        (deep(colour=0), "16 bits"),
        (see_through(254), "transparent"),
        (photo(1, 95, 120), "120 x 95 pixels; expected 96"),
        (photo(1)[:-60], "cannot be decoded"),
        (b"", "empty"),
        (b"GIF89a" + bytes(100), "neither JPEG nor PNG"),
    ],
)
def test_unfit_images_are_named(project, capsys, content, told):
    write(publisher(low=False), {"DIV2K_train_HR/0005.png": content})
    line = fails(capsys)
    assert "DIV2K_train_HR/0005.png" in line
    assert told in line


def test_low_resolution_images_must_fit(project, capsys):
    root = publisher()
    write(root, {"DIV2K_train_LR_bicubic/X3/0007x3.png": photo(7, 34, 40)})
    assert "0007x3.png: 40 x 34 pixels; expected 40 x 33" in fails(capsys)
    (root / "DIV2K_train_LR_bicubic/X3/0007x3.png").unlink()
    assert "no image x3 of 0007" in fails(capsys)
    for path in (root / "DIV2K_train_LR_bicubic/X3").iterdir():
        path.unlink()
    (root / "DIV2K_train_LR_bicubic/X3").rmdir()
    write(root, {"DIV2K_train_LR_bicubic/X2/0099x2.png": photo(1), "readme.txt": b"", "DIV2K_train_HR/.hidden.png": b""})
    div2k.main([PUBLISHER])
    ignored = ["DIV2K_train_HR/.hidden.png", "DIV2K_train_LR_bicubic/X2/0099x2.png", "readme.txt"]
    assert manifest("div2k")["about"]["ignored"] == ignored


def test_missing_folders_and_bad_parameters_are_named(project, capsys):
    assert "data/publisher/div2k: not found" in fails(capsys)
    root = publisher(low=False)
    assert "val_count" in fails(capsys, "params.val_count.publisher=14")
    assert "val_count" in fails(capsys, "params.val_count.publisher=0")
    assert "max_pixels" in fails(capsys, "params.max_pixels=100")
    assert "max_bytes" in fails(capsys, "params.max_bytes=100")
    write(root, {"DIV2K_train_HR/0003.jpg": b""})
    assert "the same image as" in fails(capsys)
    (root / "DIV2K_train_HR/0003.jpg").unlink()
    for path in (root / "DIV2K_valid_HR").iterdir():
        path.unlink()
    assert "DIV2K_valid_HR: holds no image" in fails(capsys)
    (root / "DIV2K_valid_HR").rmdir()
    assert "DIV2K_valid_HR: cannot be read" in fails(capsys)


def test_names_are_in_the_order_of_their_numbers(tmp_path):
    write(tmp_path, {f"norain-{name}.png": b"" for name in ("10", "2", "1", "a", "1b")})
    assert list(photographs.stems(tmp_path, "norain-(.+)")) == ["a", "1", "1b", "2", "10"]
    write(tmp_path, {"norain-\x07.png": b""})
    with pytest.raises(StageError, match="no plain file name"):
        photographs.stems(tmp_path)
