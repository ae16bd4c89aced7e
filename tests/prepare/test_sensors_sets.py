"""The readers of sensor sets: layouts, generated samples, refusals, the publishers' files."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy
import pytest
import yaml

from stages.lib.errors import StageError
from stages.lib.sensors import windows
from stages.prepare import activities, motionsense, sensor_samples, skoda, uci_har, usc_had
from stages.prepare.image_samples import digest
from tests.prepare import photographs as helpers
from tests.prepare.photographs import ROOT, SHARED, manifest, write

PUBLISHER = "sensor_source=publisher"
STAGES = {"uci_har": uci_har, "usc_had": usc_had, "skoda": skoda, "motionsense": motionsense}


@pytest.fixture
def project(tmp_path, monkeypatch):
    return helpers.project(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def embedded() -> dict[str, dict[str, bytes]]:
    return {name: getattr(sensor_samples, f"{name}_files")() for name in STAGES}


def fails(capsys, dataset: str, *arguments: str) -> str:
    return helpers.fails(STAGES[dataset], dataset, capsys, PUBLISHER, *arguments)


def publisher(embedded, dataset: str, keep=lambda name: True) -> Path:
    """Some of the sample's files, in the publisher's place."""
    files = {name: content for name, content in embedded[dataset].items() if keep(name)}
    return write(Path("data/publisher") / dataset, files)


@pytest.mark.parametrize("dataset", STAGES)
def test_generated_samples_are_pinned_and_named_so(project, embedded, dataset):
    pinned = yaml.safe_load((ROOT / f"params/dataset/{dataset}.yaml").read_text())["sample_sha256"]
    assert digest(embedded[dataset]) == pinned
    write(Path("data/sample") / dataset, embedded[dataset])
    STAGES[dataset].main([])
    about, found = manifest(dataset), windows.load(dataset)
    assert about["files"] == "generated sample"
    assert sum(about["counts"].values()) == len(found) and found.x.shape[2] == 128
    assert (numpy.ptp(found.x, axis=(0, 2)) > 0).all()
    parts = [set(found.of(split).group.tolist()) for split in ("train", "val", "test")]
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    before = Path(f"runs/prepare/{dataset}/windows.npz").read_bytes()
    STAGES[dataset].main([])
    assert Path(f"runs/prepare/{dataset}/windows.npz").read_bytes() == before


def test_generated_samples_are_small(embedded):
    files = [content for contents in embedded.values() for content in contents.values()]
    assert len(files) <= 60 and sum(map(len, files)) < 5_000_000


def test_a_class_may_be_absent_but_not_from_training_alone(project, embedded, capsys):
    write(Path("data/sample/usc_had"), embedded["usc_had"])
    usc_had.main([])
    assert sorted(set(windows.load("usc_had").y.tolist())) == [0, 1, 2]
    Path("runs/prepare/usc_had/manifest.json").unlink()
    publisher(embedded, "usc_had", lambda name: name != "USC-HAD/Subject1/a2t1.mat")
    assert "class walk_left has no training window" in fails(capsys, "usc_had")


def test_generated_activities(project, capsys):
    """The label's code repeats for every subject; other seeds give other windows of the same form."""
    activities.main(["params.subjects=4", "params.windows=2"])
    found, about = windows.load("activities"), manifest("activities")
    assert found.x.shape == (4 * 8 * 2, 3, 64) and about["counts"] == {"train": 32, "val": 16, "test": 16}
    assert about["files"] == "generated sample" and set(found.start.tolist()) == {0, 32}
    assert numpy.array_equal(found.x[0, :, 32:], found.x[1, :, :32])
    before = found.x
    activities.main(["params.subjects=4", "params.windows=2"])
    assert numpy.array_equal(windows.load("activities").x, before)
    activities.main(["params.subjects=4", "params.windows=2", "params.seed=7"])
    assert not numpy.array_equal(windows.load("activities").x, before)
    for word, said in (
        ("params.classes=13", "at most 12"), ("params.channels=4", "multiple of 3"), ("params.subjects=2", "subjects=2"),
        ("params.val_share=nan", "val_share=nan"), ("params.test_share=0.9", "use more"),
    ):  # fmt: skip
        with pytest.raises(SystemExit):
            activities.main([word])
        assert said in capsys.readouterr().err


