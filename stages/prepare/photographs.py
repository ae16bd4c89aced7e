"""Writing prepared sets of photographs: which files are refused, one array of pixels a split, an index, the manifest.

The reader is stages.lib.restoration.sets.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy

from stages.lib import artifacts
from stages.lib.data import PREPARED, SPLITS
from stages.lib.decoding import decode, to_rgb
from stages.lib.errors import StageError
from stages.lib.restoration.sets import CLEAN, COLUMNS, RAINY, STREAKS
from stages.prepare import images, provenance

SUFFIXES = (".png", ".jpg", ".jpeg")
ALPHA = ("RGBA", "LA", "PA", "La", "RGBa")
PNG_DEPTH = 24  # the byte of a PNG file that says how many bits a channel has


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """An image file: where it lies below the root, and what it becomes."""

    path: str
    split: str
    group: str
    name: str
    kind: str  # clean, x2, x3, x4, rainy, streaks


@dataclasses.dataclass(frozen=True, slots=True)
class Origin:
    """What a stage knows of its files before it reads them."""

    source: str
    root: Path
    pinned: str  # one SHA-256 over the embedded sample
    counted: tuple[str, str]  # official, subset or re-made by numbers; why
    ignored: list[str]


# --- listing --------------------------------------------------------------------------------------


def stems(folder: Path, pattern: str = r"(.+)") -> dict[str, str]:
    """File names of images by what the pattern's group finds in the name without suffix, in natural order.

    Raises StageError for an unreadable folder and for two files of one name.
    """
    found: dict[str, str] = {}
    for name in _names(folder):
        stem, _, suffix = name.rpartition(".")
        match = re.fullmatch(pattern, stem)
        if f".{suffix}".lower() not in SUFFIXES or not match:
            continue
        images.safe_name(name, str(folder))
        if match[1] in found:
            raise StageError(f"{folder / name}: the same image as {found[match[1]]} by its name; remove one of them")
        found[match[1]] = name
    return dict(sorted(found.items(), key=lambda item: natural(item[0])))


def natural(name: str) -> list[tuple[int, str]]:
    """Sort key that counts the numbers in a name."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.findall(r"[0-9]+|[^0-9]+", name)]


def partners(folder: Path, names: Iterable[str], found: Mapping[str, str], what: str) -> list[str]:
    """The file of each name. Raises StageError for the first name without one."""
    for name in names:
        if name not in found:
            raise StageError(f"{folder}: no {what} of {name}; fetch it, or remove the others")
    return [found[name] for name in names]


