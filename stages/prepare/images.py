"""Indexing photographs in class folders: what each file is, which files are refused, which are held out.

The index has one row an image; the images stay where they are.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

from stages.lib import artifacts
from stages.lib.decoding import decode
from stages.lib.errors import StageError
from stages.lib.files import SCRATCH
from stages.prepare import provenance

SUBSET = "subset"  # of the publisher's images; beside provenance's words
SUFFIXES = (".jpeg", ".jpg")
WNID = re.compile(r"n\d{8}")
COLUMNS = ("path", "class", "label", "split", "width", "height", "mode", "format", "bytes", "sha256")
CHUNK = 2000  # images between two writes of the scratch file


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    """An image of the publisher's train or val folder, and its class."""

    path: str  # below the root, with slashes
    wnid: str
    origin: str  # train or val: the publisher's division


@dataclasses.dataclass(frozen=True, slots=True)
class Facts:
    """What one file holds. `problem` says why it cannot be used, "" if it can."""

    width: int = 0
    height: int = 0
    mode: str = ""
    format: str = ""
    bytes: int = 0
    sha256: str = ""
    problem: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """The largest file (bytes) and the largest image (pixels) that are read."""

    max_bytes: int
    max_pixels: int


# --- listing --------------------------------------------------------------------------------------


def safe_name(name: str, where: str) -> str:
    """The name, if it is a plain file name. Raises StageError for a path, dots alone or unprintable characters."""
    if not name or name in (".", "..") or re.search(r"[/\\:]", name) or not name.isprintable():
        raise StageError(f"{where}: {name!r} is no plain file name; it may not lead out of its folder")
    return name


def class_folders(folder: Path) -> list[str]:
    """The wnids that are folders of `folder`, sorted. Raises StageError for other folders, or if there is none."""
    if not folder.is_dir():
        raise StageError(f"{folder}: not found; expected a folder a class in it, named by its wnid (n and eight digits)")
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    for name in names:
        if not WNID.fullmatch(name):
            raise StageError(f"{folder / name}: not a class; expected folders named by a wnid (n and eight digits)")
    if not names:
        raise StageError(f"{folder}: holds no class; expected a folder a class, named by its wnid")
    return names


def image_names(folder: Path) -> tuple[list[str], list[str]]:
    """(names of images, names of all else) in a folder, sorted. Raises StageError for names that no index can hold."""
    try:
        names = sorted(entry.name for entry in os.scandir(folder))
    except OSError as error:
        raise StageError(f"{folder}: cannot be read: {error.strerror}; expected a folder of images") from error
    images = [safe_name(name, str(folder)) for name in names if name.lower().endswith(SUFFIXES) and name[0] != "."]
    return images, sorted(set(names) - set(images))


def folder_items(root: Path, origin: str, wnids: Sequence[str]) -> tuple[list[Item], list[str]]:
    """(images of <root>/<origin>/<wnid>/ or of images/ in it, ignored files). Raises StageError for empty classes."""
    items, ignored = [], []
    for wnid in wnids:
        folder = PurePosixPath(origin, wnid)
        if not (root / folder).is_dir():
            raise StageError(f"{root / folder}: not found, though {wnid} is a class of the set; fetch the folder again")
        images, others = image_names(root / folder)
        if (root / folder / "images").is_dir():
            if images:
                raise StageError(f"{root / folder / images[0]}: beside the folder images; expected them all in one place")
            folder /= "images"
            images, others = image_names(root / folder)
        if not images:
            raise StageError(f"{root / folder}: holds no image (.JPEG); expected at least one of class {wnid}")
        for name in images:
            _check_own_class(root / folder / name, wnid)
        items += [Item(str(folder / name), wnid, origin) for name in images]
        ignored += [str(folder / name) for name in others]
    return items, ignored


def _check_own_class(path: Path, wnid: str) -> None:
    named = re.match(r"(n\d{8})_", path.name)
    if named and named[1] != wnid:
        raise StageError(f"{path}: named as an image of {named[1]} but in the folder of {wnid}; move or remove it")


