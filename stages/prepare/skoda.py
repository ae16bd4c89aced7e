"""SKODA mini checkpoint (Zappi et al. 2008), or the generated sample in its layout, to windows with gesture and block.

There is one worker, so the recording is cut into blocks of time that stand for subjects.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stages.lib.errors import StageError
from stages.lib.stage import MISSING, stage
from stages.lib.stage import field as parameter

if TYPE_CHECKING:
    import numpy

    from stages.prepare.sensor_output import Files
    from stages.prepare.sensor_recordings import Recording

SENSORS = 10
COLUMNS = 1 + 7 * SENSORS  # the label, then of each sensor: its number, calibrated x y z, raw x y z
CHANNELS = tuple(f"sensor{number}_{axis}" for number in range(1, SENSORS + 1) for axis in "xyz")
RATE_HZ = 98.0
NULL = 32
GESTURES = {
    48: "write_on_notepad",
    49: "open_hood",
    50: "close_hood",
    51: "check_gaps_front_door",
    52: "open_left_front_door",
    53: "close_left_front_door",
    54: "close_both_left_doors",
    55: "check_trunk_gaps",
    56: "open_and_close_trunk",
    57: "check_steering_wheel",
}


@dataclass
class Params:
    """params/dataset/skoda.yaml."""

    arm: str = parameter(help="right or left")
    window: int = parameter(help="samples of a window")
    stride: int = parameter(help="samples from one window to the next")
    lowpass_hz: float | None = parameter(help="cut-off of a Butterworth low-pass of third order; null for none")
    max_gap: int = parameter(help="longest run of missing samples that is interpolated")
    blocks: int = parameter(help="blocks of time, which no grouped fold parts")
    val_share: float = parameter(help="validation's share of the blocks")
    test_share: float = parameter(help="test's share of the blocks")
    max_bytes: int = parameter(help="largest file that is read")
    official: dict[str, int] = parameter(help="numbers of the publisher's gestures")
    sample_sha256: str = parameter(help="one SHA-256 over those of the embedded sample's files")

    def check(self) -> None:
        """Ranges that types do not tell."""
        if self.arm not in ("right", "left"):
            raise StageError(f"params.arm={self.arm}: expected right or left")
        if self.blocks < 3:
            raise StageError(f"params.blocks={self.blocks}: expected 3 or more, for train, val and test")


@dataclass
class Config:
    """What the stage needs."""

    sensor_source: str = MISSING
    params: Params = field(default_factory=Params)


@stage(Config, files={"params": "dataset/skoda"})
def main(cfg: Config) -> None:
    """Read data/<source>/skoda/SkodaMiniCP_2015_08/<arm>_classall_clean.mat and write runs/prepare/skoda/windows.npz.

    The null class is dropped. The last blocks of time are test, those before them val.
    """
    from stages.prepare import provenance, sensor_output
    from stages.prepare.sensor_recordings import Treatment

    params, source = cfg.params, cfg.sensor_source
    files = sensor_output.Files(provenance.folder(source, "skoda"), params.max_bytes)
    recordings = read_arm(files, params)
    how = Treatment(params.max_gap, 0, params.lowpass_hz, RATE_HZ)
    arrays, about = sensor_output.collect(recordings, how, params.window, params.stride, CHANNELS)
    names, classes = [one.name for one in recordings], tuple(GESTURES.values())
    people: dict[int, dict[str, float]] = {1: {}}
    found = sensor_output.Collected(arrays, names, classes, CHANNELS, RATE_HZ, people, "block of time", about)
    kind, _ = sensor_output.count_kind({"gestures": len({one.activity for one in recordings})}, params.official)
    sensor_output.write(
        "skoda",
        found,
        sensor_output.split_groups(arrays["group"], {"val": params.val_share, "test": params.test_share}),
        files=files,
        source=source,
        pinned=params.sample_sha256,
        counted=(kind, f"{params.arm} arm; by its gestures, the publisher lists no hash"),
        params=params,
        division="the last blocks of time are test, those before them val",
    )


def read_arm(files: Files, params: Params) -> list[Recording]:
    """Every run of one gesture as a recording; its group is the block of time in which it begins."""
    from stages.prepare import sensor_matlab
    from stages.prepare.sensor_recordings import Recording, runs

    variable = f"{params.arm}_classall_clean"
    name = f"SkodaMiniCP_2015_08/{variable}.mat"
    path = files.root / name
    table = sensor_matlab.matrix(sensor_matlab.read(files.read(name), path), variable, COLUMNS, path)
    label = table[:, 0]
    unknown = sorted(set(label.tolist()) - {NULL, *GESTURES})
    if unknown:
        raise StageError(f"{path}: label {unknown[0]:g} in column 1; expected {NULL} or {min(GESTURES)} to {max(GESTURES)}")
    values = calibrated(table, path)
    numbers = {code: place for place, code in enumerate(GESTURES)}
    return [
        Recording(f"{name}:{start}", 1, numbers[int(label[start])], start * params.blocks // len(table), values[start:stop])
        for start, stop in runs(label)
        if label[start] != NULL
    ]


def calibrated(table: numpy.ndarray, path: Any) -> numpy.ndarray:
    """The 30 calibrated channels [n, 30] of [n, 71]: columns 2 + 7 k to 4 + 7 k, counted from 0.

    Raises StageError if a column between them is no sensor's number, as in files shifted by one column.
    """
    import numpy

    starts = 1 + 7 * numpy.arange(SENSORS)
    changing = numpy.flatnonzero(numpy.ptp(table[:, starts], axis=0) != 0)
    if len(changing):
        raise StageError(f"{path}: column {starts[changing[0]] + 1} is no sensor's number, it changes; expected the clean file")
    return table[:, (starts[:, None] + 1 + numpy.arange(3)).ravel()]


if __name__ == "__main__":
    main()
