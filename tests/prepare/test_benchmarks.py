"""The benchmarks' reader: EDSR's layout, the flat one, refusals; the embedded sample; the publisher's files."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest

from stages.lib.restoration import degrade, quality, sets
from stages.prepare import benchmarks, restoration_samples
from tests.prepare import photographs as helpers
from tests.prepare.photographs import SHARED, decoded, manifest, photo, write

PUBLISHER = "benchmark_source=publisher"


@pytest.fixture
def project(tmp_path, monkeypatch):
    return helpers.project(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def embedded() -> dict[str, bytes]:
    return restoration_samples.benchmarks()


def publisher() -> Path:
    """Set5 in EDSR's layout, Set14 flat with numbered x2 images, CBSD68 flat in benchmark/, BSD68 flat and grey."""
    files = {f"benchmark/Set5/HR/{name}.png": photo(i, 97, 101) for i, name in enumerate(("baby", "bird"))}
    files |= {f"benchmark/Set5/LR_bicubic/X2/{name}x2.png": photo(i, 48, 50) for i, name in enumerate(("baby", "bird"))}
    files |= {f"benchmark/CBSD68/{number:04d}.png": photo(number) for number in range(3)}
    files |= {f"Set14/{name}.png": photo(i, 80, 80) for i, name in enumerate(("zebra", "comic"))}
    files |= {f"Set14_LR/image_SRF_2/img_00{i}_SRF_2_LR.png": photo(10 + i, 40, 40) for i in (1, 2)}
    files |= {"BSD68/test001.png": photo(5, mode="L")}
    return write(Path("data/publisher/benchmarks"), files)


def fails(capsys, *arguments: str) -> str:
    return helpers.fails(benchmarks, "benchmarks", capsys, PUBLISHER, *arguments)


def test_the_sample_is_a_test_set_with_low_resolution_images(project, embedded):
    write(Path("data/sample/benchmarks"), embedded)
    benchmarks.main([])
    about = manifest("benchmarks")
    assert (about["files"], about["split"]) == ("embedded sample", "all images are test")
    assert about["counts"] == {"test": {"Photographs": {"clean": 6, "x2": 6, "x3": 6, "x4": 6}}}
    assert sorted(about["outputs"]) == ["index.csv", "test.npy"]
    found = sets.load("benchmarks", "test")
    assert [image.name for image in found.photographs()] == ["chelsea", "coffee", "coins", "flower", "gravel", "rocket"]
    for factor in (2, 3, 4):
        for pair in found.scaled_pairs(factor):
            clean = degrade.crop_to_multiple(
                sets.tensor(decoded(embedded[f"benchmark/Photographs/HR/{pair.name}.png"])), factor
            )
            assert numpy.array_equal(pair.clean, sets.pixels(clean))
            assert numpy.array_equal(pair.corrupted, sets.pixels(degrade.downscale(clean, factor)))


def test_both_layouts_are_read(project):
    root = publisher()
    benchmarks.main([PUBLISHER])
    about = manifest("benchmarks")
    assert about["files"] == "subset"
    assert about["files_because"] == "BSD68 1 of 68, CBSD68 3 of 68, Set14 2 of 14, Set5 2 of 5 images"
    assert about["counts"]["test"]["Set5"] == {"clean": 2, "x2": 2}
    found = sets.load("benchmarks", "test")
    assert found.groups == ["BSD68", "CBSD68", "Set14", "Set5"]
    comic, zebra = found.scaled_pairs(2, "Set14")  # numbers count the images in the order of their names
    assert (comic.name, zebra.name) == ("comic", "zebra")
    assert numpy.array_equal(zebra.corrupted, decoded((root / "Set14_LR/image_SRF_2/img_002_SRF_2_LR.png").read_bytes()))
    assert found.scaled_pairs(2, "Set5")[0].clean.shape == (96, 100, 3)
    (grey,) = found.photographs("clean", "BSD68")
    assert numpy.array_equal(grey.pixels[..., 0], grey.pixels[..., 2])


def test_numbers_of_images_make_a_set_official(project):
    publisher()
    sizes = {"Set5": 2, "Set14": 2, "CBSD68": 3, "BSD68": 1}
    benchmarks.main([PUBLISHER, *(f"params.official.{name}={count}" for name, count in sizes.items())])
    assert manifest("benchmarks")["files"] == "official"
    benchmarks.main([PUBLISHER, "params.official.Set5=1"])
    assert manifest("benchmarks")["files"] == "re-made"
    write(Path("data/publisher/benchmarks"), {"Mine/a.png": photo(1)})
    benchmarks.main([PUBLISHER])
    assert manifest("benchmarks")["files"] == "re-made"
    assert "Mine 1 of unknown" in manifest("benchmarks")["files_because"]


def test_missing_and_misplaced_files_are_named(project, capsys):
    assert "data/publisher/benchmarks: not found" in fails(capsys)
    root = publisher()
    (root / "Set14_LR/image_SRF_2/img_002_SRF_2_LR.png").unlink()
    assert "no image x2 with number of 002" in fails(capsys)
    write(root, {"Set14_LR/image_SRF_2/img_002_SRF_2_LR.png": photo(1, 41, 40)})
    assert "img_002_SRF_2_LR.png: 40 x 41 pixels; expected 40 x 40" in fails(capsys)
    write(root, {"Set14_LR/image_SRF_2/img_002_SRF_2_LR.png": photo(1, 40, 40)})
    write(root, {"Set5/baby.png": photo(1)})
    assert "the set is in" in fails(capsys)
    (root / "Set5/baby.png").unlink()
    (root / "Set5").rmdir()
    (root / "Urban100").mkdir()
    assert "Urban100: holds no image" in fails(capsys)
    (root / "Urban100").rmdir()
    write(root, {"BSD68/small.png": photo(1, 63, 80)})
    assert "small.png: 80 x 63 pixels; expected 64" in fails(capsys)
    benchmarks.main([PUBLISHER, "params.least_side=48"])


def test_an_empty_folder_is_no_benchmark(project, capsys):
    Path("data/publisher/benchmarks").mkdir(parents=True)
    assert "holds no test set" in fails(capsys)


def test_the_publishers_files(project):
    """Set5 with MATLAB's low-resolution images, BSD68, six of Urban100: the published PSNR of bicubic enlargement."""
    if not (SHARED / "sr").is_dir():
        pytest.skip("no publisher's files in ../shared/data/sr")
    Path("data/publisher").mkdir(parents=True)
    Path("data/publisher/benchmarks").symlink_to((SHARED / "sr").resolve())
    benchmarks.main([PUBLISHER])
    about = manifest("benchmarks")
    assert about["files_because"] == "BSD68 68 of 68, Set5 5 of 5, Urban100 6 of 100 images"
    assert about["about"]["modes"] == {"L": 68, "RGB": 26}
    found = sets.load("benchmarks", "test")
    for factor, published in ((2, 33.66), (3, 30.39), (4, 28.42)):
        pairs = found.scaled_pairs(factor, "Set5")
        made = {image.name: sets.scaled_pair(image, factor) for image in found.photographs("clean", "Set5")}
        total = 0.0
        for pair in pairs:
            assert numpy.array_equal(pair.corrupted, made[pair.name].corrupted)
            assert numpy.array_equal(pair.clean, made[pair.name].clean)
            restored = degrade.upscale(sets.tensor(pair.corrupted), factor, quantise=True)
            total += quality.measure(restored, sets.tensor(pair.clean), factor)["psnr"]
        assert total / 5 == pytest.approx(published, abs=0.05)