def test_samples_lie_in_their_own_folder_only(project, embedded, capsys):
    publisher(embedded, "skoda")
    assert "holds the embedded sample" in fails(capsys, "skoda")


def test_uci_har_windows_are_read_exactly(project, embedded):
    write(Path("data/sample/uci_har"), embedded["uci_har"])
    uci_har.main([])
    found = windows.load("uci_har")
    text = embedded["uci_har"]["UCI HAR Dataset/test/Inertial Signals/body_gyro_y_test.txt"].splitlines()
    tested = found.of("test")
    assert numpy.array_equal(tested.x[7, 4], numpy.array(text[7].split(), dtype=numpy.float32))
    assert set(tested.subject.tolist()) == {2, 4}
    assert found.classes[3:5] == ("SITTING", "STANDING")
    starts, records = found.start.tolist(), found.recording.tolist()
    assert all(b - a == 64 for a, b, one, two in zip(starts, starts[1:], records, records[1:]) if one == two)
    assert len(set(records)) == 42


def test_labels_follow_their_numbers_not_their_lines(project, embedded):
    """The publisher's file lists 5 before 4."""
    files = dict(embedded["uci_har"])
    files["UCI HAR Dataset/activity_labels.txt"] = b"1 A\n2 B\n3 C\n5 E\n4 D\n6 F\n"
    write(Path("data/publisher/uci_har"), files)
    uci_har.main([PUBLISHER])
    assert windows.load("uci_har").classes == ("A", "B", "C", "D", "E", "F")


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("test/Inertial Signals/body_acc_x_test.txt", lambda b: b[:-40], "numbers; expected 128"),
        ("test/Inertial Signals/body_acc_x_test.txt", lambda b: b.replace(b"e-", b"NaNe", 1), "no number"),
        ("test/Inertial Signals/total_acc_z_test.txt", lambda b: b"             NaN" + b[16:], "holds NaN"),
        ("test/Inertial Signals/body_gyro_z_test.txt", lambda b: b[: b.index(b"\n") + 1], "has 1 lines"),
        ("test/Inertial Signals/body_gyro_z_test.txt", lambda b: b"", "0 bytes"),
        ("train/subject_train.txt", lambda b: b"31\n" + b[2:], "a subject from 1 to 30"),
        ("train/y_train.txt", lambda b: b"7\n" + b[2:], "an activity from 1 to 6"),
        ("activity_labels.txt", lambda b: b[:10], "expected"),
        ("train/y_train.txt", None, "y_train.txt: cannot be read"),
    ],
)
def test_damaged_uci_har_is_named(project, embedded, capsys, name, change, said):
    root = publisher(embedded, "uci_har")
    path = root / "UCI HAR Dataset" / name
    path.unlink() if change is None else path.write_bytes(change(path.read_bytes()))
    assert said in fails(capsys, "uci_har")


