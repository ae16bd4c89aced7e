"""Writing prepared sets of sensor windows: which files they are, the split by group, windows.npz and the manifest.

The reader is stages.lib.sensors.windows.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy

from stages.lib import artifacts
from stages.lib.data import PREPARED, SPLITS
from stages.lib.errors import StageError
from stages.lib.sensors.windows import ARRAYS
from stages.prepare import provenance
from stages.prepare.sensor_recordings import Recording, Treatment, check_cutting, cut, treat

GENERATED = "generated sample"


class Files:
    """Reads files below a root, of at most max_bytes, and keeps their hashes."""

    def __init__(self, root: Path, max_bytes: int) -> None:
        self.root, self.max_bytes = root, max_bytes
        self.sums: dict[str, str] = {}

    def read(self, name: str) -> bytes:
        """All bytes of a file. Raises StageError if it is absent, empty or too large."""
        path = self.root / name
        try:
            size = path.stat().st_size
        except OSError as error:
            raise StageError(f"{path}: cannot be read: {error.strerror}; fetch the data set again") from error
        if not 0 < size <= self.max_bytes:
            raise StageError(f"{path}: {size} bytes; expected 1 to {self.max_bytes} (params.max_bytes)")
        content = artifacts.read_bytes(path)
        self.sums[name] = hashlib.sha256(content).hexdigest()
        return content

    def fingerprint(self) -> str:
        """SHA-256 over the sorted lines "<sha256>  <path>" of what was read."""
        return hashlib.sha256("".join(sorted(f"{one}  {name}\n" for name, one in self.sums.items())).encode()).hexdigest()


@dataclasses.dataclass(frozen=True)
class Collected:
    """All windows of a set, and what the manifest says of it."""

    arrays: dict[str, numpy.ndarray]  # of ARRAYS, all but split
    recordings: list[str]
    classes: Sequence[str]
    channels: Sequence[str]
    rate_hz: float
    people: dict[int, dict[str, float]]
    grouping: str
    about: dict[str, Any]


def collect(
    recordings: Sequence[Recording], how: Treatment, window: int, stride: int, channels: Sequence[str]
) -> tuple[dict[str, numpy.ndarray], dict[str, Any]]:
    """(arrays of all windows, notes on the recordings). Raises StageError if no recording is long enough."""
    check_cutting(window, stride)
    parts: dict[str, list[numpy.ndarray]] = {name: [] for name in ARRAYS if name != "split"}
    short = []
    for number, one in enumerate(recordings):
        found = cut(treat(one.values, how, one.name, channels), window, stride)
        if not len(found.start):
            short.append(one.name)
        numbers = {"y": one.activity, "subject": one.subject, "group": one.group, "recording": number}
        parts["x"].append(found.x)
        parts["start"].append(found.start)
        for name, value in numbers.items():
            parts[name].append(numpy.full(len(found.start), value, dtype=numpy.int64))
    if len(short) == len(recordings):
        raise StageError(f"no recording has {window} samples (params.window); shorten the window")
    arrays = {name: numpy.concatenate(items) for name, items in parts.items()}
    still = [one.name for one in recordings if (numpy.ptp(one.values, axis=0) == 0).any()]
    return arrays, {"too_short": short, "with_a_constant_channel": still}


def split_groups(group: numpy.ndarray, shares: dict[str, float], fixed_test: numpy.ndarray | None = None) -> numpy.ndarray:
    """0 train, 1 val, 2 test for each window, int64 [N]: the last groups by number are test, those before them val.

    At least one group each. `fixed_test` marks windows of the publisher's own test set. Raises StageError for too few.
    """
    names = numpy.unique(group if fixed_test is None else group[~fixed_test])
    test = 0 if fixed_test is not None else max(1, round(len(names) * shares["test"]))
    val = max(1, round(len(names) * shares["val"]))
    if len(names) <= test + val:
        raise StageError(f"{len(names)} subjects or blocks, of which {test} are for test and {val} for val; use more")
    tested = numpy.isin(group, names[len(names) - test :]) if fixed_test is None else fixed_test
    held = numpy.isin(group, names[len(names) - test - val : len(names) - test])
    return numpy.where(tested, 2, numpy.where(held, 1, 0)).astype(numpy.int64)


def write(
    dataset: str,
    found: Collected,
    split: numpy.ndarray,
    *,
    files: Files,
    source: str,
    pinned: str,
    counted: tuple[str, str],
    params: Any,
    division: str,
) -> None:
    """Write runs/prepare/<dataset>/windows.npz and the manifest.

    `pinned` is the embedded sample's fingerprint, `counted` what numbers say of other files, `division` how the splits
    came about. Raises StageError for files of wrong origin and for channels or classes that cannot be used.
    """
    kind, why = (GENERATED, "as pinned; no sensor data ships with any dependency") if files.fingerprint() == pinned else counted
    origin = provenance.EMBEDDED if kind == GENERATED else provenance.REMADE
    provenance.refuse_misplaced(origin, source, files.root)
    refuse_unusable(found, split, files.root)
    print(f"{dataset}: {len(split)} windows of {len(found.recordings)} recordings in {files.root} ({kind}: {why})", flush=True)
    about = {"root": files.root.as_posix(), "files": kind, "files_because": why, "sha256": files.fingerprint()}
    save(dataset, found, split, source=source, config={"source": source, "params": dataclasses.asdict(params)},
         division=division, **about)  # fmt: skip


def save(
    dataset: str, found: Collected, split: numpy.ndarray, *, source: str, config: Any, division: str, **about: Any
) -> None:
    """Write runs/prepare/<dataset>/windows.npz and the manifest, in which `about` stands as it is."""
    folder, arrays = PREPARED / dataset, found.arrays | {"split": split}
    (folder / "manifest.json").unlink(missing_ok=True)  # a folder with a manifest is a complete one
    artifacts.write_npz(folder / "windows.npz", **arrays)
    groups = {name: sorted(set(arrays["group"][split == place].tolist())) for place, name in enumerate(SPLITS)}
    artifacts.write_manifest(
        folder / "manifest.json",
        outputs=[folder / "windows.npz"],
        config=config,
        dataset=dataset,
        source=source,
        classes=list(found.classes),
        channels=list(found.channels),
        rate_hz=found.rate_hz,
        shape=list(arrays["x"].shape[1:]),
        subjects={str(number): known for number, known in sorted(found.people.items())},
        recordings=found.recordings,
        grouping=found.grouping,
        counts={name: int((split == place).sum()) for place, name in enumerate(SPLITS)},
        split=division,
        about=found.about | {"groups": groups, "windows_by_class": _by_class(arrays["y"], found.classes)},
        **about,
    )


def _by_class(y: numpy.ndarray, classes: Sequence[str]) -> dict[str, int]:
    counts = Counter(y.tolist())
    return {name: counts[label] for label, name in enumerate(classes)}


def refuse_unusable(found: Collected, split: numpy.ndarray, root: Path) -> None:
    """Raise StageError for a channel without variation, and for a class that has windows but none to train on."""
    x, y = found.arrays["x"], found.arrays["y"]
    flat = numpy.ptp(x, axis=(0, 2)) == 0
    if flat.any():
        raise StageError(f"{root}: channel {found.channels[numpy.flatnonzero(flat)[0]]} is constant in every window; mend it")
    absent = sorted(set(y.tolist()) - set(y[split == 0].tolist()))
    if absent:
        raise StageError(f"{root}: class {found.classes[absent[0]]} has no training window; add subjects or recordings")


def count_kind(found: dict[str, int], official: dict[str, int]) -> tuple[str, str]:
    """(official, subset or re-made; why) from numbers of things by name."""
    text = ", ".join(f"{found[name]} of {count} {name}" for name, count in official.items())
    if any(found[name] > count for name, count in official.items()):
        return provenance.REMADE, text
    return (provenance.OFFICIAL if all(found[name] == count for name, count in official.items()) else "subset"), text
