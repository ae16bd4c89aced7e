"""The embedded samples of DIV2K, of the benchmarks and of the rain sets: crops of photographs, in the publishers' layouts.

Every photograph belongs to one split. Grey photographs are written as grey files.
"""

from __future__ import annotations

from pathlib import Path

import numpy

from stages.lib import artifacts
from stages.lib.errors import StageError
from stages.lib.restoration.rain import streaks
from stages.lib.runtime import derive_seed
from stages.prepare.image_samples import digest, png
from stages.prepare.samples import installed_folder

SEED = 2101
SIDE = {"train": 324, "test": 256, "rain": 160}  # largest height and width
FACTORS = (2, 3, 4)
SKLEARN = ("china.jpg", "flower.jpg")
# A word behind a colon takes a half of a photograph, or makes it smaller by a whole factor.
TRAIN = ("astronaut.png", "motorcycle_left.png:left", "motorcycle_left.png:right", "ihc.png", "retina.jpg:4",
         "hubble_deep_field.jpg", "brick.png", "grass.png", "page.png", "text.png")  # fmt: skip
VAL = ("camera.png", "china.jpg:left", "china.jpg:right")  # the last ones of DIV2K_train_HR
VALID = ("moon.png",)
TEST = ("coffee.png", "chelsea.png", "rocket.jpg", "flower.jpg", "gravel.png", "coins.png")
RAINY_TRAIN = ("astronaut.png", "motorcycle_left.png", "ihc.png", "brick.png", "page.png")
RAINY_VAL = ("camera.png", "china.jpg:left")
RAINY_TEST = ("coffee.png", "chelsea.png", "rocket.jpg", "flower.jpg")


def make_all(root: Path) -> dict[str, str]:
    """Write div2k/, benchmarks/ and rain/ below root; returns one SHA-256 by folder, as image_samples.digest."""
    files = {"div2k": div2k(), "benchmarks": benchmarks(), "rain": rain()}
    for folder, contents in files.items():
        for name, content in contents.items():
            artifacts.write_bytes(root / folder / name, content, durable=False)
    return {folder: digest(contents) for folder, contents in files.items()}


def photograph(name: str, side: int) -> numpy.ndarray:
    """The middle of an installed photograph, at most side x side: uint8 [H, W, 3], or [H, W] if it is grey."""
    from PIL import Image

    file, _, part = name.partition(":")
    path = installed_folder("sklearn/datasets/images" if file in SKLEARN else "skimage/data") / file
    try:
        image = Image.open(path)
        image = numpy.asarray(image.reduce(int(part)) if part.isdigit() else image)
    except OSError as error:
        raise StageError(f"{path}: cannot be read; install the pinned scikit-image and scikit-learn") from error
    half = image.shape[1] // 2
    return middle({"left": image[:, :half], "right": image[:, half:]}.get(part, image), side)


def middle(image: numpy.ndarray, side: int) -> numpy.ndarray:
    """The central [h, w, ...] of an image, h and w at most `side`."""
    spans = []
    for length in image.shape[:2]:
        start = max(0, (length - side) // 2)
        spans.append(slice(start, min(length, start + side)))
    return image[tuple(spans)]


def div2k() -> dict[str, bytes]:
    """Contents by path: DIV2K_train_HR with the validation photographs last, and DIV2K_valid_HR."""
    found = {}
    for folder, names, first in (("train", TRAIN + VAL, 1), ("valid", VALID, 801)):
        for number, name in enumerate(names, first):
            found[f"DIV2K_{folder}_HR/{number:04d}.png"] = png(photograph(name, SIDE["train"]))
    return found


def benchmarks() -> dict[str, bytes]:
    """Contents by path below benchmark/Photographs: HR and LR_bicubic/X2, X3, X4."""
    found = {}
    for file in TEST:
        image, name = photograph(file, SIDE["test"]), Path(file).stem
        found[f"benchmark/Photographs/HR/{name}.png"] = png(image)
        for factor in FACTORS:
            found[f"benchmark/Photographs/LR_bicubic/X{factor}/{name}x{factor}.png"] = png(reduced(image, factor))
    return found


def reduced(image: numpy.ndarray, factor: int) -> numpy.ndarray:
    """The bicubic reduction of a uint8 image whose last rows and columns beyond a multiple are cut off."""
    import torch

    from stages.lib.restoration.degrade import crop_to_multiple, downscale

    planes = torch.from_numpy(numpy.atleast_3d(image).transpose(2, 0, 1).copy())
    small = downscale(crop_to_multiple(planes, factor), factor).permute(1, 2, 0).numpy()
    return small if image.ndim == 3 else small[:, :, 0]


def rain() -> dict[str, bytes]:
    """Contents by path: RainTrainL with its layers of streaks, and Rain100L."""
    found: dict[str, bytes] = {}
    for number, file in enumerate(RAINY_TRAIN + RAINY_VAL, 1):
        clean, rainy, layer = _rained(file)
        for stem, image in (("norain", clean), ("rain", rainy), ("rainstreak", layer)):
            found[f"RainTrainL/{stem}-{number}.png"] = png(image)
    for number, file in enumerate(RAINY_TEST, 1):
        clean, rainy, _ = _rained(file)
        found |= {f"Rain100L/norain-{number:03d}.png": png(clean), f"Rain100L/rainy/rain-{number:03d}.png": png(rainy)}
    return found


def _rained(file: str) -> tuple[numpy.ndarray, ...]:
    """(clean, rainy, streaks) of the middle of a photograph."""
    clean = photograph(file, SIDE["rain"])
    layer = streaks(*clean.shape[:2], derive_seed(SEED, file))
    added = clean.astype(numpy.int64) + (layer[:, :, None] if clean.ndim == 3 else layer)
    return clean, numpy.minimum(added, 255).astype(numpy.uint8), layer
