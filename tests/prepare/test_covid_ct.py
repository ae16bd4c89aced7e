"""COVID-CT slices: one mode for all, patients in one split only, traces of the files that tell nothing any more."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy
import pytest
import yaml
from PIL import Image

from stages.lib import data
from stages.prepare import covid_ct, ct_cases, ct_samples
from stages.prepare.image_samples import digest
from tests.prepare import photographs as helpers
from tests.prepare.photographs import ROOT, SHARED, manifest, write

PUBLISHER = "ct_source=publisher"
FOLDER = Path("data/publisher/covid_ct")


@pytest.fixture
def project(tmp_path, monkeypatch):
    return helpers.project(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def embedded() -> dict[str, bytes]:
    return ct_samples.covid_ct_files()


def publisher(embedded) -> dict[str, bytes]:
    """The sample's files with one patient fewer, so that they are not the sample."""
    gone = "noncovid-p1-"
    found = {name: content for name, content in embedded.items() if gone not in name}
    lists = "Data-split/NonCOVID/trainCT_NonCOVID.txt"
    found[lists] = b"\n".join(line for line in found[lists].split(b"\n") if not line.startswith(gone.encode()))
    return found


def fails(capsys, *words: str) -> str:
    return helpers.fails(covid_ct, "covid_ct", capsys, PUBLISHER, *words)


def test_the_sample_is_pinned_and_its_traces_are_gone(project, embedded):
    assert digest(embedded) == yaml.safe_load((ROOT / "params/dataset/covid_ct.yaml").read_text())["sample_sha256"]
    write(Path("data/sample/covid_ct"), embedded)
    covid_ct.main([])
    about = manifest("covid_ct")
    assert about["files"] == "generated sample" and about["classes"] == ["NonCOVID", "COVID"]
    assert about["told_by_traces"]["before"] > 0.7 and about["told_by_traces"]["after"] == 0.5
    assert all(data.load("covid_ct", split).x.shape[1:] == (1, 32, 32) for split in ("train", "val", "test"))
    before = Path("runs/prepare/covid_ct/test.npz").read_bytes()
    covid_ct.main([])
    assert Path("runs/prepare/covid_ct/test.npz").read_bytes() == before


def test_one_picture_in_every_format_gives_the_same_pixels(project):
    """So that nothing that looks at format, mode and alpha alone can tell the classes apart after the reader."""
    grey = numpy.asarray(
        Image.fromarray(numpy.random.RandomState(0).randint(0, 256, (6, 5)).astype(numpy.uint8)).resize((60, 72))
    )
    colour = numpy.dstack([grey] * 3)
    jpeg = io.BytesIO()
    Image.fromarray(colour).save(jpeg, "JPEG", quality=95)
    versions = {"l": grey, "rgb": colour, "rgba": numpy.dstack([colour, numpy.full_like(grey, 255)])}
    files = {f"{name}.png": ct_samples.png(pixels) for name, pixels in versions.items()} | {"jpeg.png": jpeg.getvalue()}
    write(FOLDER, files)
    source = ct_cases.Files(FOLDER, 10**6)
    found = {name: covid_ct.read(source, FOLDER / name, 24, 10**6) for name in files}
    assert len({trace for _, trace in found.values()}) == 4
    assert {covid_ct.prepared_trace(pixels) for pixels, _ in found.values()} == {("array", "uint8 2", False)}
    for name in ("rgb.png", "rgba.png"):
        assert numpy.array_equal(found[name][0], found["l.png"][0])
    assert numpy.abs(found["jpeg.png"][0].astype(int) - found["l.png"][0]).max() <= 4


def test_a_rule_on_traces_finds_what_there_is_to_find():
    slices = [covid_ct.Slice(Path("x"), label, "p", split) for split in ("train", "test") for label in (0, 1, 0, 1)]
    telling, silent = ("PNG", "RGBA", True), ("PNG", "L", False)
    assert covid_ct.told([telling if one.label else silent for one in slices], slices) == 1.0
    assert covid_ct.told([silent for _ in slices], slices) == 0.5


def test_patients_are_in_one_split_and_lists_decide(project, embedded):
    write(FOLDER, publisher(embedded))
    covid_ct.main([PUBLISHER])
    about = manifest("covid_ct")
    assert about["files"] == "subset" and about["counts"]["test"] == 56
    slices = covid_ct.listed(ct_cases.Files(FOLDER, 10**6), covid_ct.main.configure([PUBLISHER]).params)
    by_patient: dict[str, set[str]] = {}
    for one in slices:
        by_patient.setdefault(one.patient, set()).add(one.split)
    assert {len(splits) for splits in by_patient.values()} == {1}
    assert {one.label for one in slices if one.split == "val"} == {0, 1}


def test_a_test_list_is_taken_where_there_is_one(project, embedded):
    found = publisher(embedded)
    for kind in ("COVID", "NonCOVID"):
        names = found[f"Data-split/{kind}/valCT_{kind}.txt"].split(b"\n")
        found[f"Data-split/{kind}/valCT_{kind}.txt"] = b"\n".join(names[:8])
        found[f"Data-split/{kind}/testCT_{kind}.txt"] = b"\n".join([*names[8:], names[8]])  # one twice, as theirs
    write(FOLDER, found)
    covid_ct.main([PUBLISHER])
    assert manifest("covid_ct")["counts"] == {"train": 102, "val": 16, "test": 40}


def test_wrong_lists_and_files(project, embedded, capsys):
    found = publisher(embedded)
    train = "Data-split/COVID/trainCT_COVID.txt"
    image = "Images-processed/CT_COVID/covid-p1-0.png"
    cases = {
        "names no patient": {train: found[train] + b"\nnobody.png"},
        "is listed twice": {"Data-split/COVID/valCT_COVID.txt": found["Data-split/COVID/valCT_COVID.txt"] + b"\ncovid-p1-0.png"},
        "has images in": {"patients.csv": found["patients.csv"].replace(b"covid-p30-0.png,CT_COVID,COVID 30",
                                                                       b"covid-p30-0.png,CT_COVID,COVID 1")},
        "are empty": {train: b"\n"},
        "expected the columns": {"patients.csv": b"file\nx\n"},
        "neither JPEG nor PNG": {image: b"damaged"},
        "cannot be decoded": {image: found[image][: len(found[image]) // 2]},
        "0 bytes": {image: b""},
    }  # fmt: skip
    for said, changes in cases.items():
        write(FOLDER, found | changes)
        assert said in fails(capsys), said
    write(FOLDER, found)
    (FOLDER / image).unlink()
    assert image in fails(capsys)


@pytest.mark.parametrize(("word", "said"), [("params.val_share=0", "val_share"), ("params.max_pixels=9", "at most 9"),
                                            ("params.max_bytes=9", "max_bytes")])  # fmt: skip
def test_impossible_settings(project, embedded, capsys, word, said):
    write(FOLDER, publisher(embedded))
    assert said in fails(capsys, word)


@pytest.mark.skipif(not (SHARED / "covid-ct").is_dir(), reason="the publisher's images are not here")
def test_the_publishers_images(project):
    shutil.copytree(SHARED / "covid-ct", FOLDER)
    covid_ct.main([PUBLISHER])
    about = manifest("covid_ct")
    assert about["counts"] == {"train": 96, "val": 24, "test": 118} and about["files"] == "subset"
    assert about["told_by_traces"]["before"] > 0.6 and about["told_by_traces"]["after"] == 0.5