def test_a_constant_channel_of_uci_har(project, embedded, capsys):
    root = publisher(embedded, "uci_har")
    for origin in ("train", "test"):
        path = root / f"UCI HAR Dataset/{origin}/Inertial Signals/body_acc_y_{origin}.txt"
        line = b"  1.0000000e+000" * 128 + b"\n"
        path.write_bytes(line * path.read_bytes().count(b"\n"))
    assert "channel body_acc_y is constant" in fails(capsys, "uci_har")


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("dws_1/sub_1.csv", lambda b: b[:-5], "cut short"),
        ("dws_1/sub_1.csv", lambda b: b[: b.rindex(b"\n", 0, -20)] + b"\n5\n", "cut short or no numbers"),
        ("dws_1/sub_1.csv", lambda b: b.replace(b"\n7,", b"\n8,", 1), "not 0, 1, 2"),
        ("dws_1/sub_1.csv", lambda b: b.replace(b"gravity.x", b"gravity", 1), "names other columns"),
        ("dws_1/sub_99.csv", lambda b: b, "subject 99 is not in"),
        ("walk_1/sub_1.csv", lambda b: b, "no trial by its name"),
        ("../data_subjects_info.csv", lambda b: b.replace(b"1,", b"x,", 1), "line 2"),
    ],
)
def test_damaged_motionsense_is_named(project, embedded, capsys, name, change, said):
    root = publisher(embedded, "motionsense", lambda path: "sub_2." not in path)
    path = (root / "A_DeviceMotion_data" / name).resolve()
    source = path if path.is_file() else root / "A_DeviceMotion_data/dws_1/sub_1.csv"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(change(source.read_bytes()))
    assert said in fails(capsys, "motionsense")


def test_gaps_of_motionsense_are_mended_and_repeats_left_out(project, embedded, capsys):
    root = publisher(embedded, "motionsense")
    path = root / "A_DeviceMotion_data/ups_3/sub_4.csv"
    lines = path.read_bytes().split(b"\n")

    def emptied(first: int, count: int) -> bytes:
        gone = [b",".join([line.split(b",")[0], b"", *line.split(b",")[2:]]) for line in lines[first : first + count]]
        return b"\n".join([*lines[:first], *gone, *lines[first + count :]])

    path.write_bytes(emptied(5, 3))
    motionsense.main([PUBLISHER])
    about, found = manifest("motionsense"), windows.load("motionsense")
    assert about["about"]["repeated"] == ["A_DeviceMotion_data/sit_13/sub_1.csv"]
    roll = numpy.array([float(line.split(b",")[1]) for line in lines[1:129]])
    number = about["recordings"].index("A_DeviceMotion_data/ups_3/sub_4.csv")
    read = found.x[(found.recording == number) & (found.start == 0)][0, 0]
    assert numpy.allclose(read[4:7], roll[3] + (roll[7] - roll[3]) * numpy.arange(1, 4) / 4, atol=1e-5)
    gender = found.attribute("gender")
    assert set(gender[found.subject % 2 == 1]) == {1.0} and set(gender[found.subject % 2 == 0]) == {0.0}
    path.write_bytes(emptied(5, 13))
    Path("runs/prepare/motionsense/manifest.json").unlink()
    assert "13 missing samples in a row in attitude.roll" in fails(capsys, "motionsense")


def matlab(**content) -> bytes:
    return sensor_samples.matlab(content)


def test_usc_had_refusals(project, embedded, capsys):
    root = publisher(embedded, "usc_had")
    path = root / "USC-HAD/Subject1/a1t1.mat"
    values = numpy.random.RandomState(0).standard_normal((600, 6))
    for content, said in (
        (path.read_bytes()[:-100], "no MATLAB 5 file or cut short"),
        (matlab(readings=values), "no variable sensor_readings"),
        (matlab(sensor_readings=values[:, :5]), "expected numbers [n, 6]"),
        (matlab(sensor_readings=values, activity_numbr="3"), "says activity 3, its name says 1"),
        (
            matlab(sensor_readings=numpy.where(numpy.arange(600)[:, None] < 26, numpy.nan, values)),
            "26 missing samples in a row",
        ),
    ):
        path.write_bytes(content)
        assert said in fails(capsys, "usc_had")
    path.write_bytes(matlab(sensor_readings=values))
    (root / "USC-HAD/Subject15").mkdir()
    assert "unknown subject; expected Subject1 to Subject14" in fails(capsys, "usc_had")
    (root / "USC-HAD/Subject15").rmdir()
    assert "no recording has 4096 samples" in fails(capsys, "usc_had", "params.window=4096")
    usc_had.main([PUBLISHER])
    assert manifest("usc_had")["files_because"] == "3 of 14 subjects, 9 of 840 recordings"


