"""The embedded samples of ImageNet and Tiny ImageNet: pinned bytes, disjoint cells, real files."""

from __future__ import annotations

import io
import time
import zlib
from pathlib import Path

import numpy
import pytest
import yaml
from PIL import Image
from scipy.io import loadmat

from stages.prepare import image_samples, samples

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def photographs() -> dict[str, numpy.ndarray]:
    return samples.photographs()


@pytest.fixture(scope="module")
def written(tmp_path_factory, photographs) -> tuple[Path, dict[str, str]]:
    root = tmp_path_factory.mktemp("sample")
    return root, image_samples.make_all(root, photographs)


def pin(dataset: str) -> str:
    return yaml.safe_load((ROOT / f"params/dataset/{dataset}.yaml").read_text())["sample_sha256"]


def test_the_bytes_are_the_pinned_ones(written):
    root, digests = written
    assert digests == {"imagenet": pin("imagenet"), "tiny_imagenet/tiny-imagenet-200": pin("tiny_imagenet")}
    for folder, digest in digests.items():
        files = {path.relative_to(root / folder).as_posix(): path.read_bytes() for path in (root / folder).rglob("*.*")}
        assert image_samples.digest(files) == digest


def test_both_samples_are_small(written):
    files = [path.stat().st_size for path in written[0].rglob("*") if path.is_file()]
    assert sum(files) < 3_000_000


def test_pieces_lie_in_their_cells(photographs):
    """An image whose pixels tell where they are from."""
    rows, columns = numpy.meshgrid(numpy.arange(200), numpy.arange(240), indexing="ij")
    image = numpy.stack([rows, columns, rows], -1).astype(numpy.uint8)
    found = image_samples.pieces(image, 1)
    assert len(found) == 24
    for row, column, piece in found:
        assert {*(piece[..., 0] // 50).ravel()} == {row}
        assert {*(piece[..., 1] // 40).ravel()} == {column}
        assert piece.shape[0] >= 37
        assert piece.shape[1] >= 30


def test_the_png_is_what_an_independent_reader_sees():
    pixels = numpy.random.RandomState(0).randint(0, 256, (170, 150, 3)).astype(numpy.uint8)  # several stored blocks
    content = image_samples.png(pixels)
    image = Image.open(io.BytesIO(content))
    image.verify()  # checksums of the chunks
    assert numpy.array_equal(numpy.asarray(Image.open(io.BytesIO(content))), pixels)
    body = content[content.index(b"IDAT") + 4 : content.index(b"IEND") - 8]
    assert len(zlib.decompress(body)) == 170 * 451


def test_the_odd_files_are_odd(written):
    root = written[0] / "imagenet"
    modes = {path.name: (Image.open(path).format, Image.open(path).mode) for path in root.rglob("*.JPEG")}
    assert modes["n90000001_3.JPEG"] == ("JPEG", "L")
    assert modes["n90000002_2.JPEG"] == ("PNG", "RGB")
    assert modes["n90000004_5.JPEG"] == ("JPEG", "CMYK")
    assert sum(value == ("JPEG", "RGB") for value in modes.values()) == len(modes) - 4


def test_meta_does_not_hold_the_time(monkeypatch):
    ids = {"n01440764": 1}
    first = image_samples.meta_mat(ids, {"n01440764": "tench"}, {"n01440764": 3})
    monkeypatch.setattr(time, "asctime", lambda *_: "another time")
    assert image_samples.meta_mat(ids, {"n01440764": "tench"}, {"n01440764": 3}) == first
    synsets = loadmat(io.BytesIO(first), squeeze_me=True)["synsets"]
    assert synsets["WNID"].tolist() == ["n01440764", "n90000000"]
    assert synsets["num_children"].tolist() == [0, 1]
    assert synsets["num_train_images"].tolist() == [3, 0]
