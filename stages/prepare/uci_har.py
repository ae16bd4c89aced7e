"""UCI HAR (Anguita et al. 2013), or the generated sample in its layout, to windows with activity and subject."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.lib.errors import StageError
from stages.lib.stage import MISSING, stage
from stages.lib.stage import field as parameter

if TYPE_CHECKING:
    import numpy

    from stages.prepare.sensor_output import Files

FOLDER = "UCI HAR Dataset"
CHANNELS = tuple(f"{sensor}_{axis}" for sensor in ("body_acc", "body_gyro", "total_acc") for axis in "xyz")
ORIGINS = ("train", "test")
WINDOW, RATE_HZ = 128, 50.0


@dataclass
class Params:
    """params/dataset/uci_har.yaml."""

    val_share: float = parameter(help="validation's share of the subjects that are not for test")
    test_share: float = parameter(help="test's share of the subjects, where the publisher's train signals are absent")
    subjects: int = parameter(help="the publisher's subjects are 1 to this number")
    max_bytes: int = parameter(help="largest file that is read")
    official: dict[str, int] = parameter(help="windows of the publisher's train and test")
    official_blobs: dict[str, str] = parameter(help="git's SHA-1 of files of the publisher, which tell re-made ones")
    sample_sha256: str = parameter(help="one SHA-256 over those of the embedded sample's files")


@dataclass
class Config:
    """What the stage needs."""

    sensor_source: str = MISSING
    params: Params = field(default_factory=Params)


@stage(Config, files={"params": "dataset/uci_har"})
def main(cfg: Config) -> None:
    """Read data/<source>/uci_har/UCI HAR Dataset and write runs/prepare/uci_har/windows.npz and a manifest.

    The publisher's test set is the test split; the last of the other subjects are val. Without train signals the
    subjects of test are divided in the same way.
    """
    import numpy

    from stages.prepare import provenance, sensor_output

    params, source = cfg.params, cfg.sensor_source
    files = sensor_output.Files(provenance.folder(source, "uci_har"), params.max_bytes)
    classes = read_classes(files)
    present = [name for name in ORIGINS if (files.root / FOLDER / name / "Inertial Signals").is_dir()]
    if not present:
        raise StageError(f"{files.root / FOLDER}: has neither train/Inertial Signals nor test/Inertial Signals; unpack the zip")
    parts = {name: read_origin(files, name, len(classes), params.subjects) for name in present}
    found = joined(parts, classes)
    tested = numpy.concatenate([numpy.full(len(parts[name]["y"]), name == "test") for name in present])
    shares = {"val": params.val_share, "test": params.test_share}
    both = len(present) == len(ORIGINS)
    split = sensor_output.split_groups(found.arrays["group"], shares, tested if both else None)
    how = "test is the publisher's; val is the last subjects of train" if both else f"the subjects of {present[0]} are divided"
    sensor_output.write(
        "uci_har", found, split, files=files, source=source, pinned=params.sample_sha256,
        counted=classify(files, parts, params), params=params, division=how,
    )  # fmt: skip


def read_classes(files: Files) -> list[str]:
    """The names of activities 1..K from activity_labels.txt, whose lines may be in any order."""
    name = f"{FOLDER}/activity_labels.txt"
    found = {}
    for number, line in enumerate(files.read(name).decode("ascii", "replace").splitlines(), 1):
        words = line.split()
        if len(words) != 2 or not words[0].isdecimal():
            raise StageError(f"{files.root / name}: line {number}: {line[:40]!r}; expected a number and a name")
        found[int(words[0])] = words[1]
    if sorted(found) != list(range(1, len(found) + 1)):
        raise StageError(f"{files.root / name}: activities {sorted(found)}; expected 1 to {len(found)}, each once")
    return [found[number] for number in sorted(found)]


def read_origin(files: Files, origin: str, classes: int, subjects: int) -> dict[str, Any]:
    """x float32 [N, 9, 128], y, subject, recording, start int64 [N] of train or test. Raises StageError naming the file."""
    import numpy

    y = read_numbers(files, f"{FOLDER}/{origin}/y_{origin}.txt", classes, "an activity") - 1
    subject = read_numbers(files, f"{FOLDER}/{origin}/subject_{origin}.txt", subjects, "a subject")
    signals = [read_signal(files, f"{FOLDER}/{origin}/Inertial Signals/{name}_{origin}.txt") for name in CHANNELS]
    for name, values in zip(("subject", *CHANNELS), (subject, *signals)):
        if len(values) != len(y):
            raise StageError(f"{files.root / FOLDER / origin}: {name} has {len(values)} lines, y has {len(y)}; fetch it again")
    x = numpy.stack(signals, 1)
    recording, start = chains(x, y, subject)
    return {"x": x.astype(numpy.float32), "y": y, "subject": subject, "recording": recording, "start": start}


def read_numbers(files: Files, name: str, most: int, what: str) -> numpy.ndarray:
    """One whole number 1..most a line: int64 [N]."""
    import numpy

    found = []
    for number, line in enumerate(files.read(name).decode("ascii", "replace").splitlines(), 1):
        word = line.strip()
        if not word.isdecimal() or not 1 <= int(word) <= most:
            raise StageError(f"{files.root / name}: line {number}: {word[:20]!r}; expected {what} from 1 to {most}")
        found.append(int(word))
    return numpy.array(found, dtype=numpy.int64)


def read_signal(files: Files, name: str) -> numpy.ndarray:
    """Windows float64 [N, 128] of one channel, one a line. Raises StageError for cut lines, NaN and words."""
    import numpy

    path, lines = files.root / name, files.read(name).splitlines()
    rows = []
    for number, line in enumerate(lines, 1):
        words = line.split()
        if len(words) != WINDOW:
            raise StageError(f"{path}: line {number}: {len(words)} numbers; expected {WINDOW}, fetch it again")
        try:
            rows.append(numpy.array(words, dtype=numpy.float64))
        except ValueError as error:
            raise StageError(f"{path}: line {number}: holds what is no number; fetch it again") from error
        if not numpy.isfinite(rows[-1]).all():
            raise StageError(f"{path}: line {number}: holds NaN or infinity; leave the window out of all files")
    return numpy.stack(rows)


def chains(x: numpy.ndarray, y: numpy.ndarray, subject: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
    """(recording, start) int64 [N]: consecutive windows whose halves agree, of one subject and activity, are one recording."""
    import numpy

    half = WINDOW // 2
    follows = (x[:-1, :, half:] == x[1:, :, :half]).all((1, 2)) & (y[:-1] == y[1:]) & (subject[:-1] == subject[1:])
    first = numpy.concatenate([[True], ~follows])
    recording = numpy.cumsum(first) - 1
    places = numpy.arange(len(y))
    return recording.astype(numpy.int64), (places - places[first][recording]) * half


def joined(parts: dict[str, dict[str, Any]], classes: list[str]) -> Any:
    """What was read of train and test, as one set; recordings are numbered on."""
    import numpy

    from stages.prepare.sensor_output import Collected

    arrays: dict[str, list[Any]] = {}
    recordings: list[str] = []
    for origin, part in parts.items():
        offset = len(recordings)
        recordings += [f"{origin}/{number}" for number in range(int(part["recording"][-1]) + 1)]
        for name, values in part.items():
            arrays.setdefault(name, []).append(values + offset if name == "recording" else values)
    whole = {name: numpy.concatenate(values) for name, values in arrays.items()}
    whole["group"] = whole["subject"]
    overlapping = float((whole["start"] > 0).mean())
    people: dict[int, dict[str, float]] = {int(number): {} for number in numpy.unique(whole["subject"])}
    about = {"origins": list(parts), "share_overlapping_the_window_before": round(overlapping, 4)}
    return Collected(whole, recordings, classes, CHANNELS, RATE_HZ, people, "subject", about)


def classify(files: Files, parts: dict[str, dict[str, Any]], params: Params) -> tuple[str, str]:
    """(official, subset or re-made; why) from the numbers of windows and git's hashes of two files."""
    from stages.prepare import provenance
    from stages.prepare.sensor_output import count_kind

    counts = {name: len(parts[name]["y"]) if name in parts else 0 for name in ORIGINS}
    kind, why = count_kind(counts, params.official)
    for name, wanted in sorted(params.official_blobs.items()):
        path = files.root / FOLDER / name
        if f"{FOLDER}/{name}" in files.sums and git_blob(path) != wanted:
            return provenance.REMADE, f"{why}; {Path(name).name} has other bytes than the publisher's"
    return kind, why


def git_blob(path: Path) -> str:
    """The SHA-1 by which git names a file's content."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


if __name__ == "__main__":
    main()
