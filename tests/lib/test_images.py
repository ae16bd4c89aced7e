"""Photographs through their index: transforms, the same batches for any number of workers, refusals."""

from __future__ import annotations

import hashlib
import io
import math
import re

import numpy
import pytest
import torch
from PIL import Image

from stages.lib import artifacts, images
from stages.lib.decoding import decode, to_rgb
from stages.lib.errors import StageError

COLUMNS = ("path", "label", "split", "sha256")
MODES = ("RGB", "L", "CMYK")


def photo(seed: int, width: int = 90, height: int = 60, mode: str = "RGB", kind: str = "JPEG") -> bytes:
    pixels = numpy.random.RandomState(seed).randint(0, 256, (5, 7, 3)).astype(numpy.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((width, height)).convert(mode).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture
def indexed(tmp_path):
    """Twelve training images of odd modes, three of val, three of test, with the index a prepare stage writes."""
    rows = []
    for number in range(18):
        name, content = f"image {number}.JPEG", photo(number, 60 + number, 50, MODES[number % 3])
        (tmp_path / name).write_bytes(content)
        split = "train" if number < 12 else "val" if number < 15 else "test"
        rows.append((name, number % 2, split, hashlib.sha256(content).hexdigest()))
    write_index(tmp_path, rows)
    return tmp_path


def write_index(root, rows):
    folder = root / "prepare" / "toy"
    artifacts.write_csv(folder / "index.csv", [dict(zip(COLUMNS, row)) for row in rows])
    about = {"classes": ["a", "b"], "root": str(root), "source": "sample"}
    digest = artifacts.sha256(folder / "index.csv")
    artifacts.write_manifest(folder / "manifest.json", outputs=[folder / "index.csv"], index_sha256=digest, **about)


def read(root, split="train"):
    return images.read_index("toy", split, root / "prepare")


def loader(index, transform=None, **options):
    return images.Loader(index, transform or images.train_transform(32), **({"batch": 5, "seed": 3} | options))


def collect(batches) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = zip(*batches)
    return torch.cat(x), torch.cat(y)


def test_the_index_gives_the_images_of_a_split(indexed):
    counts = {split: len(read(indexed, split)) for split in ("train", "val", "test", "train+val")}
    assert counts == {"train": 12, "val": 3, "test": 3, "train+val": 15}
    index = read(indexed, "val")
    assert (index.paths.tolist(), index.labels.tolist()) == ([b"image 12.JPEG", b"image 13.JPEG", b"image 14.JPEG"], [0, 1, 0])
    assert (index.classes, index.source, index.split) == (("a", "b"), "sample", "val")


def test_evaluation_resizes_the_shorter_side_and_cuts_the_middle():
    for size in ((90, 60), (60, 90)):
        image = to_rgb(decode(photo(1, *size), "x"))
        found = images.eval_transform(24, 30)(image)
        wide = image.resize((45, 30) if size[0] > size[1] else (30, 45), Image.Resampling.BILINEAR)
        left, top = (round((side - 24) / 2) for side in wide.size)
        wanted = numpy.asarray(wide)[top : top + 24, left : left + 24].astype(numpy.float32) / 255
        wanted = (wanted - numpy.float32(images.MEAN)) / numpy.float32(images.STD)
        assert found.dtype == torch.float32
        assert numpy.allclose(found.numpy().transpose(1, 2, 0), wanted, atol=1e-6)


def test_the_default_sizes_are_the_fields():
    assert images.train_transform()(Image.new("RGB", (300, 200))).shape == (3, 224, 224)
    assert images.eval_transform()(Image.new("RGB", (300, 200))).shape == (3, 224, 224)
    white = images.eval_transform()(Image.new("RGB", (300, 256), "white"))
    assert torch.allclose(white[:, 0, 0], (1 - torch.tensor(images.MEAN)) / torch.tensor(images.STD))


def test_training_crops_have_the_stated_area_and_aspect():
    """On an image whose red rises to the right and green downwards, a crop's colours tell its place and extent."""
    side = 256
    ramp = numpy.arange(side, dtype=numpy.uint8)
    pixels = numpy.stack([numpy.tile(ramp, (side, 1)), numpy.tile(ramp[:, None], (1, side)), numpy.zeros((side, side))], -1)
    image, transform = Image.fromarray(pixels.astype(numpy.uint8)), images.train_transform(64)
    torch.manual_seed(0)
    areas, aspects, mirrored = [], [], 0
    for _ in range(400):
        x = transform(image) * torch.tensor(images.STD).view(3, 1, 1) + torch.tensor(images.MEAN).view(3, 1, 1)
        width, height = (255 * (x[0, :, -2] - x[0, :, 1]).mean() / 61, 255 * (x[1, -2] - x[1, 1]).mean() / 61)
        mirrored += int(width < 0)
        areas.append(float(abs(width) * height) * 64**2 / side**2)
        aspects.append(math.log(float(abs(width) / height)))
    assert 0.05 < min(areas) < 0.15
    assert 0.9 < max(areas) < 1.05
    assert abs(numpy.mean(areas) - 0.52) < 0.05  # uniform from .08 to 1, less the tall and wide ones that do not fit
    assert max(map(abs, aspects)) < math.log(4 / 3) + 0.1
    assert 160 < mirrored < 240


def test_batches_do_not_depend_on_the_number_of_workers(indexed):
    index = read(indexed)
    found = {}
    for workers in (0, 1, 2):
        batches = loader(index, shuffle=True, workers=workers)
        for epoch in (0, 1):
            batches.set_epoch(epoch)
            found[workers, epoch] = collect(batches)
    for epoch in (0, 1):
        for workers in (1, 2):
            assert torch.equal(found[0, epoch][0], found[workers, epoch][0])
            assert torch.equal(found[0, epoch][1], found[workers, epoch][1])
    assert not torch.equal(found[0, 0][0], found[0, 1][0])


def test_augmentation_depends_on_seed_epoch_and_image_alone(indexed):
    index = read(indexed)
    plain = collect(loader(index))[0]
    torch.manual_seed(99)  # whatever the global generator has been doing
    assert torch.equal(collect(loader(index, batch=2))[0], plain)
    assert not torch.equal(collect(loader(index, seed=4))[0], plain)
    shuffled = loader(index, shuffle=True)
    order = [place for _, place in shuffled.sampler]
    assert torch.equal(collect(shuffled)[0], plain[order])


def test_reading_leaves_the_global_generator_alone(indexed):
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    collect(loader(read(indexed), shuffle=True))
    assert torch.equal(torch.rand(3), wanted)


def test_every_image_comes_once_an_epoch_in_a_new_order(indexed):
    index = read(indexed)
    batches = loader(index, shuffle=True)
    orders = []
    for epoch in range(3):
        batches.set_epoch(epoch)
        orders.append([place for _, place in batches.sampler])
        assert sorted(orders[-1]) == list(range(12))
        assert collect(batches)[1].tolist() == index.labels[orders[-1]].tolist()
    assert len({tuple(order) for order in orders}) == 3
    assert [len(y) for _, y in batches] == [5, 5, 2]
    assert len(batches) == 3


def test_grey_and_cmyk_images_are_rgb(indexed):
    x, _ = collect(loader(read(indexed), images.eval_transform(32, 36)))
    x = x * torch.tensor(images.STD).view(3, 1, 1) + torch.tensor(images.MEAN).view(3, 1, 1)
    assert torch.allclose(x[1, 0], x[1, 1], atol=1e-6)  # grey
    assert not torch.allclose(x[2, 0], x[2, 1], atol=0.05)  # CMYK
    direct = numpy.asarray(Image.open(io.BytesIO((indexed / "image 2.JPEG").read_bytes())).convert("RGB"))
    assert numpy.array_equal(numpy.asarray(to_rgb(images.read_image(read(indexed), 2))), direct)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("damage", "told"), [("altered", "differs from the index"), ("missing", "cannot be read")])
