"""Pickles in publishers' files, read without running anything; CIFAR's batch files, written without a pickler.

A pickle is a program. The reader knows four names (an array's making, its class, its element type, a byte string), all
replaced by functions that accept only what such files need; every other name is refused.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy

from stages.lib.errors import StageError, one_line

# --- reading --------------------------------------------------------------------------------------


def _reconstruct(kind: Any, shape: Any, code: Any) -> numpy.ndarray:
    """numpy's maker of an empty array, which the pickle then fills; anything but an empty one is refused."""
    if kind is not numpy.ndarray or shape != (0,):
        raise pickle.UnpicklingError("an array is made in an unknown way")
    return numpy.ndarray((0,), numpy.uint8)


def _encode(text: Any, encoding: Any) -> bytes:
    """How Python 3 writes byte strings into a protocol 2 pickle."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError("text in an unknown encoding")
    return text.encode("latin1")


ALLOWED: dict[tuple[str, str], Callable[..., Any] | type] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): numpy.ndarray,
    ("_codecs", "encode"): _encode,
}


class _Restricted(pickle.Unpickler):
    """Knows ALLOWED and arrays of some element types."""

    def __init__(self, content: bytes, what: str, types: Sequence[str]) -> None:
        super().__init__(io.BytesIO(content), encoding="bytes")
        self.what, self.types = what, types

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("numpy", "dtype"):
            return self._dtype
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which {self.what} has no use for")
        return ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to an object outside the file")

    def _dtype(self, name: Any, *_: Any) -> numpy.dtype:
        text = name.decode("latin1") if isinstance(name, bytes) else name
        if text not in self.types:
            raise pickle.UnpicklingError(f"array of type {text!r}, expected one of {', '.join(self.types)}")
        return numpy.dtype(text)


def unpickle(content: bytes, path: object, what: str, types: Sequence[str]) -> Any:
    """What a pickle holds: lists, dictionaries, texts, numbers and arrays of these element types.

    StageError, which says `what` was expected, for anything else and for a damaged file.
    """
    try:
        return _Restricted(content, what, types).load()
    except MemoryError as error:
        raise StageError(f"{path}: refused: it claims more data than it holds") from error
    except Exception as error:  # a damaged pickle can raise nearly anything; none of it has run foreign code
        raise StageError(f"{path}: not {what} or cut short ({one_line(error)}); fetch the file again") from error


def loads(content: bytes, path: object) -> dict[str, Any]:
    """The dictionary of a batch file, keys as str. Raises StageError for anything but a plain, whole one."""
    found = unpickle(content, path, "a CIFAR batch", ("u1", "uint8"))
    if not isinstance(found, dict):
        raise StageError(f"{path}: holds a {type(found).__name__}; expected the dictionary of a CIFAR batch")
    return {text(key): value for key, value in found.items()}


def text(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)


# --- writing --------------------------------------------------------------------------------------


def dump_batch(label: str, labels: Sequence[int], data: numpy.ndarray, filenames: Sequence[str]) -> bytes:
    """A CIFAR-10 batch in the publisher's layout. data: uint8 [N, 3072], red plane, green plane, blue plane."""
    return dump({"batch_label": label, "labels": labels, "data": data, "filenames": filenames})


def dump_meta(names: Sequence[str], cases: int) -> bytes:
    """CIFAR-10's `batches.meta` in the publisher's layout."""
    return dump({"num_cases_per_batch": cases, "label_names": names, "num_vis": 3072})


def dump(entries: Mapping[str, str | int | numpy.ndarray | Sequence[int] | Sequence[str]]) -> bytes:
    """A dictionary of texts, integers, uint8 matrices and lists of texts or integers.

    Opcodes are written out here because Python's own pickler changes its choices between versions.
    """
    parts = [_string(key) + _value(value) for key, value in entries.items()]
    return b"\x80\x02}(" + b"".join(parts) + b"u."


def _value(value: str | int | numpy.ndarray | Sequence[int] | Sequence[str]) -> bytes:
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, numpy.ndarray):
        return _array(value)
    return b"](" + b"".join(_string(item) if isinstance(item, str) else _integer(int(item)) for item in value) + b"e"


def _string(text: str | bytes) -> bytes:
    raw = text.encode("latin1") if isinstance(text, str) else text
    return b"U" + bytes([len(raw)]) + raw if len(raw) < 256 else b"T" + struct.pack("<i", len(raw)) + raw


def _integer(value: int) -> bytes:
    if value < 256:
        return b"K" + bytes([value])
    return b"M" + struct.pack("<H", value) if value < 65536 else b"J" + struct.pack("<i", value)


def _array(data: numpy.ndarray) -> bytes:
    """A uint8 matrix as numpy 1 pickled it: an empty array, then its state (version, shape, type, order, bytes)."""
    make = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + _integer(0) + b"\x85" + _string("b") + b"\x87R"
    kind = b"cnumpy\ndtype\n" + _string("u1") + _integer(0) + _integer(1) + b"\x87R"
    minus_one = b"J\xff\xff\xff\xff"
    kind += b"(" + _integer(3) + _string("|") + b"NNN" + minus_one * 2 + _integer(0) + b"tb"
    shape = _integer(data.shape[0]) + _integer(data.shape[1]) + b"\x86"
    return make + b"(" + _integer(1) + shape + kind + b"\x89" + _string(data.tobytes()) + b"tb"
