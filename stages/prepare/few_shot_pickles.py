"""What tiered-ImageNet's pickles hold: encoded images, and the class of each."""

from __future__ import annotations

import numpy

from stages.lib.errors import StageError
from stages.prepare.pickles import text, unpickle

WHAT = "a pickle of tiered-ImageNet"
TYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8")


def images(content: bytes, path: object, most: int) -> list[bytes]:
    """The encoded images of `<part>_images_png.pkl`. Raises StageError for anything but a list of byte arrays."""
    found = unpickle(content, path, WHAT, TYPES)
    if not isinstance(found, list):
        raise StageError(f"{path}: holds a {type(found).__name__}; expected a list of encoded images")
    for row, item in enumerate(found):
        if not isinstance(item, numpy.ndarray) or item.dtype != numpy.uint8 or not 0 < item.size <= most:
            raise StageError(f"{path}: image {row}: expected 1 to {most} bytes")
    return [item.tobytes() for item in found]


def classes(content: bytes, path: object) -> list[str]:
    """The class of every image from `<part>_labels.pkl`. Raises StageError for other content."""
    found = unpickle(content, path, WHAT, TYPES)
    entries = {text(key): value for key, value in found.items()} if isinstance(found, dict) else {}
    missing = {"label_specific", "label_specific_str"} - entries.keys()
    if missing:
        raise StageError(f"{path}: lacks {', '.join(sorted(missing))}; expected the dictionary of tiered-ImageNet's labels")
    names = [text(name) for name in entries["label_specific_str"]]
    labels = numpy.asarray(entries["label_specific"])
    if (
        labels.ndim != 1
        or labels.dtype.kind not in "iu"
        or (labels.size and not 0 <= labels.min() <= labels.max() < len(names))
    ):
        raise StageError(f"{path}: label_specific: expected whole numbers 0 to {len(names) - 1}, one an image")
    return [names[label] for label in labels.tolist()]
