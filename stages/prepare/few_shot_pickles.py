"""tiered-ImageNet's pickles, read without running anything: lists and dictionaries of texts, numbers and arrays of integers.

A pickle is a program. Four names are known, all replaced by functions that accept only what these files need; every other
name is refused.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy

from stages.lib.errors import StageError, one_line

TYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8")


def _reconstruct(kind: Any, shape: Any, code: Any) -> numpy.ndarray:
    """numpy's maker of an empty array, which the pickle then fills."""
    if kind is not numpy.ndarray or shape != (0,):
        raise pickle.UnpicklingError("an array is made in an unknown way")
    return numpy.ndarray((0,), numpy.uint8)


def _dtype(name: Any, *_: Any) -> numpy.dtype:
    text = name.decode("latin1") if isinstance(name, bytes) else name
    if text not in TYPES:
        raise pickle.UnpicklingError(f"array of type {text!r}, expected integers")
    return numpy.dtype(text)


def _encode(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError("text in an unknown encoding")
    return text.encode("latin1")


ALLOWED: dict[tuple[str, str], Callable[..., Any] | type] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): numpy.ndarray,
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _encode,
}


class _Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which these files have no use for")
        return ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to an object outside the file")


def _load(content: bytes, path: object) -> Any:
    try:
        return _Restricted(io.BytesIO(content), encoding="bytes").load()
    except MemoryError as error:
        raise StageError(f"{path}: refused: it claims more data than it holds") from error
    except Exception as error:  # a damaged pickle can raise nearly anything; none of it has run foreign code
        raise StageError(f"{path}: not an intact pickle ({one_line(error)}); fetch the file again") from error


def images(content: bytes, path: object, most: int) -> list[bytes]:
    """The encoded images of `<part>_images_png.pkl`. Raises StageError for anything but a list of byte arrays."""
    found = _load(content, path)
    if not isinstance(found, list):
        raise StageError(f"{path}: holds a {type(found).__name__}; expected a list of encoded images")
    for row, item in enumerate(found):
        if not isinstance(item, numpy.ndarray) or item.dtype != numpy.uint8 or not 0 < item.size <= most:
            raise StageError(f"{path}: image {row}: expected 1 to {most} bytes")
    return [item.tobytes() for item in found]


def classes(content: bytes, path: object) -> list[str]:
    """The class of every image from `<part>_labels.pkl`. Raises StageError for other content."""
    found = _load(content, path)
    entries = {_text(key): value for key, value in found.items()} if isinstance(found, dict) else {}
    missing = {"label_specific", "label_specific_str"} - entries.keys()
    if missing:
        raise StageError(f"{path}: lacks {', '.join(sorted(missing))}; expected the dictionary of tiered-ImageNet's labels")
    names = [_text(name) for name in entries["label_specific_str"]]
    labels = numpy.asarray(entries["label_specific"])
    if (
        labels.ndim != 1
        or labels.dtype.kind not in "iu"
        or (labels.size and not 0 <= labels.min() <= labels.max() < len(names))
    ):
        raise StageError(f"{path}: label_specific: expected whole numbers 0 to {len(names) - 1}, one an image")
    return [names[label] for label in labels.tolist()]


def _text(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)
