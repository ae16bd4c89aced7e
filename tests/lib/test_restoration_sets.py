"""Prepared photographs, patches of them, and grids of pictures."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
import torch

from stages.lib import artifacts
from stages.lib.errors import StageError
from stages.lib.restoration import degrade, grid, patches, sets
from stages.lib.restoration.sets import Pair, Photograph


def photo(seed: int, height: int, width: int) -> numpy.ndarray:
    return numpy.random.RandomState(seed).randint(0, 256, (height, width, 3)).astype(numpy.uint8)


IMAGES = {
    ("Set5", "a", "clean"): photo(0, 13, 16),
    ("Set5", "b", "clean"): photo(1, 12, 9),
    ("Set5", "a", "x2"): photo(2, 6, 8),
    ("Set5", "b", "x2"): photo(3, 6, 4),
    ("BSD68", "c", "clean"): photo(4, 8, 8),
    ("Rain100L", "d", "clean"): photo(5, 7, 7),
    ("Rain100L", "d", "rainy"): photo(6, 7, 7),
    ("Rain100L", "d", "streaks"): photo(7, 7, 7),
}


@pytest.fixture
def prepared(tmp_path) -> Path:
    """A prepared set as the stages write it."""
    folder, rows, offset = tmp_path / "some", [], 0
    for (group, name, kind), pixels in IMAGES.items():
        values = ("test", group, name, kind, *pixels.shape[:2], offset)
        rows.append(dict(zip(sets.COLUMNS, values)))
        offset += pixels.size
    artifacts.write_csv(folder / "index.csv", rows)
    numpy.save(folder / "test.npy", numpy.concatenate([pixels.ravel() for pixels in IMAGES.values()]))
    numpy.save(folder / "val.npy", numpy.zeros(0, numpy.uint8))
    artifacts.write_manifest(folder / "manifest.json", outputs=[folder / f for f in ("index.csv", "test.npy", "val.npy")])
    return tmp_path


def test_photographs_come_back_by_kind_and_group(prepared):
    found = sets.load("some", "test", prepared)
    assert found.groups == ["BSD68", "Rain100L", "Set5"]
    assert found.kinds("Set5") == {"clean", "x2"}
    for group, name, kind in IMAGES:
        (image,) = [image for image in found.photographs(kind, group) if image.name == name]
        assert numpy.array_equal(image.pixels, IMAGES[group, name, kind])
        assert image.size == IMAGES[group, name, kind].shape[:2]
    assert [image.name for image in sets.photographs("some", "test", prepared)] == ["a", "b", "c", "d"]
    (pair,) = found.rainy_pairs("Rain100L")
    assert numpy.array_equal(pair.corrupted, IMAGES["Rain100L", "d", "rainy"])
    assert (pair.factor, pair.clean.shape) == (1, (7, 7, 3))
    assert numpy.array_equal(found.streaks()[0], IMAGES["Rain100L", "d", "streaks"][:, :, 0])


def test_low_resolution_is_the_publishers_or_else_made(prepared):
    found = sets.load("some", "test", prepared)
    a, b = found.scaled_pairs(2, "Set5")
    assert numpy.array_equal(a.corrupted, IMAGES["Set5", "a", "x2"])
    assert a.clean.shape == (12, 16, 3) and b.clean.shape == (12, 8, 3)  # cut to multiples
    (c,) = found.scaled_pairs(3, "BSD68")
    clean = sets.tensor(IMAGES["BSD68", "c", "clean"])[:, :6, :6]
    assert torch.equal(sets.tensor(c.corrupted), degrade.downscale(clean, 3))
    assert (c.factor, c.clean.shape) == (3, (6, 6, 3))
    assert len(found.scaled_pairs(2)) == 4


def test_tensors_and_pixels():
    pixels = photo(0, 4, 6)
    x = sets.tensor(pixels)
    assert (x.shape, x.dtype, float(x[2, 3, 5])) == ((3, 4, 6), torch.float32, float(pixels[3, 5, 2]))
    assert numpy.array_equal(sets.pixels(x + 0.3), pixels)
    assert sets.pixels(x + 999).min() == 255


def test_damage_is_named(prepared):
    with pytest.raises(StageError, match="expected one of"):
        sets.load("some", "all", prepared)
    with pytest.raises(StageError, match=r"some/val: no clean image"):
        sets.photographs("some", "val", prepared)
    with pytest.raises(StageError, match="no x4 image of Set5"):
        sets.load("some", "test", prepared).photographs("x4", "Set5")
    with pytest.raises(StageError, match=r"train\.npy"):
        sets.load("some", "train", prepared)
    for name in ("index.csv", "test.npy", "manifest.json"):
        path = prepared / "some" / name
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(StageError, match=name):
            sets.load("some", "test", prepared)
        path.unlink()
        with pytest.raises(StageError, match=name):
            sets.load("some", "test", prepared)
        path.write_bytes(whole)
    (prepared / "some/manifest.json").write_text("[]")
    with pytest.raises(StageError, match="not a manifest"):
        sets.load("some", "test", prepared)


# --- patches --------------------------------------------------------------------------------------


def coordinates(height: int, width: int) -> numpy.ndarray:
    """An image whose pixels tell where they lie."""
    rows, columns = numpy.meshgrid(numpy.arange(height), numpy.arange(width), indexing="ij")
    return numpy.stack([rows, columns, numpy.full_like(rows, height)], -1).astype(numpy.uint8)


def test_patches_lie_inside_and_reach_every_place():
    source = patches.CleanPatches([Photograph("a", coordinates(10, 12)), Photograph("b", coordinates(8, 8))], 8, augment=False)
    x = source.draw(400, torch.Generator().manual_seed(0))
    assert (x.shape, x.dtype) == ((400, 3, 8, 8), torch.float32)
    assert {*x[:, 0].diff(dim=1).flatten().tolist()} == {*x[:, 1].diff(dim=2).flatten().tolist()} == {1}
    corners = {tuple(int(v) for v in corner) for corner in x[:, :, 0, 0]}
    assert corners == {(top, left, 10) for top in range(3) for left in range(5)} | {(0, 0, 8)}


def test_pairs_show_the_same_place_turned_alike():
    low = coordinates(9, 11)
    pair = Pair("a", low, low.repeat(3, 0).repeat(3, 1))
    source = patches.PairedPatches([pair], 4)
    x, y = source.draw(64, torch.Generator().manual_seed(0))
    assert (x.shape, y.shape, source.factor) == ((64, 3, 4, 4), (64, 3, 12, 12), 3)
    assert torch.equal(x.repeat_interleave(3, 2).repeat_interleave(3, 3), y)
    steps = {(int(p[0, 0, 1] - p[0, 0, 0]), int(p[1, 0, 1] - p[1, 0, 0]), int(p[0, 1, 0] - p[0, 0, 0])) for p in x}
    assert len(steps) == 6  # (row, column) rightwards, row downwards; mirroring adds the rest
    assert len({p.diff(dim=2).sum().item() + 10 * p[:2].diff(dim=1).sum((1, 2))[0].item() for p in x}) > 1


def test_a_saved_generator_goes_on_with_the_same_patches():
    source = patches.PairedPatches([sets.scaled_pair(Photograph("a", photo(0, 40, 30)), 2)], 8)
    generator = torch.Generator().manual_seed(3)
    source.draw(5, generator)
    state = generator.get_state()
    expected = source.draw(5, generator)
    resumed = torch.Generator()
    resumed.set_state(state)
    for x, y in zip(source.draw(5, resumed), expected):
        assert torch.equal(x, y)
    assert not torch.equal(source.draw(5, resumed)[0], expected[0])


def test_photographs_smaller_than_a_patch_are_named():
    small = Photograph("little.png", photo(0, 20, 7))
    with pytest.raises(StageError, match=r"little\.png: 7 x 20 pixels, smaller than a patch of 8"):
        patches.CleanPatches([small], 8)
    with pytest.raises(StageError, match=r"little\.png"):
        patches.PairedPatches([sets.scaled_pair(small, 2)], 4)
    mixed = [sets.scaled_pair(Photograph("a", photo(0, 24, 24)), factor) for factor in (2, 3)]
    with pytest.raises(StageError, match=r"scales \[2, 3\]"):
        patches.PairedPatches(mixed, 4)
    with pytest.raises(StageError, match="no photograph"):
        patches.CleanPatches([], 4)
    with pytest.raises(StageError, match="no photograph"):
        patches.PairedPatches([], 4)


# --- pictures -------------------------------------------------------------------------------------


def test_a_grid_has_a_cell_an_image_and_the_same_bytes_twice(tmp_path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [[photo(1, 8, 8), photo(2, 16, 16)], [photo(3, 8, 8), photo(4, 16, 16)]]
    for name in ("a.png", "b.png"):
        figure = grid.picture_grid(rows, ["input", "clean"], [["30.1 dB", ""], ["31.2 dB", ""]], ["cat", "rocket"])
        figure.savefig(tmp_path / name, metadata={"Software": None})
        assert [axis.images[0].get_array().shape[0] for axis in figure.axes] == [8, 16, 8, 16]
        assert [axis.get_title() for axis in figure.axes[:2]] == ["input", "clean"]
        assert figure.axes[2].get_xlabel() == "31.2 dB"
        assert figure.axes[2].get_ylabel() == "rocket"
        pyplot.close(figure)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
