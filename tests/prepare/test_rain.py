"""The rain sets' reader: RainTrainL, Rain100L, cropped pairs; refusals; the embedded sample; the publisher's files."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest

from stages.lib.restoration import quality, sets
from stages.prepare import rain, restoration_samples
from tests.prepare import photographs as helpers
from tests.prepare.photographs import SHARED, decoded, manifest, photo, write

PUBLISHER = "restoration_source=publisher"
FEW = "params.val_count.publisher=2"


@pytest.fixture
def project(tmp_path, monkeypatch):
    return helpers.project(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def embedded() -> dict[str, bytes]:
    return restoration_samples.rain()


def publisher() -> Path:
    """12 training pairs with their streaks, 2 test pairs, 1 cropped pair."""
    files = {}
    for number in range(1, 13):
        for seed, stem in enumerate(("norain", "rain", "rainstreak")):
            files[f"RainTrainL/{stem}-{number}.png"] = photo(100 * seed + number, 80, 90)
    for number in (1, 2):
        files[f"Rain100L/norain-{number:03d}.png"] = photo(number)
        files[f"Rain100L/rainy/rain-{number:03d}.png"] = photo(10 + number)
    files |= {"cleancrop/1.png": photo(3), "inputcrop/1.png": photo(4)}
    return write(Path("data/publisher/rain"), files)


def fails(capsys, *arguments: str) -> str:
    return helpers.fails(rain, "rain", capsys, PUBLISHER, FEW, *arguments)


def test_the_samples_rain_is_light_grey_and_additive(project, embedded):
    write(Path("data/sample/rain"), embedded)
    rain.main([])
    about = manifest("rain")
    assert about["files"] == "embedded sample"
    train = {"RainTrainL": {"clean": 5, "rainy": 5, "streaks": 5}}
    assert about["counts"]["train"] == train
    assert about["counts"]["test"] == {"Rain100L": {"clean": 4, "rainy": 4}}
    for split, count in (("train", 5), ("val", 2)):
        found = sets.load("rain", split)
        pairs, layers = found.rainy_pairs(), found.streaks()
        assert len(pairs) == len(layers) == count
        for pair, layer in zip(pairs, layers):
            added = pair.clean.astype(int) + layer[:, :, None]
            assert numpy.array_equal(pair.corrupted, added.clip(max=255))
    measured = [quality.measure(sets.tensor(p.corrupted), sets.tensor(p.clean))["psnr"]
                for p in sets.load("rain", "test").rainy_pairs()]  # fmt: skip
    assert 25 < sum(measured) / len(measured) < 29  # Rain100L's rainy images have 26.9 dB


def test_all_layouts_are_read(project):
    root = publisher()
    rain.main([PUBLISHER, FEW])
    about = manifest("rain")
    assert about["files_because"] == "Rain100H 1 of 100, Rain100L 2 of 100, RainTrainL 12 of 200 images"
    assert about["counts"]["train"]["RainTrainL"] == {"clean": 10, "rainy": 10, "streaks": 10}
    assert about["counts"]["test"] == {"Rain100H": {"clean": 1, "rainy": 1}, "Rain100L": {"clean": 2, "rainy": 2}}
    assert [image.name for image in sets.photographs("rain", "val")] == ["11", "12"]  # not 8 and 9
    pair = sets.load("rain", "train").rainy_pairs()[1]
    assert pair.name == "2"
    assert numpy.array_equal(pair.corrupted, decoded((root / "RainTrainL/rain-2.png").read_bytes()))
    assert numpy.array_equal(pair.clean, decoded((root / "RainTrainL/norain-2.png").read_bytes()))
    streaks = sets.load("rain", "train").photographs("streaks")[0].pixels  # coloured in the file
    assert numpy.array_equal(streaks[..., 0], streaks[..., 1])
    (cropped,) = sets.load("rain", "test").rainy_pairs("Rain100H")
    assert numpy.array_equal(cropped.clean, decoded((root / "cleancrop/1.png").read_bytes()))


def test_streaks_are_optional_but_not_for_some(project, capsys):
    root = publisher()
    (root / "RainTrainL/rainstreak-4.png").unlink()
    assert "no streaks image of 4" in fails(capsys)
    for path in (root / "RainTrainL").glob("rainstreak-*"):
        path.unlink()
    rain.main([PUBLISHER, FEW])
    assert manifest("rain")["counts"]["train"]["RainTrainL"] == {"clean": 10, "rainy": 10}


def test_missing_and_misplaced_files_are_named(project, capsys):
    assert "data/publisher/rain: not found" in fails(capsys)
    root = publisher()
    (root / "Rain100L/rainy/rain-002.png").unlink()
    assert "no rainy image of 002" in fails(capsys)
    write(root, {"Rain100L/rainy/rain-002.png": photo(1), "Rain100L/rainy/rain-003.png": photo(1)})
    assert "no clean image of 003" in fails(capsys)
    (root / "Rain100L/rainy/rain-003.png").unlink()
    write(root, {"Rain100L/rainy/rain-002.png": photo(1, 101, 120)})
    assert "rain-002.png: 120 x 101 pixels; expected 120 x 100" in fails(capsys)
    write(root, {"Rain100L/rainy/rain-002.png": photo(1)})
    assert "val_count" in fails(capsys, "params.val_count.publisher=12")
    (root / "cleancrop/1.png").unlink()
    assert "cleancrop: holds no clean image" in fails(capsys)
    (root / "cleancrop").rmdir()
    assert "cleancrop: cannot be read" in fails(capsys)


def test_an_empty_folder_is_no_rain_set(project, capsys):
    Path("data/publisher/rain/other").mkdir(parents=True)
    assert "holds no rain set" in fails(capsys)


def test_the_publishers_files(project):
    """15 pairs of the heavy set: Rain100H in the cropped layout, test only."""
    if not (SHARED / "rain100h").is_dir():
        pytest.skip("no publisher's files in ../shared/data/rain100h")
    Path("data/publisher").mkdir(parents=True)
    Path("data/publisher/rain").symlink_to((SHARED / "rain100h").resolve())
    rain.main([PUBLISHER])
    assert manifest("rain")["counts"] == {"train": {}, "val": {}, "test": {"Rain100H": {"clean": 15, "rainy": 15}}}
    pairs = sets.load("rain", "test").rainy_pairs()
    assert [pair.name for pair in pairs] == [str(number) for number in range(1, 16)]
    assert {pair.clean.shape for pair in pairs} == {(320, 480, 3), (480, 320, 3)}
    mean = sum(quality.psnr(sets.tensor(p.corrupted), sets.tensor(p.clean)) for p in pairs) / 15
    assert 6.7 < mean < 21  # as counted over all 100 pairs when the files were laid down
