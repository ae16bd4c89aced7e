"""The embedded samples: real images that ship inside two dependencies, generated sensor signals, in the publishers' layouts.

- cifar10: 32x32 patches of ten photographs of scikit-image and scikit-learn; the class is the photograph.
  Train, validation (data_batch_5) and test patches come from disjoint cells of each photograph.
- cifar100: as cifar10, smaller; the coarse class is the photograph, the fine class its left or right half.
- digits: the 1,797 digits of scikit-learn, which are the UCI set's optdigits.tes.
- mnist: the same digits enlarged to 28x28, divided into train and t10k.
- imagenet, tiny_imagenet: larger pieces of the same photographs as JPEG files (see image_samples.py).
- div2k, benchmarks, rain: crops of these and further photographs, whole photographs to a split (see restoration_samples.py).
- uci_har, usc_had, skoda, motionsense: generated signals in the layouts of these sensor sets (see sensor_samples.py).
- ct_lesion, covid_ct: generated scans and slices (see ct_samples.py); hcvrd: drawn scenes, web images (see scene_samples.py).

    python -m stages.prepare.samples [--root data/sample]

Integer arithmetic throughout, and one pinned JPEG encoder, so that every machine writes the same bytes.
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy

from stages.lib import artifacts
from stages.lib.data import stratified
from stages.lib.errors import StageError, report
from stages.lib.runtime import derive_seed, installed
from stages.prepare import pickles

SKIMAGE = ("astronaut.png", "chelsea.png", "coffee.png", "hubble_deep_field.jpg", "ihc.png",
           "motorcycle_left.png", "retina.jpg", "rocket.jpg")  # fmt: skip
SKLEARN = ("china.jpg", "flower.jpg")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How patches are drawn. Changing a number changes every hash of the sample, and so every result on it."""

    seed: int = 2018
    train: int = 8000  # in data_batch_1 to 4
    val: int = 1000  # data_batch_5
    test: int = 3000
    patch: int = 32
    cell: int = 40
    margin: int = 2  # between a patch and the edge of its cell
    centre: int = 117504  # 0.45 of white, in 1/1024 of a grey level
    gain: int = 205  # s.d. of a channel's gain, in 1/1024: 0.2
    offset: int = 13056  # s.d. of a channel's offset, in 1/1024 of a grey level: 0.2 * 0.25 of white
    flat: int = 2601  # patches with a variance below this (s.d. 0.02 of white, in 1/100) are drawn again


def photographs() -> dict[str, numpy.ndarray]:
    """The ten photographs by name, uint8 [H, W, 3]; retina, much the largest, is halved."""
    from PIL import Image

    found = {}
    for package, names in (("skimage/data", SKIMAGE), ("sklearn/datasets/images", SKLEARN)):
        for name in names:
            path = installed_folder(package) / name
            try:
                image = numpy.asarray(Image.open(path).convert("RGB"))
            except OSError as error:
                raise StageError(f"{path}: cannot be read; install the pinned scikit-image and scikit-learn") from error
            found[Path(name).stem] = _halve(image) if name == "retina.jpg" else image
    return found


def installed_folder(package: str) -> Path:
    """A folder inside an installed package. Raises StageError if the package is absent."""
    name, _, rest = package.partition("/")
    folder = installed(name)
    if folder is None:
        raise StageError(f"{name}: not installed; install the pinned environment, its images are the sample")
    return folder / rest


