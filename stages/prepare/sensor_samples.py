"""The embedded samples of UCI HAR, USC-HAD, SKODA and MotionSense: generated, since no dependency ships sensor data.

The signals are those of sensor_signals; the files have the publishers' layouts, names and number formats.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy

from stages.lib import artifacts
from stages.lib.runtime import derive_seed
from stages.prepare import motionsense, skoda, uci_har
from stages.prepare.image_samples import digest
from stages.prepare.sensor_signals import UNIT, Person, drifted, person, signal

SEED = 2012
WINDOW = 128
UCI_SUBJECTS, UCI_TESTED, UCI_WINDOWS = 7, (2, 4), 2
USC_SUBJECTS, USC_ACTIVITIES, USC_WINDOWS = 3, 3, 5
SKODA_ROUNDS, SKODA_WINDOWS, SKODA_NULL = 5, 1, 8
MOTION_SUBJECTS, MOTION_WINDOWS = 4, 11
UCI_LABELS = ("WALKING", "WALKING_UPSTAIRS", "WALKING_DOWNSTAIRS", "SITTING", "STANDING", "LAYING")
TRIALS = {"dws": 1, "ups": 3, "wlk": 7, "jog": 9, "sit": 5, "std": 6}
MATLAB_HEADER = b"MATLAB 5.0 MAT-file".ljust(116)  # the writer's own text has the time in it


def make_all(root: Path) -> dict[str, str]:
    """Write uci_har/, usc_had/, skoda/ and motionsense/ below root; returns one SHA-256 by folder, as image_samples.digest."""
    files = {"uci_har": uci_har_files(), "usc_had": usc_had_files(), "skoda": skoda_files(), "motionsense": motionsense_files()}
    for folder, contents in files.items():
        for name, content in contents.items():
            artifacts.write_bytes(root / folder / name, content, durable=False)
    return {folder: digest(contents) for folder, contents in files.items()}


def generator(*names: object) -> numpy.random.RandomState:
    """The stream of one subject or recording; RandomState's are frozen."""
    return numpy.random.RandomState(derive_seed(SEED, *names) % 2**32)


def subject(dataset: str, number: int, channels: int) -> Person:
    """A subject; odd ones are men."""
    return person(generator(dataset, number), channels, number % 2)


def length(windows: int) -> int:
    """Samples that give so many windows overlapping by half."""
    return WINDOW // 2 * (windows + 1)


# --- UCI HAR --------------------------------------------------------------------------------------


def uci_har_files() -> dict[str, bytes]:
    """Contents by path: train and test with nine files of signals each, subjects, labels."""
    folder, found = uci_har.FOLDER, {}
    labels = "".join(f"{number} {name}\n" for number, name in enumerate(UCI_LABELS, 1))
    found[f"{folder}/activity_labels.txt"] = labels.encode()
    for origin in uci_har.ORIGINS:
        numbers = [n for n in range(1, UCI_SUBJECTS + 1) if (n in UCI_TESTED) == (origin == "test")]
        parts = [(n, activity, _uci_windows(n, activity)) for n in numbers for activity in range(len(UCI_LABELS))]
        x = numpy.concatenate([windows for _, _, windows in parts])  # [N, 128, 9]
        for place, name in enumerate(uci_har.CHANNELS):
            text = "".join("".join(map(_sixteen, row)) + "\n" for row in (x[:, :, place] / (2 * UNIT)).tolist())
            found[f"{folder}/{origin}/Inertial Signals/{name}_{origin}.txt"] = text.encode()
        found[f"{folder}/{origin}/y_{origin}.txt"] = "".join(f"{a + 1}\n" * len(w) for _, a, w in parts).encode()
        found[f"{folder}/{origin}/subject_{origin}.txt"] = "".join(f"{n}\n" * len(w) for n, _, w in parts).encode()
    return found


