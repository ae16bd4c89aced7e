"""Write entries of dvc.lock: by splicing text, atomically, in the order of a serial `dvc repro`.

DVC parses and dumps the whole file in pure Python for every stage (1.4 s at 400 stages) and not atomically.
An entry's text here is made by DVC's own serializer, so the bytes are those that DVC would write.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dvc.exceptions import PrettyDvcException
    from dvc.stage import PipelineStage

HEADER = "schema: '2.0'\nstages:\n"
ENTRY = re.compile(r"^  (\S.*):\n", re.MULTILINE)


def entry_text(stage: PipelineStage) -> str:
    """Return the stage's entry (name line included) exactly as DVC writes it."""
    from dvc.stage.serialize import to_lockfile
    from dvc.utils.serialize._yaml import dumps_yaml

    text = dumps_yaml({"stages": unshared(to_lockfile(stage))})
    return text.removeprefix("stages:\n")


def unshared(value: Any) -> Any:
    """Copy nested containers so that no list or mapping occurs twice.

    Parameters read from YAML with anchors share containers, which would be dumped as anchors again: fine in one
    document, but the same names would come back in every entry.
    """
    if isinstance(value, dict):
        return type(value)((key, unshared(item)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return [unshared(item) for item in value]
    return value


def split_entries(text: str) -> dict[str, str]:
    """Split a lock file's text into its entries by stage name.

    Raises:
        ValueError: the text is not laid out as DVC lays it out.
    """
    if not text:
        return {}
    if not text.startswith(HEADER):
        raise ValueError("not a lock file as DVC writes it")
    body = text[len(HEADER) :]
    starts = [*ENTRY.finditer(body)]
    if body and (not starts or starts[0].start() != 0):
        raise ValueError("not a lock file as DVC writes it")
    ends = [match.start() for match in starts[1:]] + [len(body)]
    return {match[1]: body[match.start() : end] for match, end in zip(starts, ends, strict=True)}


def splice(text: str, entries: Mapping[str, str], order: Mapping[str, int]) -> str:
    """Return `text` with `entries` replaced in place or, where one is new, all sorted by `order`.

    Names without a position (stages that are declared no more) come last, as they came.
    """
    present = split_entries(text)
    merged = {**present, **entries}
    names = list(merged)
    if len(merged) > len(present):
        names.sort(key=lambda name: order.get(name, len(order)))
    return HEADER + "".join(merged[name] for name in names)


def unreadable(error: PrettyDvcException) -> str:
    """What to do about a file that DVC cannot read, in one line."""
    path = os.path.relpath(getattr(error, "relpath", "") or error.path)  # one kind of error has the one, one the other
    advice = f"restore it with `git checkout -- {path}`, or remove it: DVC's run-cache has the results"
    return f"error: {path} cannot be read ({error}){'; ' + advice if path.endswith('.lock') else ''}"


def write_atomically(path: Path, text: str, *, new: bool = False) -> None:
    """Replace `path` by `text`: a reader, or a kill, sees the old file or the new one.

    Raises:
        FileExistsError: it was to be `new`, and is not.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        if not (new and _linked(temporary, path)):
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _linked(file: Path, path: Path) -> bool:
    """Give a file a second name; False where the file system has no links.

    Raises:
        FileExistsError: the name is taken. It is the server of a network folder that says so, not this host's memory.
    """
    try:
        os.link(file, path)
    except FileExistsError:
        raise
    except OSError:
        return False
    return True


def merge(path: Path, entries: Mapping[str, str], order: Mapping[str, int]) -> None:
    """Write entries into a lock file. Call under the repository lock.

    On a network folder a host may believe for a while that a file is absent which another host has made; its entries would be
    lost if it were written anew.

    Raises:
        ValueError: the lock file is not laid out as DVC lays it out.
    """
    for new in (not path.exists(), False):
        before = "" if new else path.read_text(encoding="utf-8")
        after = splice(before, entries, order)
        if after == before:
            return
        try:
            return write_atomically(path, after, new=new)
        except FileExistsError:
            continue


def record(stages: list[PipelineStage], order: Mapping[str, Mapping[str, int]]) -> None:
    """Record saved stages in their lock files. Call under the repository lock.

    `order` maps each dvc.yaml (absolute path) to its stages' positions. Falls back to DVC's own dump where a
    lock file is laid out by other hands.
    """
    by_file: dict[str, list[PipelineStage]] = {}
    for stage in stages:
        by_file.setdefault(stage.path, []).append(stage)
    for file, members in by_file.items():
        try:
            merge(Path(file).with_suffix(".lock"), {s.name: entry_text(s) for s in members}, order.get(file, {}))
        except ValueError:
            for stage in members:
                stage.dump(update_pipeline=False)
