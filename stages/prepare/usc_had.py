"""USC-HAD (Zhang and Sawchuk 2012), or the generated sample in its layout, to windows with activity and subject."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.lib.errors import StageError
from stages.lib.stage import MISSING, stage
from stages.lib.stage import field as parameter
from stages.prepare.sensor_settings import RecordingParams

if TYPE_CHECKING:
    from stages.prepare.sensor_output import Files
    from stages.prepare.sensor_recordings import Recording

FOLDER = "USC-HAD"
CHANNELS = ("acc_x", "acc_y", "acc_z", "gyro_x", "gyro_y", "gyro_z")
CLASSES = ("walk_forward", "walk_left", "walk_right", "walk_upstairs", "walk_downstairs", "run", "jump", "sit", "stand",
           "sleep", "elevator_up", "elevator_down")  # fmt: skip
RATE_HZ = 100.0
# Some of the publisher's files misspell the field of the activity.
ACTIVITY_FIELDS = ("activity_number", "activity_numbr")


@dataclass
class Params(RecordingParams):
    """params/dataset/usc_had.yaml."""

    halvings: int = parameter(help="how often the rate of 100 Hz is halved first")
    subjects: int = parameter(help="the publisher's subjects are 1 to this number")


@dataclass
class Config:
    """What the stage needs."""

    sensor_source: str = MISSING
    params: Params = field(default_factory=Params)


@stage(Config, files={"params": "dataset/usc_had"})
def main(cfg: Config) -> None:
    """Read data/<source>/usc_had/USC-HAD and write runs/prepare/usc_had/windows.npz and a manifest.

    The last subjects are test, those before them val.
    """
    from stages.prepare import provenance, sensor_output
    from stages.prepare.sensor_recordings import Treatment

    params, source = cfg.params, cfg.sensor_source
    files = sensor_output.Files(provenance.folder(source, "usc_had"), params.max_bytes)
    recordings = [read_recording(files, *place) for place in list_files(files.root, params.subjects)]
    how = Treatment(params.max_gap, params.halvings, params.lowpass_hz, RATE_HZ)
    arrays, about = sensor_output.collect(recordings, how, params.window, params.stride, CHANNELS)
    people: dict[int, dict[str, float]] = {one.subject: {} for one in recordings}
    rate = RATE_HZ / 2**params.halvings
    names = [one.name for one in recordings]
    found = sensor_output.Collected(arrays, names, CLASSES, CHANNELS, rate, people, "subject", about)
    counts = {"subjects": len(people), "recordings": len(recordings)}
    sensor_output.write(
        "usc_had",
        found,
        sensor_output.split_groups(arrays["group"], {"val": params.val_share, "test": params.test_share}),
        files=files,
        source=source,
        pinned=params.sample_sha256,
        counted=sensor_output.count_kind(counts, params.official),
        params=params,
        division="the last subjects are test, those before them val",
    )


def list_files(root: Path, subjects: int) -> list[tuple[str, int, int]]:
    """(name below root, subject, activity 1..12) of every recording. Raises StageError for unknown subjects and names."""
    found = []
    for folder in (root / FOLDER).glob("*"):
        match = re.fullmatch(r"Subject(\d+)", folder.name)
        if not folder.is_dir():
            continue
        if not match or not 1 <= int(match[1]) <= subjects:
            raise StageError(f"{folder}: unknown subject; expected Subject1 to Subject{subjects}")
        for path in folder.glob("*.mat"):
            trial = re.fullmatch(r"a(\d+)t(\d+)", path.stem)
            if not trial or not 1 <= int(trial[1]) <= len(CLASSES):
                raise StageError(f"{path}: no trial by its name; expected a1t1.mat to a{len(CLASSES)}t5.mat")
            found.append((int(match[1]), int(trial[1]), int(trial[2]), path.relative_to(root).as_posix()))
    if not found:
        raise StageError(f"{root / FOLDER}: holds no recording; expected Subject1/a1t1.mat and so on")
    return [(name, subject, activity) for subject, activity, _, name in sorted(found)]


def read_recording(files: Files, name: str, subject: int, activity: int) -> Recording:
    """One trial. Raises StageError for damage, and for an activity number other than that of the name."""
    from stages.prepare import sensor_matlab
    from stages.prepare.sensor_recordings import Recording

    path = files.root / name
    found = sensor_matlab.read(files.read(name), path)
    told = next((found[key] for key in ACTIVITY_FIELDS if key in found), None)
    if told is not None and number(told) not in (None, activity):
        raise StageError(f"{path}: says activity {number(told)}, its name says {activity}; fetch it again")
    values = sensor_matlab.matrix(found, "sensor_readings", len(CHANNELS), path)
    return Recording(name, subject, activity - 1, subject, values)


def number(value: Any) -> int | None:
    """A MATLAB scalar or text of digits as a whole number; None for anything else."""
    flat = value.ravel().tolist()
    text = str(flat[0]).strip() if len(flat) == 1 else ""
    return int(float(text)) if re.fullmatch(r"\d+(\.0)?", text) else None


if __name__ == "__main__":
    main()