def test_a_lost_or_altered_file_is_one_line(indexed, workers, damage, told):
    path = indexed / "image 7.JPEG"
    path.unlink() if damage == "missing" else path.write_bytes(photo(99))
    with pytest.raises(StageError, match=rf"image 7\.JPEG.*{told}") as caught:
        collect(loader(read(indexed), workers=workers))
    assert "Traceback" not in str(caught.value)


def test_an_altered_or_foreign_index_is_refused(indexed):
    path = indexed / "prepare/toy/index.csv"
    path.write_text(path.read_text().replace(",0,", ",1,"))
    with pytest.raises(StageError, match=r"index\.csv"):
        read(indexed)
    with pytest.raises(StageError, match="split=training"):
        read(indexed, "training")
    artifacts.write_json(indexed / "prepare/toy/manifest.json", {"classes": []})
    with pytest.raises(StageError, match="lacks the key"):
        read(indexed)
    with pytest.raises(StageError, match="manifest"):
        images.read_index("nothing", "train", indexed)


def test_a_split_without_images_is_refused(indexed):
    write_index(indexed, [("image 0.JPEG", 0, "train", "0")])
    with pytest.raises(StageError, match="no image of split test"):
        read(indexed, "test")


def test_impossible_loaders_are_refused(indexed):
    for options in ({"batch": 0}, {"workers": -1}):
        with pytest.raises(StageError, match="workers"):
            loader(read(indexed), **options)


def test_decoding_refuses_by_name_and_takes_odd_files():
    assert decode(photo(0, kind="PNG"), "x").format == "PNG"
    for content in (b"", b"GIF89a", photo(0)[:-200], photo(0, kind="BMP"), b"\xff\xd8\xff"):
        with pytest.raises(StageError, match=re.escape("some/x.JPEG")):
            decode(content, "some/x.JPEG")
    with pytest.raises(StageError, match="90 x 60"):
        decode(photo(0), "x", max_pixels=5399)
    assert decode(photo(0), "x", max_pixels=5400).size == (90, 60)
