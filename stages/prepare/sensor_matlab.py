"""Reading matrices from MATLAB files (version 5; scipy's reader reads data only, it cannot run code)."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from stages.lib.errors import StageError, one_line


def read(content: bytes, path: Path) -> dict[str, Any]:
    """The variables of a file by name. Raises StageError for what scipy cannot read."""
    from scipy.io import loadmat

    try:
        return loadmat(io.BytesIO(content))
    except Exception as error:  # a damaged file can raise nearly anything from the reader
        raise StageError(f"{path}: no MATLAB 5 file or cut short ({one_line(error)}); fetch it again") from error


def matrix(found: dict[str, Any], name: str, columns: int, path: Path) -> Any:
    """A variable as float64 [n, columns], n >= 1. Raises StageError for another shape or for what is no number."""
    import numpy

    if name not in found:
        held = ", ".join(sorted(key for key in found if not key.startswith("__"))) or "nothing"
        raise StageError(f"{path}: has no variable {name} (but {held}); expected the publisher's file")
    values = found[name]
    if values.dtype.kind not in "fiu" or values.ndim != 2 or values.shape[1] != columns or not len(values):
        raise StageError(f"{path}: {name} is {values.dtype} {list(values.shape)}; expected numbers [n, {columns}]")
    return values.astype(numpy.float64)
