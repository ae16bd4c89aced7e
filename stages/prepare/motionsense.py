"""MotionSense (Malekzadeh et al. 2018), or the generated sample in its layout, to windows with activity, subject, gender."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from stages.lib.errors import StageError
from stages.lib.stage import MISSING, stage
from stages.prepare.sensor_settings import RecordingParams

if TYPE_CHECKING:
    import numpy

    from stages.prepare.sensor_output import Files
    from stages.prepare.sensor_recordings import Recording

FOLDER, PEOPLE = "A_DeviceMotion_data", "data_subjects_info.csv"
CHANNELS = ("attitude.roll", "attitude.pitch", "attitude.yaw", "gravity.x", "gravity.y", "gravity.z",
            "rotationRate.x", "rotationRate.y", "rotationRate.z",
            "userAcceleration.x", "userAcceleration.y", "userAcceleration.z")  # fmt: skip
CLASSES = ("dws", "ups", "wlk", "jog", "sit", "std")
KNOWN = ("weight", "height", "age", "gender")
RATE_HZ = 50.0


@dataclass
class Config:
    """What the stage needs."""

    sensor_source: str = MISSING
    params: RecordingParams = field(default_factory=RecordingParams)


@stage(Config, files={"params": "dataset/motionsense"})
def main(cfg: Config) -> None:
    """Read data/<source>/motionsense and write runs/prepare/motionsense/windows.npz and a manifest.

    The last subjects are test, those before them val. A recording that repeats an earlier one is left out.
    """
    from stages.prepare import provenance, sensor_output
    from stages.prepare.sensor_recordings import Treatment

    params, source = cfg.params, cfg.sensor_source
    files = sensor_output.Files(provenance.folder(source, "motionsense"), params.max_bytes)
    known = read_people(files)
    recordings = [read_recording(files, *place, known) for place in list_files(files.root)]
    distinct, repeated = without_repeats(recordings, files)
    how = Treatment(params.max_gap, 0, params.lowpass_hz, RATE_HZ)
    arrays, about = sensor_output.collect(distinct, how, params.window, params.stride, CHANNELS)
    people = {number: known[number] for number in sorted({one.subject for one in distinct})}
    about |= {"repeated": repeated, "samples": sum(len(one.values) for one in recordings)}
    names = [one.name for one in distinct]
    found = sensor_output.Collected(arrays, names, CLASSES, CHANNELS, RATE_HZ, people, "subject", about)
    counts = {"subjects": len(people), "recordings": len(recordings), "samples": about["samples"]}
    sensor_output.write(
        "motionsense",
        found,
        sensor_output.split_groups(arrays["group"], {"val": params.val_share, "test": params.test_share}),
        files=files,
        source=source,
        pinned=params.sample_sha256,
        counted=sensor_output.count_kind(counts, params.official),
        params=params,
        division="the last subjects are test, those before them val",
    )


def read_people(files: Files) -> dict[int, dict[str, float]]:
    """Weight (kg), height (cm), age and gender (1 male, 0 female) by subject. Raises StageError naming the line."""
    path = files.root / PEOPLE
    rows = csv.DictReader(io.StringIO(files.read(PEOPLE).decode("utf-8-sig", "replace"), newline=""))
    found: dict[int, dict[str, float]] = {}
    for row in rows:
        try:
            found[int(row["code"])] = {name: float(row[name]) for name in KNOWN}
        except (KeyError, TypeError, ValueError) as error:
            raise StageError(f"{path}: line {rows.line_num}: expected code, {', '.join(KNOWN)} as numbers") from error
    if not found:
        raise StageError(f"{path}: names no subject; fetch it again")
    return found


def list_files(root: Path) -> list[tuple[str, int, int]]:
    """(name below root, subject, activity) of every recording. Raises StageError for names of another form."""
    found = []
    for folder in (root / FOLDER).glob("*"):
        match = re.fullmatch(r"([a-z]+)_(\d+)", folder.name)
        if not folder.is_dir() or folder.name.startswith("."):
            continue
        if not match or match[1] not in CLASSES:
            raise StageError(f"{folder}: no trial by its name; expected one of {', '.join(CLASSES)} and a number, as dws_1")
        for path in folder.glob("*.csv"):
            subject = re.fullmatch(r"sub_(\d+)", path.stem)
            if not subject:
                raise StageError(f"{path}: no subject by its name; expected sub_1.csv and so on")
            key = (int(subject[1]), CLASSES.index(match[1]), int(match[2]))
            found.append((key, path.relative_to(root).as_posix()))
    if not found:
        raise StageError(f"{root / FOLDER}: holds no recording; expected dws_1/sub_1.csv and so on")
    return [(name, subject, activity) for (subject, activity, _), name in sorted(found)]


def read_recording(files: Files, name: str, subject: int, activity: int, known: dict[int, dict[str, float]]) -> Recording:
    """One CSV file; empty fields are missing samples. Raises StageError for unknown subjects and damaged files."""
    from stages.prepare.sensor_recordings import Recording

    if subject not in known:
        raise StageError(f"{files.root / name}: subject {subject} is not in {PEOPLE}; add its line")
    return Recording(name, subject, activity, subject, parse(files.read(name), files.root / name))


def parse(content: bytes, path: Path) -> numpy.ndarray:
    """float64 [n, 12] of a CSV file whose unnamed first column counts the rows."""
    import numpy

    header, _, body = content.partition(b"\n")
    if tuple(header.decode("utf-8-sig", "replace").strip().split(",")) != ("", *CHANNELS):
        raise StageError(f"{path}: line 1 names other columns than the publisher's; expected a row number and 12 channels")
    if not body.endswith(b"\n"):
        raise StageError(f"{path}: its last line is cut short; fetch it again")
    while b",," in body:
        body = body.replace(b",,", b",nan,")
    body = body.replace(b",\r\n", b",nan\r\n").replace(b",\n", b",nan\n")
    try:
        table = numpy.loadtxt(io.BytesIO(body), delimiter=",", ndmin=2)
    except ValueError as error:
        raise StageError(f"{path}: a line is cut short or no numbers; expected 13 numbers a line, fetch it again") from error
    if table.shape[1:] != (len(CHANNELS) + 1,) or not numpy.array_equal(table[:, 0], numpy.arange(len(table))):
        raise StageError(f"{path}: lines are missing or too long, their numbers are not 0, 1, 2, ...; fetch it again")
    return table[:, 1:]


def without_repeats(recordings: list[Recording], files: Files) -> tuple[list[Recording], list[str]]:
    """(recordings, names of those whose file repeats an earlier one byte for byte)."""
    seen: set[str] = set()
    kept, repeated = [], []
    for one in recordings:
        (repeated.append(one.name) if files.sums[one.name] in seen else kept.append(one))
        seen.add(files.sums[one.name])
    return kept, repeated


if __name__ == "__main__":
    main()