def _halve(image: numpy.ndarray) -> numpy.ndarray:
    """Rounded means of 2x2 pixels of uint8 [H, W, 3]."""
    height, width = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2
    blocks = image[:height, :width].reshape(height // 2, 2, width // 2, 2, 3).astype(numpy.int64)
    return ((blocks.sum((1, 3)) + 2) // 4).astype(numpy.uint8)


def cells(image: numpy.ndarray, split: str, recipe: Recipe) -> numpy.ndarray:
    """Grid cells (row, column) [K, 2] of a photograph that belong to a split.

    Every third diagonal is test; of the rest, every fifth diagonal the other way is validation.
    """
    rows, columns = image.shape[0] // recipe.cell, image.shape[1] // recipe.cell
    grid = numpy.stack(numpy.meshgrid(numpy.arange(rows), numpy.arange(columns), indexing="ij"), -1).reshape(-1, 2)
    test = grid.sum(1) % 3 == 0
    val = ~test & ((grid[:, 0] - grid[:, 1]) % 5 == 0)
    return grid[{"train": ~test & ~val, "val": val, "test": test}[split]]


def patches(image: numpy.ndarray, split: str, count: int, seed: int, recipe: Recipe) -> numpy.ndarray:
    """`count` jittered patches uint8 [count, 3, 32, 32] of one photograph."""
    random = numpy.random.RandomState(seed % 2**32)
    places = cells(image, split, recipe)
    kept: list[numpy.ndarray] = []
    while sum(map(len, kept)) < count:
        crops = _crops(image, places, count, random, recipe)
        kept.append(_jitter(crops[~_flat(crops, recipe)], random, recipe))
        if not len(kept[-1]):
            raise StageError(f"a photograph has no patch with contrast in its {split} cells; use the pinned packages")
    return numpy.concatenate(kept)[:count]


def _crops(
    image: numpy.ndarray, places: numpy.ndarray, count: int, random: numpy.random.RandomState, recipe: Recipe
) -> numpy.ndarray:
    """Random crops int64 [count, 3, 32, 32], half of them mirrored."""
    room = recipe.cell - recipe.patch - 2 * recipe.margin + 1
    corner = places[random.randint(0, len(places), count)] * recipe.cell + recipe.margin
    corner = corner + random.randint(0, room, (count, 2))
    span = numpy.arange(recipe.patch)
    columns = numpy.where(random.randint(0, 2, (count, 1)) == 1, span[::-1], span)
    rows = corner[:, :1] + span
    columns = corner[:, 1:] + columns
    return image[rows[:, :, None], columns[:, None, :]].transpose(0, 3, 1, 2).astype(numpy.int64)


def _flat(crops: numpy.ndarray, recipe: Recipe) -> numpy.ndarray:
    """Which crops have hardly any contrast, bool [N]: variance from integer sums."""
    flat = crops.reshape(len(crops), -1)
    size = flat.shape[1]
    return 100 * (size * (flat * flat).sum(1) - flat.sum(1) ** 2) < recipe.flat * size * size


def _jitter(crops: numpy.ndarray, random: numpy.random.RandomState, recipe: Recipe) -> numpy.ndarray:
    """Change gain and offset of each channel about the centre: uint8 like int64 crops [N, 3, 32, 32]."""
    gain, offset = ((_bell(random, (len(crops), 3, 1, 1)) * scale) >> 16 for scale in (recipe.gain, recipe.offset))
    values = ((crops * 1024 - recipe.centre) * (1024 + gain) >> 10) + recipe.centre + offset
    return numpy.clip((values + 512) >> 10, 0, 255).astype(numpy.uint8)


def _bell(random: numpy.random.RandomState, shape: tuple[int, ...]) -> numpy.ndarray:
    """Nearly normal integers of s.d. 65536: twelve uniforms summed, which needs no logarithm."""
    return random.randint(0, 65536, (*shape, 12)).sum(-1) - 6 * 65536


def make_cifar10(folder: Path, recipe: Recipe = Recipe()) -> list[Path]:
    """Write data_batch_1..5, test_batch and batches.meta; return their paths."""
    images = photographs()
    names = sorted(images)
    written = []
    for split, total in _totals(recipe).items():
        count = total // len(names)
        x = numpy.concatenate(
            [patches(images[name], split, count, derive_seed(recipe.seed, split, name), recipe) for name in names]
        )
        y = numpy.repeat(numpy.arange(len(names)), count)
        files = [f"{names[label]}_{split}_{number % count:05d}.png" for number, label in enumerate(y)]
        order = numpy.random.RandomState(derive_seed(recipe.seed, split) % 2**32).permutation(len(y))
        written += _write_batches(folder, split, x[order].reshape(len(y), -1), y[order], [files[i] for i in order])
    meta = folder / "batches.meta"
    artifacts.write_bytes(meta, pickles.dump_meta(names, recipe.train // 4))
    return [*written, meta]


def _write_batches(folder: Path, split: str, data: numpy.ndarray, y: numpy.ndarray, files: list[str]) -> list[Path]:
    numbers = {"train": [1, 2, 3, 4], "val": [5], "test": []}[split]
    written = []
    for part, index in enumerate(numpy.array_split(numpy.arange(len(y)), max(1, len(numbers)))):
        name, label = ("test_batch", "testing batch 1 of 1")
        if numbers:
            name, label = f"data_batch_{numbers[part]}", f"training batch {numbers[part]} of 5"
        content = pickles.dump_batch(label, y[index].tolist(), data[index], [files[i] for i in index])
        artifacts.write_bytes(folder / name, content)
        written.append(folder / name)
    return written


SMALL = Recipe(seed=2021, train=4000, val=600, test=1600)


def make_cifar100(folder: Path, recipe: Recipe = SMALL) -> list[Path]:
    """Write train, test and meta; return their paths. The last `recipe.val` images of train come from regions of their own."""
    halves = {}
    for name, image in sorted(photographs().items()):
        middle = image.shape[1] // 2
        halves |= {f"{name}_left": image[:, :middle], f"{name}_right": image[:, middle:]}
    fine, coarse = list(halves), sorted({name.rsplit("_", 1)[0] for name in halves})
    parts = {split: _split100(halves, split, total, recipe) for split, total in _totals(recipe).items()}
    written = []
    for name, label, splits in (
        ("train", "training batch 1 of 1", ("train", "val")),
        ("test", "testing batch 1 of 1", ("test",)),
    ):
        x, y, files = (numpy.concatenate([parts[split][i] for split in splits]) for i in range(3))
        above = [coarse.index(fine[label].rsplit("_", 1)[0]) for label in y]
        entries = {
            "filenames": files.tolist(),
            "batch_label": label,
            "fine_labels": y.tolist(),
            "coarse_labels": above,
            "data": x,
        }
        artifacts.write_bytes(folder / name, pickles.dump(entries))
        written.append(folder / name)
    artifacts.write_bytes(folder / "meta", pickles.dump({"fine_label_names": fine, "coarse_label_names": coarse}))
    return [*written, folder / "meta"]


def _totals(recipe: Recipe) -> dict[str, int]:
    return {"train": recipe.train, "val": recipe.val, "test": recipe.test}


def _split100(halves: dict[str, numpy.ndarray], split: str, total: int, recipe: Recipe) -> tuple[numpy.ndarray, ...]:
    """Shuffled pixels uint8 [total, 3072], fine labels [total] and file names [total] of one split."""
    count = total // len(halves)
    x = numpy.concatenate(
        [patches(image, split, count, derive_seed(recipe.seed, split, name), recipe) for name, image in halves.items()]
    )
    y = numpy.repeat(numpy.arange(len(halves)), count)
    files = numpy.array([f"{list(halves)[label]}_{split}_{i % count:05d}.png" for i, label in enumerate(y)], dtype=object)
    order = numpy.random.RandomState(derive_seed(recipe.seed, split) % 2**32).permutation(len(y))
    return x[order].reshape(len(y), -1), y[order], files[order]


def digit_counts() -> numpy.ndarray:
    """scikit-learn's 1,797 digits as int64 [N, 65]: 64 counts 0-16 and the label."""
    source = installed_folder("sklearn/datasets/data") / "digits.csv.gz"
    try:
        lines = gzip.decompress(source.read_bytes()).decode("ascii").split()
    except (OSError, EOFError, ValueError) as error:
        raise StageError(f"{source}: cannot be read; install the pinned scikit-learn") from error
    return numpy.array([[int(float(value)) for value in line.split(",")] for line in lines])


def make_digits(folder: Path) -> list[Path]:
    """Write scikit-learn's digits as the UCI test file `optdigits.tes`: 64 counts 0-16 and the label a line."""
    path = folder / "optdigits.tes"
    artifacts.write_bytes(path, "".join(",".join(map(str, row)) + "\n" for row in digit_counts().tolist()).encode("ascii"))
    return [path]


def make_mnist(folder: Path, test: int = 597, seed: int = 1998) -> list[Path]:
    """Write scikit-learn's digits, enlarged to 28x28, as the four IDX files of MNIST (not gzipped, for gzip's bytes depend
    on its build); `test` of them are t10k, the others train, classes in proportion.
    """
    table = digit_counts()
    x, y = enlarged(table[:, :64].reshape(-1, 8, 8)), table[:, 64]
    parts = stratified(y, {"t10k": test, "train": len(y) - test}, seed)
    written = []
    for part, index in parts.items():
        for kind, magic, values in (("images-idx3", 2051, x[index]), ("labels-idx1", 2049, y[index].astype(numpy.uint8))):
            header = numpy.array([magic, *values.shape], ">u4").tobytes()
            written.append(folder / f"{part}-{kind}-ubyte")
            artifacts.write_bytes(written[-1], header + values.tobytes())
    return written


def enlarged(counts: numpy.ndarray) -> numpy.ndarray:
    """Bilinear 28x28 grey levels uint8 [N, 28, 28] of counts 0-16 [N, 8, 8]; all positions are multiples of 1/14 pixel."""
    place = numpy.clip(4 * numpy.arange(28) - 5, 0, 7 * 14)  # of the centre of each new pixel: ((i + 1/2) 8/28 - 1/2) 14
    low, part = place // 14, place % 14
    high = numpy.minimum(low + 1, 7)
    rows = counts[:, low] * (14 - part)[:, None] + counts[:, high] * part[:, None]
    both = rows[:, :, low] * (14 - part) + rows[:, :, high] * part
    return ((both * 255 + 14 * 14 * 8) // (14 * 14 * 16)).astype(numpy.uint8)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write all samples below --root and print their hashes."""
    from stages.prepare import ct_samples, image_samples, restoration_samples, scene_samples, sensor_samples

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path("data/sample"), help="folder to write to")
    root = parser.parse_args(arguments).root
    try:
        paths = make_cifar10(root / "cifar10" / "cifar-10-batches-py") + make_cifar100(root / "cifar100" / "cifar-100-python")
        paths += make_digits(root / "digits") + make_mnist(root / "mnist" / "MNIST" / "raw")
        for path in paths:
            print(f"{artifacts.sha256(path)}  {path.as_posix()}")
        folders = (
            image_samples.make_all(root, photographs())
            | restoration_samples.make_all(root)
            | sensor_samples.make_all(root)
            | ct_samples.make_all(root)
            | scene_samples.make_all(root)
        )
        for folder, digest in folders.items():
            print(f"{digest}  {(root / folder).as_posix()}/")
    except (StageError, OSError) as error:
        return report(error)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