def ignored(root: Path, entries: Sequence[Entry]) -> list[str]:
    """Files below the root that are no entry, sorted."""
    used = {entry.path for entry in entries}
    every = (path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    return sorted(name for name in every if name not in used)


def _names(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith("."))
    except OSError as error:
        raise StageError(f"{folder}: cannot be read: {error.strerror}; expected a folder of images") from error


# --- refusing -------------------------------------------------------------------------------------


def inspect(
    dataset: str, root: Path, entries: Sequence[Entry], limits: images.Limits, least_side: int, threads: int
) -> list[images.Facts]:
    """Facts of every file. Raises StageError naming the first that is damaged, too large or small, of 16 bits, transparent."""
    items = [images.Item(entry.path, entry.group, entry.split) for entry in entries]
    facts = images.inspect(dataset, root, items, limits, threads)
    for entry, fact in zip(entries, facts):
        if fact.problem:
            raise StageError(fact.problem)
        _refuse_unfit(root / entry.path, fact)
        if entry.kind == CLEAN and min(fact.width, fact.height) < least_side:
            size = f"{fact.width} x {fact.height} pixels"
            raise StageError(f"{root / entry.path}: {size}; expected {least_side} a side or more (params.least_side)")
    _check_sizes(root, entries, facts)
    return facts


def _refuse_unfit(path: Path, fact: images.Facts) -> None:
    """Raise StageError for 16 bits a channel, which Pillow cuts off silently, and for visible transparency."""
    with path.open("rb") as handle:
        depth = handle.read(PNG_DEPTH + 1)[PNG_DEPTH]
    if fact.format == "PNG" and depth == 16:
        raise StageError(f"{path}: 16 bits a channel; expected 8, convert it")
    if fact.mode not in (*ALPHA, "P"):
        return
    image = decode(artifacts.read_bytes(path), path)
    transparent = image.mode in ALPHA or "transparency" in image.info
    if transparent and image.convert("RGBA").getchannel("A").getextrema()[0] < 255:
        raise StageError(f"{path}: has transparent pixels, which have no colour; put it on a background")


def _check_sizes(root: Path, entries: Sequence[Entry], facts: Sequence[images.Facts]) -> None:
    """Raise StageError for a corrupted image whose size does not fit its clean one."""
    sizes = {(e.split, e.group, e.name): (f.width, f.height) for e, f in zip(entries, facts) if e.kind == CLEAN}
    for entry, fact in zip(entries, facts):
        width, height = sizes[entry.split, entry.group, entry.name]
        factor = 1 if entry.kind in (CLEAN, RAINY, STREAKS) else int(entry.kind[1:])
        if (fact.width, fact.height) != (width // factor, height // factor):
            wanted = f"{width // factor} x {height // factor} beside a clean image of {width} x {height}"
            raise StageError(f"{root / entry.path}: {fact.width} x {fact.height} pixels; expected {wanted}")


# --- writing --------------------------------------------------------------------------------------


def write(
    dataset: str,
    entries: Sequence[Entry],
    facts: Sequence[images.Facts],
    origin: Origin,
    params: Any,
    division: str,
    splits: Sequence[str] = SPLITS,
) -> None:
    """Write runs/prepare/<dataset>/<split>.npy, index.csv and the manifest. Raises StageError for files of wrong origin.

    params go into the manifest; `division` says there how the splits came about.
    """
    folder, root = PREPARED / dataset, origin.root
    kept = [(images.Item(entry.path, entry.group, entry.split), fact) for entry, fact in zip(entries, facts)]
    kind, why = images.settle_origin(origin.source, root, kept, [], origin.pinned, origin.counted)
    print(f"{dataset}: {len(entries)} images in {root} ({kind}: {why})", flush=True)
    about = _about(entries, facts, origin.ignored)
    print(f"{dataset}: modes {', '.join(f'{name} {count}' for name, count in about['modes'].items())}", flush=True)
    (folder / "manifest.json").unlink(missing_ok=True)  # a folder with a manifest is a complete one
    rows: list[dict[str, object]] = []
    for split in splits:
        chosen = [(entry, fact) for entry, fact in zip(entries, facts) if entry.split == split]
        rows += _write_split(folder / f"{split}.npy", root, chosen)
    _write_index(folder / "index.csv", rows)
    artifacts.write_manifest(
        folder / "manifest.json",
        outputs=[folder / name for name in ("index.csv", *(f"{split}.npy" for split in splits))],
        config={"source": origin.source, "params": dataclasses.asdict(params)},
        dataset=dataset,
        source=origin.source,
        root=root.as_posix(),
        files=kind,
        files_because=why,
        counts=_counts(entries, splits),
        sha256=images.fingerprint(kept, [], root),
        split=division,
        about=about,
    )
    images.drop_scratch(dataset)


def _write_split(path: Path, root: Path, chosen: Sequence[tuple[Entry, images.Facts]]) -> list[dict[str, object]]:
    """Write the pixels of a split, an image at a time; returns its rows of the index."""
    rows, offset = [], 0
    total = sum(3 * fact.width * fact.height for _, fact in chosen)
    with artifacts.atomic(path) as temporary, temporary.open("wb") as handle:
        numpy.lib.format.write_array_header_1_0(handle, {"descr": "|u1", "fortran_order": False, "shape": (total,)})
        for entry, fact in chosen:
            handle.write(_pixels(root / entry.path, entry.kind).tobytes())
            values = (entry.split, entry.group, entry.name, entry.kind, fact.height, fact.width, offset)
            rows.append(dict(zip(COLUMNS, values)))
            offset += 3 * fact.width * fact.height
    return rows


def _pixels(path: Path, kind: str) -> numpy.ndarray:
    """uint8 [H, W, 3]; grey is repeated, and layers of rain are made grey."""
    image = decode(artifacts.read_bytes(path), path)
    return numpy.asarray(to_rgb(image.convert("L") if kind == STREAKS else image))


def _write_index(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    artifacts.write_bytes(path, buffer.getvalue().encode())


def _counts(entries: Sequence[Entry], splits: Sequence[str]) -> dict[str, dict[str, dict[str, int]]]:
    """Images by split, group and kind."""
    found: dict[str, dict[str, dict[str, int]]] = {split: {} for split in splits}
    for (split, group, kind), count in sorted(Counter((e.split, e.group, e.kind) for e in entries).items()):
        found[split].setdefault(group, {})[kind] = count
    return found


def _about(entries: Sequence[Entry], facts: Sequence[images.Facts], ignored_files: Sequence[str]) -> dict[str, Any]:
    """What the manifest says of the files."""
    splits: dict[str, set[str]] = {}
    for entry, fact in zip(entries, facts):
        splits.setdefault(fact.sha256, set()).add(entry.split)
    return {
        "modes": dict(sorted(Counter(fact.mode for fact in facts).items())),
        "widths": [min(fact.width for fact in facts), max(fact.width for fact in facts)],
        "heights": [min(fact.height for fact in facts), max(fact.height for fact in facts)],
        "bytes": sum(fact.bytes for fact in facts),
        "files_in_two_splits": sum(len(found) > 1 for found in splits.values()),
        "ignored": [name.encode("ascii", "backslashreplace").decode() for name in ignored_files],
    }


def held_out(names: Sequence[str], count: int, folder: Path) -> set[str]:
    """The last `count` names, which become val. Raises StageError if that leaves nothing to train on."""
    if not 0 < count < len(names):
        raise StageError(f"{folder}: {len(names)} images, of which {count} (params.val_count) are held out; expected fewer")
    return set(names[-count:])


def count_kind(found: Sequence[str], official: Sequence[str], text: str) -> tuple[str, str]:
    """(official, subset or re-made; why) from names: publishers of photographs list no hash a file."""
    if sorted(found) == sorted(official):
        return provenance.OFFICIAL, text
    return (images.SUBSET if set(found) <= set(official) else provenance.REMADE), f"{text}; officially {len(official)}"


def count_sets(entries: Sequence[Entry], official: Mapping[str, int]) -> tuple[str, str]:
    """(official, subset or re-made; why), from the numbers of images of each group."""
    counts = Counter(entry.group for entry in entries if entry.kind == CLEAN)
    text = ", ".join(f"{name} {count} of {official.get(name, 'unknown')}" for name, count in sorted(counts.items())) + " images"
    if any(count > official.get(name, 0) for name, count in counts.items()):
        return provenance.REMADE, text
    whole = all(count == official[name] for name, count in counts.items())
    return (provenance.OFFICIAL if whole else images.SUBSET), text
