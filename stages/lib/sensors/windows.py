"""Prepared sets of sensor windows: runs/prepare/<dataset>/windows.npz and its manifest."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy

from stages.lib import artifacts
from stages.lib.data import PREPARED, SPLITS
from stages.lib.errors import StageError

ARRAYS = ("x", "y", "subject", "group", "recording", "start", "split")
KEYS = ("outputs", "dataset", "source", "classes", "channels", "rate_hz", "subjects", "recordings", "grouping", "shape")


@dataclasses.dataclass(frozen=True)
class Windows:
    """N windows of C channels and T samples, and where each comes from.

    x: float32 [N, C, T] in the publisher's units, not normalised; y: int64 [N], the activity in 0..len(classes)-1;
    subject: int64 [N], the publisher's numbers; group: int64 [N], what a grouped fold may not part (the subject, or a
    block of time where there is one subject); recording: int64 [N]; start: int64 [N], a window's first sample in its
    recording; split: int64 [N], 0 train, 1 val, 2 test, disjoint in groups.
    """

    x: numpy.ndarray
    y: numpy.ndarray
    subject: numpy.ndarray
    group: numpy.ndarray
    recording: numpy.ndarray
    start: numpy.ndarray
    split: numpy.ndarray
    classes: tuple[str, ...]
    channels: tuple[str, ...]
    rate_hz: float
    people: dict[int, dict[str, float]]
    grouping: str
    source: str
    name: str

    def __len__(self) -> int:
        return len(self.y)

    def take(self, index: numpy.ndarray) -> Windows:
        """The windows of an index or mask, in its order."""
        return dataclasses.replace(self, **{name: getattr(self, name)[index] for name in ARRAYS})

    def of(self, *splits: str) -> Windows:
        """The windows of some of train, val and test. Raises StageError for none, or for an unknown name."""
        unknown = set(splits) - set(SPLITS)
        if unknown:
            raise StageError(f"split={min(unknown)}: expected one of {', '.join(SPLITS)}")
        found = self.take(numpy.isin(self.split, [SPLITS.index(name) for name in splits]))
        if not len(found):
            raise StageError(f"{self.name}: no window in {' and '.join(splits)}; use more subjects")
        return found

    def select(self, channels: Sequence[str]) -> Windows:
        """Some of the channels, in the order given. Raises StageError for one that does not exist."""
        for channel in channels:
            if channel not in self.channels:
                raise StageError(f"{self.name}: no channel {channel}; expected some of {', '.join(self.channels)}")
        places = [self.channels.index(channel) for channel in channels]
        return dataclasses.replace(self, x=numpy.ascontiguousarray(self.x[:, places]), channels=tuple(channels))

    def attribute(self, name: str) -> numpy.ndarray:
        """What is known of each window's subject, e.g. `gender` (1 male, 0 female) of MotionSense: float64 [N].

        Raises StageError if the set does not tell it of every subject.
        """
        try:
            return numpy.array([self.people[number][name] for number in self.subject.tolist()], dtype=numpy.float64)
        except KeyError as error:
            raise StageError(f"{self.name}: {name} is not known of every subject ({error}); choose another") from error


def load(dataset: str, root: str | Path = PREPARED) -> Windows:
    """A prepared set of windows, verified. Raises StageError if a file is absent, altered or of another form."""
    folder = Path(root) / dataset
    path = folder / "windows.npz"
    about = read_manifest(folder / "manifest.json")
    if artifacts.sha256(path) != about["outputs"].get(path.name):
        raise StageError(f"{path}: differs from its manifest; run the prepare stage of {dataset} again")
    arrays = dict(zip(ARRAYS, artifacts.read_npz(path, *ARRAYS)))
    check(arrays, about, str(path))
    return Windows(
        **arrays,
        classes=tuple(about["classes"]),
        channels=tuple(about["channels"]),
        rate_hz=about["rate_hz"],
        people={int(number): known for number, known in about["subjects"].items()},
        grouping=about["grouping"],
        source=about["source"],
        name=folder.as_posix(),
    )


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a prepared set. Raises StageError if it is none."""
    about = artifacts.read_json(path)
    for key in KEYS:
        if not isinstance(about, dict) or key not in about:
            raise StageError(f"{path}: lacks the key {key}; run the prepare stage again")
    return about


def check(arrays: dict[str, numpy.ndarray], about: dict[str, Any], name: str) -> None:
    """Raise StageError unless the arrays have the manifest's shape, are finite, and labels are in range."""
    x = arrays["x"]
    wanted = (len(about["channels"]), about["shape"][-1])
    if x.dtype != numpy.float32 or x.ndim != 3 or x.shape[1:] != wanted or not len(x):
        raise StageError(f"{name}: x is {x.dtype} {list(x.shape)}; expected float32 [N, {wanted[0]}, {wanted[1]}]")
    for key in ARRAYS[1:]:
        if arrays[key].dtype != numpy.int64 or arrays[key].shape != x.shape[:1]:
            raise StageError(f"{name}: {key} is no int64 [{len(x)}]; run its prepare stage again")
    if not numpy.isfinite(x).all():
        raise StageError(f"{name}: x holds NaN or infinity; run its prepare stage again")
    limits = {"y": len(about["classes"]), "split": len(SPLITS), "recording": len(about["recordings"])}
    for key, count in limits.items():
        if arrays[key].min() < 0 or arrays[key].max() >= count:
            raise StageError(f"{name}: {key} from {arrays[key].min()} to {arrays[key].max()}; expected 0 to {count - 1}")
    unknown = set(arrays["subject"].tolist()) - set(map(int, about["subjects"]))
    if unknown:
        raise StageError(f"{name}: subject {min(unknown)} is not in its manifest; run its prepare stage again")
