"""Prepared splits: what loading checks, stratified division, augmentation."""

from __future__ import annotations

import numpy
import pytest
import torch

from stages.lib import artifacts, data
from stages.lib.errors import StageError


def prepared(root, x, y, **changes):
    """A prepared set whose three splits are (x, y)."""
    folder = root / "toy"
    for split in data.SPLITS:
        artifacts.write_npz(folder / f"{split}.npz", x=x, y=y)
    mean, std = data.channel_statistics(x)
    about = {"classes": ["a", "b"], "mean": mean, "std": std, "source": "sample"} | changes
    artifacts.write_manifest(folder / "manifest.json", outputs=[folder / f"{s}.npz" for s in data.SPLITS], **about)
    return folder


@pytest.fixture
def images():
    random = numpy.random.RandomState(0)
    return random.randint(0, 256, (20, 3, 4, 4)).astype(numpy.uint8), numpy.arange(20) % 2


def test_loading_normalises_by_the_manifest(tmp_path, images):
    prepared(tmp_path, *images)
    split = data.load("toy", "train", tmp_path)
    assert (split.x.dtype, split.y.dtype, len(split), split.classes) == (torch.float32, torch.int64, 20, ("a", "b"))
    assert torch.allclose(split.x.mean((0, 2, 3)), torch.zeros(3), atol=1e-6)
    assert torch.allclose(split.x.std((0, 2, 3), unbiased=False), torch.ones(3), atol=1e-6)


def test_statistics_are_numpys(images):
    mean, std = data.channel_statistics(images[0])
    assert numpy.allclose(mean, (images[0] / 255).mean((0, 2, 3)), rtol=1e-12)
    assert numpy.allclose(std, (images[0] / 255).std((0, 2, 3)), rtol=1e-12)


def test_an_altered_file_is_refused(tmp_path, images):
    folder = prepared(tmp_path, *images)
    raw = bytearray((folder / "train.npz").read_bytes())
    raw[-200] ^= 1
    (folder / "train.npz").write_bytes(raw)
    with pytest.raises(StageError, match=r"train\.npz"):
        data.load("toy", "train", tmp_path)


def test_bad_arrays_are_refused_by_name(tmp_path, images):
    x, y = images
    bad = {
        "float": (x.astype(float), y),
        "nan": (numpy.full(x.shape, numpy.nan), y),
        "flat": (x.reshape(20, -1), y),
        "short": (x, y[:-1]),
        "label": (x, y + 1),
        "negative": (x, y - 1),
        "one class": (x, y * 0),
        "empty": (x[:0], y[:0]),
        "label type": (x, y.astype(numpy.int32)),
    }
    for name, (images_, labels) in bad.items():
        with pytest.raises(StageError, match="toy"):
            data.check(images_, labels, 2, f"toy {name}")
    data.check(x, y, 2, "toy")


@pytest.mark.parametrize("changes", [{"std": [0.0, 1.0, 1.0]}, {"std": [float(1), float(2), -1.0]}])
def test_a_constant_channel_is_refused(tmp_path, images, changes):
    prepared(tmp_path, *images, **changes)
    with pytest.raises(StageError, match="std"):
        data.load("toy", "train", tmp_path)


def test_absent_sets_and_splits_are_told(tmp_path):
    with pytest.raises(StageError, match="manifest"):
        data.load("nothing", "train", tmp_path)
    with pytest.raises(StageError, match="training"):
        data.load("nothing", "training", tmp_path)


def test_division_is_disjoint_balanced_and_seeded():
    y = numpy.array([0] * 50 + [1] * 30 + [2] * 20)
    parts = data.stratified(y, {"val": 20, "test": 30, "train": 50}, seed=1)
    joined = numpy.concatenate(list(parts.values()))
    assert sorted(joined) == list(range(100))
    for name, size in (("val", 20), ("test", 30), ("train", 50)):
        found = numpy.bincount(y[parts[name]], minlength=3)
        assert len(parts[name]) == size
        assert abs(found - numpy.array([0.5, 0.3, 0.2]) * size).max() <= 1
    assert numpy.array_equal(data.stratified(y, {"val": 20}, seed=1)["val"], parts["val"])
    assert not numpy.array_equal(data.stratified(y, {"val": 20}, seed=2)["val"], parts["val"])
    with pytest.raises(StageError):
        data.stratified(y, {"val": 90, "train": 20}, seed=1)


def test_augmentation_crops_the_padded_image_or_its_mirror():
    """Every output is one of the 9 crops of the image, or of its mirror image; both occur."""
    x = torch.arange(1, 2 * 3 * 4 * 5 + 1, dtype=torch.float32).view(2, 3, 4, 5).repeat(50, 1, 1, 1)
    out = data.pad_crop_flip(1)(x, torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(x[:2], (1, 1, 1, 1))
    crops = [padded[:, :, r : r + 4, c : c + 5] for r in range(3) for c in range(3)]
    plain, mirrored = 0, 0
    for index, image in enumerate(out):
        same = any(torch.equal(image, crop[index % 2]) for crop in crops)
        other = any(torch.equal(image.flip(2), crop[index % 2]) for crop in crops)
        assert same or other
        plain, mirrored = plain + same, mirrored + other
    assert plain > 20
    assert mirrored > 20
    again = data.pad_crop_flip(1)(x, torch.Generator().manual_seed(0))
    assert torch.equal(out, again)
    assert torch.equal(data.pad_crop_flip(0, flip=False)(x, torch.Generator()), x)


def test_noise_has_the_asked_shape_and_spread_labels():
    split = data.noise([3, 8, 8], 1000, 4)
    assert split.x.shape == (4, 3, 8, 8)
    assert split.y.tolist() == [0, 250, 500, 750]
    assert len(split.classes) == 1000