def refuse_duplicates(items: Iterable[Item], root: Path) -> None:
    """Raise StageError if two images of one origin have the same file name: one image with two labels."""
    seen: dict[tuple[str, str], str] = {}
    for item in items:
        before = seen.setdefault((item.origin, PurePosixPath(item.path).name), item.path)
        if before != item.path:
            raise StageError(f"{root / item.path}: the same name as {before}; an image has one class, remove one of them")


# --- inspecting -----------------------------------------------------------------------------------


def inspect_file(path: Path, limits: Limits) -> Facts:
    """Read, hash and decode one file; what is wrong with it becomes `problem`."""
    try:
        size = path.stat().st_size
        if size > limits.max_bytes:
            return Facts(bytes=size, problem=f"{path}: {size} bytes; at most {limits.max_bytes} (max_bytes) are read")
        content = path.read_bytes()
    except OSError as error:
        return Facts(problem=f"{path}: cannot be read: {error.strerror}")
    found = Facts(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    try:
        image = decode(content, path, limits.max_pixels)
    except StageError as error:
        return dataclasses.replace(found, problem=str(error))
    return dataclasses.replace(found, width=image.width, height=image.height, mode=image.mode, format=image.format or "")


def inspect(dataset: str, root: Path, items: Sequence[Item], limits: Limits, threads: int) -> list[Facts]:
    """Facts of every item. Decoding releases Python's lock, so threads help; the result does not depend on them.

    A set of a million images takes hours: what was read is kept in a scratch file, and a second run reads only files
    that are new or changed (size, time). drop_scratch removes it.
    """
    from tqdm import tqdm

    known = _read_scratch(dataset, limits)
    marks = [_mark(root / item.path) for item in items]
    found = {item.path: known.get((item.path, mark)) for item, mark in zip(items, marks)}
    waiting = [(item.path, mark) for item, mark in zip(items, marks) if found[item.path] is None]
    if len(waiting) < len(items):
        print(f"{dataset}: {len(items) - len(waiting)} images were read by an earlier run", flush=True)
    with ThreadPoolExecutor(threads) as pool, tqdm(total=len(waiting), desc=dataset, disable=None) as bar:
        for start in range(0, len(waiting), CHUNK):
            part = waiting[start : start + CHUNK]
            facts = list(pool.map(lambda item: inspect_file(root / item[0], limits), part))
            found |= {path: fact for (path, _), fact in zip(part, facts)}
            if len(waiting) > CHUNK:
                _extend_scratch(dataset, limits, part, facts)
            bar.update(len(part))
    return [found[item.path] for item in items]


def _mark(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return (-1, -1)
    return (status.st_size, status.st_mtime_ns)


def scratch(dataset: str) -> Path:
    """The file that an unfinished inspection leaves."""
    return SCRATCH / "prepare" / f"{dataset}.jsonl"


def drop_scratch(dataset: str) -> None:
    """Remove what inspect left, once its result is written."""
    scratch(dataset).unlink(missing_ok=True)


def _header(limits: Limits) -> list[object]:
    import PIL

    return [PIL.__version__, dataclasses.asdict(limits)]


def _read_scratch(dataset: str, limits: Limits) -> dict[tuple[str, tuple[int, int]], Facts]:
    try:
        lines = [line for line in scratch(dataset).read_text().split("\n") if line]
        if json.loads(lines[0]) != _header(limits):
            raise ValueError
    except (OSError, ValueError, IndexError):  # none yet, or of another decoder
        drop_scratch(dataset)
        return {}
    known = {}
    for line in lines[1:]:
        try:
            path, mark, facts = json.loads(line)
            known[path, tuple(mark)] = Facts(**facts)
        except (ValueError, TypeError):  # cut off by the end of the run that wrote it
            continue
    return known


def _extend_scratch(dataset: str, limits: Limits, part: Sequence[tuple[str, tuple[int, int]]], facts: list[Facts]) -> None:
    path = scratch(dataset)
    lines = [json.dumps([*item, dataclasses.asdict(fact)]) for item, fact in zip(part, facts)]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as handle:
            if not handle.tell():
                lines.insert(0, json.dumps(_header(limits)))
            handle.write("\n" + "\n".join(lines))  # begins with a line end: the last line may have been cut off
    except OSError as error:
        raise StageError(f"{path}: cannot be written: {error.strerror}; free some space and run again") from error


# --- judging --------------------------------------------------------------------------------------


def leave_out_damaged(
    items: Sequence[Item], facts: Sequence[Facts], listed: Sequence[str], root: Path
) -> tuple[list[tuple[Item, Facts]], list[str]]:
    """(usable images, paths left out). Raises StageError naming files with a problem that are not listed.

    `listed` holds file names (params.damaged). A listed file that is whole is used.
    """
    bad = [(item, fact.problem) for item, fact in zip(items, facts) if fact.problem]
    unlisted = [problem for item, problem in bad if PurePosixPath(item.path).name not in listed]
    if unlisted:
        more = f"; so are {len(unlisted) - 1} more, e.g. {unlisted[1].split(': ')[0]}" if len(unlisted) > 1 else ""
        raise StageError(f"{unlisted[0]}, or list its name under damaged{more}")
    for _, problem in bad:
        print(f"left out as listed: {problem}", flush=True)
    kept = [(item, fact) for item, fact in zip(items, facts) if not fact.problem]
    whole = {(item.origin, item.wnid) for item, _ in kept}
    for item, _ in bad:
        if (item.origin, item.wnid) not in whole:
            raise StageError(f"{root / item.origin}: every image of class {item.wnid} is damaged; fetch them again")
    return kept, [item.path for item, _ in bad]


def settle_origin(
    source: str,
    root: Path,
    kept: Sequence[tuple[Item, Facts]],
    inputs: Sequence[Path],
    pinned: str,
    counted: tuple[str, str],
) -> tuple[str, str]:
    """(what the files are, why): the embedded sample if every byte is its, else what their numbers say (`counted`).

    Raises StageError for the sample under data/publisher, and for anything else under data/sample.
    """
    kind, why = counted
    if fingerprint(kept, inputs, root) == pinned:
        kind, why = provenance.EMBEDDED, "as pinned"
    provenance.refuse_misplaced(kind if kind == provenance.EMBEDDED else provenance.REMADE, source, root)
    return kind, why


def by_source(values: Mapping[str, Any], source: str, name: str) -> Any:
    """A parameter's value for this source. Raises StageError if it has none."""
    if source not in values:
        raise StageError(f"params.{name} has no value for source={source}; add one")
    return values[source]


def fingerprint(kept: Sequence[tuple[Item, Facts]], inputs: Sequence[Path], root: Path) -> str:
    """SHA-256 over sorted lines "<sha256>  <path below root>" of images and annotation files."""
    lines = [f"{fact.sha256}  {item.path}\n" for item, fact in kept]
    lines += [f"{artifacts.sha256(path)}  {path.relative_to(root).as_posix()}\n" for path in inputs]
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def class_counts(items: Iterable[Item]) -> dict[str, Counter[str]]:
    """Images by origin and wnid."""
    counts: dict[str, Counter[str]] = {"train": Counter(), "val": Counter()}
    for item in items:
        counts[item.origin][item.wnid] += 1
    return counts


def repeated(kept: Sequence[tuple[Item, Facts]]) -> dict[str, int]:
    """How many files repeat another one byte for byte: within train, within val, and from train to val."""
    sums = {origin: Counter(fact.sha256 for item, fact in kept if item.origin == origin) for origin in ("train", "val")}
    within = {origin: sum(times - 1 for times in sums[origin].values()) for origin in sums}
    return within | {"train_and_val": len(sums["train"].keys() & sums["val"].keys())}


# --- dividing and writing -------------------------------------------------------------------------


def hold_out(items: Sequence[Item], share: float, seed: int, how: str = "random") -> list[str]:
    """A split for each item: the publisher's val is test; a share of every class of train is val.

    how: `random`, or `last` for the last ones of a class by the numbers in their names.
    Raises StageError if a class is left without an image in train or val.
    """
    if how not in ("random", "last"):
        raise StageError(f"held_out={how}: expected random or last")
    train = [place for place, item in enumerate(items) if item.origin == "train"]
    held = _held_randomly(items, train, share, seed) if how == "random" else _held_last(items, train, share)
    splits = ["test" if item.origin == "val" else "val" if place in held else "train" for place, item in enumerate(items)]
    for split in ("train", "val"):
        present = {item.wnid for item, found in zip(items, splits) if found == split}
        absent = sorted({items[place].wnid for place in train} - present)
        if absent:
            raise StageError(f"val_share={share} leaves class {absent[0]} without an image in {split}; change it or add images")
    return splits


def _held_randomly(items: Sequence[Item], train: Sequence[int], share: float, seed: int) -> set[int]:
    import numpy

    from stages.lib.data import stratified

    _, y = numpy.unique([items[place].wnid for place in train], return_inverse=True)
    chosen = stratified(y, {"val": round(len(train) * share)}, seed)["val"]
    return {train[place] for place in chosen.tolist()}


def _held_last(items: Sequence[Item], train: Sequence[int], share: float) -> set[int]:
    members: dict[str, list[int]] = {}
    for place in sorted(train, key=lambda place: _numbers(items[place].path)):
        members.setdefault(items[place].wnid, []).append(place)
    return {place for places in members.values() for place in places[len(places) - round(len(places) * share) :]}


def _numbers(path: str) -> tuple[list[int], str]:
    return [int(digits) for digits in re.findall(r"\d+", PurePosixPath(path).name)], path


def write_index(path: Path, kept: Sequence[tuple[Item, Facts]], splits: Sequence[str], wnids: Sequence[str]) -> dict[str, int]:
    """Write one row an image (COLUMNS), in the items' order; returns the images of each split. Labels count sorted wnids."""
    labels = {wnid: label for label, wnid in enumerate(wnids)}
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for (item, fact), split in zip(kept, splits):
        shape = (fact.width, fact.height, fact.mode, fact.format, fact.bytes, fact.sha256)
        writer.writerow((item.path, item.wnid, labels[item.wnid], split, *shape))
    artifacts.write_bytes(path, buffer.getvalue().encode())
    found = Counter(splits)
    return {split: found[split] for split in ("train", "val", "test")}


def about_files(kept: Sequence[tuple[Item, Facts]], left_out: Sequence[str], ignored: Sequence[str]) -> dict[str, object]:
    """What the manifest says of the files: modes, formats, sizes, repeats, what was left out or is no image."""
    return {
        "modes": _tally(fact.mode for _, fact in kept),
        "formats": _tally(fact.format for _, fact in kept),
        "widths": [min(fact.width for _, fact in kept), max(fact.width for _, fact in kept)],
        "heights": [min(fact.height for _, fact in kept), max(fact.height for _, fact in kept)],
        "bytes": sum(fact.bytes for _, fact in kept),
        "repeated": repeated(kept),
        "left_out": list(left_out),
        "ignored": [name.encode("ascii", "backslashreplace").decode() for name in ignored],
    }


def _tally(words: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(words).items()))


def say(dataset: str, about: Mapping[str, object]) -> None:
    """Print what is unusual about the files."""
    for key in ("modes", "formats", "repeated"):
        print(f"{dataset}: {key} {', '.join(f'{name} {count}' for name, count in about[key].items())}", flush=True)
    for key in ("left_out", "ignored"):
        if about[key]:
            print(f"{dataset}: {key.replace('_', ' ')}: {len(about[key])} files, e.g. {about[key][0]}", flush=True)