def _uci_windows(number: int, activity: int) -> numpy.ndarray:
    """All windows of one subject and activity, int64 [N, 128, 9]: total_acc is body_acc and gravity."""
    gravity = person(generator("uci_har", "gravity", number), 3, 0).offsets
    body = signal(generator("uci_har", number, activity), activity, subject("uci_har", number, 6), length(UCI_WINDOWS), WINDOW)
    values = numpy.concatenate([body, body[:, :3] + gravity], axis=1)
    return numpy.stack([values[start : start + WINDOW] for start in range(0, len(values) - WINDOW + 1, WINDOW // 2)])


def _sixteen(value: float) -> str:
    """A number in the publisher's 16 characters: a blank, the sign, seven decimals, an exponent of three digits."""
    mantissa, exponent = f"{value:.7e}".split("e")
    return f"{mantissa}e{exponent[0]}{int(exponent[1:]):03d}".rjust(16)


# --- USC-HAD and SKODA ----------------------------------------------------------------------------


def usc_had_files() -> dict[str, bytes]:
    """Contents by path: Subject<s>/a<a>t1.mat at 100 Hz, activities 1 to 3; as in the publisher's, some misspell a field."""
    found = {}
    for number in range(1, USC_SUBJECTS + 1):
        who = subject("usc_had", number, 6)
        for activity in range(USC_ACTIVITIES):
            values = signal(generator("usc_had", number, activity), activity, who, 2 * length(USC_WINDOWS), 2 * WINDOW)
            content = {
                "subject": str(number),
                "activity_number" if activity % 2 else "activity_numbr": str(activity + 1),
                "trial": "1",
                "sensor_readings": (values / UNIT).astype(numpy.float32),
            }
            found[f"USC-HAD/Subject{number}/a{activity + 1}t1.mat"] = matlab(content)
    return found


def skoda_files() -> dict[str, bytes]:
    """Contents by path: right_classall_clean.mat; every round holds each gesture once, in an order of its own."""
    who, parts = subject("skoda", 1, 3 * skoda.SENSORS), []
    for turn in range(SKODA_ROUNDS):
        stream = generator("skoda", turn)
        now = drifted(stream, who)
        for gesture in stream.permutation(len(skoda.GESTURES)):
            pause = now.offsets + signal(stream, 0, now, SKODA_NULL, WINDOW) // 4
            parts += [(skoda.NULL, pause), (list(skoda.GESTURES)[gesture],
                      signal(stream, int(gesture), now, length(SKODA_WINDOWS), WINDOW))]  # fmt: skip
    table = numpy.concatenate([_skoda_rows(label, values) for label, values in parts])
    return {"SkodaMiniCP_2015_08/right_classall_clean.mat": matlab({"right_classall_clean": table})}


def _skoda_rows(label: int, values: numpy.ndarray) -> numpy.ndarray:
    """int16 [n, 71]: the label, then of each sensor its number, three calibrated (milli-g) and three raw values."""
    columns = [numpy.full((len(values), 1), label)]
    for sensor in range(skoda.SENSORS):
        calibrated = values[:, 3 * sensor : 3 * sensor + 3] * 1000 // (2 * UNIT)
        columns += [numpy.full((len(values), 1), 3 * sensor + 1), calibrated, calibrated // 4 + 512]
    return numpy.concatenate(columns, axis=1).astype(numpy.int16)


def matlab(content: dict[str, object]) -> bytes:
    """A MATLAB 5 file without compression, whose header does not tell the time."""
    from scipy.io import savemat

    buffer = io.BytesIO()
    savemat(buffer, content)
    return MATLAB_HEADER + buffer.getvalue()[len(MATLAB_HEADER) :]


# --- MotionSense ----------------------------------------------------------------------------------


def motionsense_files() -> dict[str, bytes]:
    """Contents by path: a trial of each activity, one of them twice as at the publisher's; what is known of the subjects."""
    lines = ["code," + ",".join(motionsense.KNOWN)]
    found = {}
    for number in range(1, MOTION_SUBJECTS + 1):
        who, man = subject("motionsense", number, 12), number % 2
        stream = generator("motionsense", "people", number)
        known = (55 + 20 * man + stream.randint(0, 15), 162 + 12 * man + stream.randint(0, 12), stream.randint(18, 47), man)
        lines.append(",".join(map(str, (number, *known))))
        for activity, name in enumerate(motionsense.CLASSES):
            values = signal(generator("motionsense", number, activity), activity, who, length(MOTION_WINDOWS), WINDOW)
            found[f"{motionsense.FOLDER}/{name}_{TRIALS[name]}/sub_{number}.csv"] = _csv(numpy.roll(values, 6, axis=1))
    twice = f"{motionsense.FOLDER}/sit_{{}}/sub_1.csv"
    found[twice.format(13)] = found[twice.format(5)]
    found[motionsense.PEOPLE] = ("\ufeff" + "".join(f"{line}\r\n" for line in lines)).encode()
    return found


def _csv(values: numpy.ndarray) -> bytes:
    """A publisher's file: a row number without a name, then 12 channels."""
    lines = ["," + ",".join(motionsense.CHANNELS)]
    lines += [f"{row}," + ",".join(f"{value:.6f}" for value in line) for row, line in enumerate((values / UNIT).tolist())]
    return "".join(f"{line}\n" for line in lines).encode()
