"""Readable refusal of bad architecture records.

A record comes from a file (the metadata of a safetensors file, a params file), so everything in it is checked before
a layer is built.
"""

from typing import Any

from stages.lib.errors import StageError

LARGEST = 1 << 20  # far above any real width; a typing error must not allocate the machine away


def refuse(where: str, expected: str, got: Any) -> StageError:
    """The error for a wrong entry `where` of an architecture record; callers write `raise refuse(...)`."""
    return StageError(
        f"architecture record, {where}: expected {expected}, got {str(got)[:60]!r}; rebuild the file that holds it "
        "or correct the params file"
    )


def keys(record: Any, names: set[str], where: str) -> dict:
    """`record` itself, after checking that it is a mapping with exactly the keys `names`."""
    if not isinstance(record, dict):
        raise refuse(where, f"a mapping with the keys {', '.join(sorted(names))}", record)
    if record.keys() != names:
        raise refuse(where, f"exactly the keys {', '.join(sorted(names))}", ", ".join(sorted(map(str, record))))
    return record


def integer(value: Any, where: str, least: int = 1) -> int:
    """`value` itself, after checking that it is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= LARGEST:
        raise refuse(where, f"a whole number from {least} to {LARGEST}", value)
    return value


def integers(value: Any, where: str, lengths: tuple[int, ...] | None = None) -> list[int]:
    """`value` itself, after checking that it is a list of positive whole numbers, of one of the given lengths."""
    if not isinstance(value, list) or not value or (lengths and len(value) not in lengths):
        raise refuse(where, f"a list of {' or '.join(map(str, lengths or ('some',)))} whole numbers", value)
    return [integer(v, f"{where}[{i}]") for i, v in enumerate(value)]


def boolean(value: Any, where: str) -> bool:
    """`value` itself, after checking that it is true or false."""
    if not isinstance(value, bool):
        raise refuse(where, "true or false", value)
    return value