def test_skoda_channels_and_null_class(project, embedded, capsys):
    write(Path("data/sample/skoda"), embedded["skoda"])
    skoda.main([])
    found = windows.load("skoda")
    assert found.x.shape[1] == 30 and len(found.classes) == 10 and len(set(found.group.tolist())) == 10
    name = "SkodaMiniCP_2015_08/right_classall_clean.mat"
    from scipy.io import loadmat

    table = loadmat(io.BytesIO(embedded["skoda"][name]))["right_classall_clean"].astype(float)
    first = numpy.flatnonzero(table[:, 0] != 32)[0]
    assert numpy.array_equal(found.x[0, 3], table[first : first + 128, 9].astype(numpy.float32))  # second sensor, calibrated x
    for changed, said in (
        (numpy.roll(table, 1, axis=1), "expected 32 or 48 to 57"),
        (numpy.concatenate([table[:, :1], numpy.roll(table[:, 1:], 1, axis=1)], axis=1), "is no sensor's number"),
        (table[:, :70], "expected numbers [n, 71]"),
    ):
        write(Path("data/publisher/skoda"), {name: matlab(right_classall_clean=changed)})
        Path("runs/prepare/skoda/manifest.json").unlink(missing_ok=True)
        assert said in fails(capsys, "skoda")
    assert "expected right or left" in fails(capsys, "skoda", "params.arm=both")
    assert "left_classall_clean.mat: cannot be read" in fails(capsys, "skoda", "params.arm=left")


def test_altered_prepared_files_are_refused(project, embedded):
    write(Path("data/sample/usc_had"), embedded["usc_had"])
    usc_had.main([])
    path = Path("runs/prepare/usc_had/windows.npz")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(StageError, match="differs from its manifest"):
        windows.load("usc_had")
    path.unlink()
    with pytest.raises(StageError, match="cannot be read"):
        windows.load("usc_had")


@pytest.mark.slow
def test_the_publishers_uci_har(project):
    """The complete test split, rounded: nine subjects divided among themselves."""
    source = SHARED / "uci-har/UCI HAR Dataset.zip"
    if not source.is_file():
        pytest.skip("no publisher's files in ../shared/data/uci-har")
    Path("data/publisher/uci_har").mkdir(parents=True)
    zipfile.ZipFile(source).extractall("data/publisher/uci_har")
    uci_har.main([PUBLISHER])
    about = manifest("uci_har")
    assert about["files"] == "re-made" and about["counts"] == {"train": 1848, "val": 364, "test": 735}
    assert list(about["about"]["windows_by_class"].values()) == [537, 491, 532, 496, 420, 471]
    assert about["about"]["share_overlapping_the_window_before"] == pytest.approx(0.91, abs=0.01)


@pytest.mark.slow
def test_the_publishers_motionsense(project):
    """Subjects 1 to 6 of 24."""
    source = SHARED / "motionsense/A_DeviceMotion_data.zip"
    if not source.is_file():
        pytest.skip("no publisher's files in ../shared/data/motionsense")
    root = Path("data/publisher/motionsense")
    root.mkdir(parents=True)
    zipfile.ZipFile(source).extractall(root)
    (root / "data_subjects_info.csv").write_bytes((source.parent / "data_subjects_info.csv").read_bytes())
    motionsense.main([PUBLISHER])
    about = manifest("motionsense")
    assert about["files_because"] == "6 of 24 subjects, 90 of 360 recordings, 352881 of 1412865 samples"
    assert about["about"]["repeated"] == ["A_DeviceMotion_data/sit_13/sub_1.csv"]
    assert about["subjects"]["3"]["gender"] == 0
