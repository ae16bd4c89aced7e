"""CT volumes: NIfTI and DICOM, orientation and spacing, HU or not, patients and slabs, refusals, the publisher's files."""

from __future__ import annotations

import gzip
import io
import itertools
import shutil
from pathlib import Path

import nibabel
import numpy
import pydicom
import pytest
import yaml

from stages.lib.errors import StageError
from stages.prepare import ct_cases, ct_lesion, ct_phantom, ct_samples, ct_volumes
from stages.prepare.image_samples import digest
from tests.prepare import photographs as helpers
from tests.prepare.photographs import ROOT, SHARED, manifest, write

TINY = ct_phantom.Recipe(depth=5, side=16)
PUBLISHER = "ct_source=publisher"
FOLDER = Path("data/publisher/ct_lesion")


@pytest.fixture
def project(tmp_path, monkeypatch):
    return helpers.project(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def scans() -> list[ct_phantom.Scan]:
    return [ct_phantom.draw(TINY, numpy.random.RandomState(i)) for i in range(9)]


def files(scans, count: int = 9) -> dict[str, bytes]:
    """Nine small scans in the publisher's layout, the third as a DICOM series."""
    found = {}
    for i, scan in enumerate(scans[:count]):
        if i == 2:
            found |= {f"rp_im/{i}/{k}.dcm": ct_samples.dicom(scan, i, k) for k in range(len(scan.hu))}
        else:
            found[f"rp_im/{i}.nii.gz"] = ct_samples.nifti(scan.hu, i)
        found[f"rp_msk/{i}.nii.gz"] = ct_samples.nifti(ct_samples.labels(scan), i)
        found[f"rp_lung_msk/{i}.nii.gz"] = ct_samples.nifti(scan.lung, i)
    return found


def prepared() -> dict[str, numpy.ndarray]:
    return dict(numpy.load("runs/prepare/ct_lesion/volumes.npz"))


def fails(capsys, *words: str) -> str:
    return helpers.fails(ct_lesion, "ct_lesion", capsys, PUBLISHER, *words)


# --- the generator --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_lesions_fill_three_slices_and_artefacts_one_or_two(seed):
    from scipy.ndimage import label

    recipe = ct_phantom.Recipe(depth=14, lesions=(1, 1), artefacts=(1, 1))
    scan = ct_phantom.draw(recipe, numpy.random.RandomState(seed))
    assert not (scan.lesion & scan.artefact).any() and not (scan.lesion & ~scan.lung).any()
    slices = numpy.flatnonzero(scan.artefact.any((1, 2)))
    assert len(slices) in (1, 2)
    if len(slices) == 2 and not scan.lesion.any((1, 2))[slices].any():
        assert numpy.array_equal(scan.artefact[slices[0]], scan.artefact[slices[1]])
    deep = numpy.flatnonzero(scan.lesion.any((1, 2)))
    assert len(deep) >= 3 or deep[0] == 0 or deep[-1] == 13
    assert label(scan.lesion)[1] >= 1


def test_the_same_seed_gives_the_same_scan():
    one, two, other = (ct_phantom.draw(TINY, numpy.random.RandomState(seed)) for seed in (1, 1, 2))
    assert numpy.array_equal(one.hu, two.hu) and not numpy.array_equal(one.hu, other.hu)


def test_a_lesion_looks_like_an_artefact_in_a_slice():
    """Their mean intensities differ by less than the noise of a voxel."""
    scans = [ct_phantom.draw(ct_phantom.Recipe(), numpy.random.RandomState(i)) for i in range(12)]
    means = [numpy.concatenate([scan.hu[getattr(scan, kind) > 0] for scan in scans]).mean() for kind in ("lesion", "artefact")]
    assert abs(means[0] - means[1]) < 0.07 * ct_phantom.SPAN_HU


def test_the_sample_is_pinned_and_named_so(project):
    found = ct_samples.ct_lesion_files()
    assert digest(found) == yaml.safe_load((ROOT / "params/dataset/ct_lesion.yaml").read_text())["sample_sha256"]
    assert sum(map(len, found.values())) < 6_000_000
    write(Path("data/sample/ct_lesion"), found)
    ct_lesion.main([])
    about, arrays = manifest("ct_lesion"), prepared()
    assert (about["files"], about["unit"], about["shape"]) == ("generated sample", "patients", ["12", "32", "32"])
    assert sum(about["counts"].values()) == ct_samples.CASES and all(case["hu"] and case["oriented"] for case in about["cases"])
    groups: dict[str, set[int]] = {}
    for case, (_, _, _, group) in zip(about["cases"], arrays["piece"].tolist()):
        groups.setdefault(case["patient"], set()).add(group)
    assert {len(one) for one in groups.values()} == {1} and len(groups) < ct_samples.CASES
    scan = ct_phantom.draw(ct_samples.RECIPE, ct_samples.generator("scan", 5))  # a DICOM series
    assert numpy.array_equal(arrays["lesion"].reshape(-1, 12, 32, 32)[4], scan.lesion)
    grey = numpy.rint(numpy.clip((scan.hu + 1000.0) / 1400.0, 0, 1) * 255).astype(numpy.uint8)
    assert numpy.array_equal(arrays["image"].reshape(-1, 12, 32, 32)[4], grey)
    before = Path("runs/prepare/ct_lesion/volumes.npz").read_bytes()
    ct_lesion.main([])
    assert Path("runs/prepare/ct_lesion/volumes.npz").read_bytes() == before


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", range(3))
def test_orientations_and_spacing_are_undone(scans, case):
    content = ct_samples.nifti(scans[0].hu, case)
    found = ct_volumes.read_nifti(Path("x"), content, 10**6)
    assert numpy.array_equal(found.values, scans[0].hu) and found.oriented
    assert found.spacing == pytest.approx(ct_samples.SPACING)


def test_a_spacing_alone_is_no_orientation():
    values = numpy.arange(24).reshape(2, 3, 4).astype(numpy.int16)
    image = nibabel.Nifti1Image(values, numpy.diag([0.7, 0.8, 6.0, 1.0]))
    found = ct_volumes.read_nifti(Path("x"), gzip.compress(image.to_bytes()), 10**6)
    assert not found.oriented and numpy.array_equal(found.values, values.transpose(2, 1, 0))
    assert found.spacing == pytest.approx((6.0, 0.8, 0.7))
    assert ct_volumes.tells_orientation(numpy.diag([-0.7, 0.8, 6.0, 1.0]))


def test_dicom_slices_are_sorted_by_place_and_rescaled(scans):
    contents = {f"{k}.dcm": ct_samples.dicom(scans[0], 1, k) for k in range(5)}
    found = ct_volumes.read_series(Path("x"), contents, 10**6)
    assert numpy.array_equal(found.values, scans[0].hu) and found.spacing == ct_samples.SPACING


def changed(content: bytes, **values: object) -> bytes:
    one = pydicom.dcmread(io.BytesIO(content))
    for name, value in values.items():
        if value is None:
            delattr(one, name)
        else:
            setattr(one, name, value)
    buffer = io.BytesIO()
    one.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"ImagePositionPatient": [0, 0, 7.5]}, "one is missing or there twice"),
        ({"ImagePositionPatient": [0, 0, 6.0]}, "one is missing or there twice"),
        ({"SeriesInstanceUID": "1.2.3"}, "holds 2 series"),
        ({"PixelSpacing": [3, 3]}, "differ in shape"),
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, 1]}, "not axial"),
        ({"ImagePositionPatient": None}, "lacks ImagePositionPatient"),
        ({"PixelData": b"12"}, "cannot be decoded"),
    ],
)
def test_series_that_are_none(scans, values, said):
    contents = {f"{k}.dcm": ct_samples.dicom(scans[0], 1, k) for k in range(5)}
    contents["2.dcm"] = changed(contents["2.dcm"], **values)
    with pytest.raises(StageError, match=said):
        ct_volumes.read_series(Path("x"), contents, 10**6)


def test_damaged_dicom(scans):
    whole = ct_samples.dicom(scans[0], 1, 0)
    for content in (b"no dicom", whole[: len(whole) // 2], whole[:100]):
        with pytest.raises(StageError, match="DICOM|lacks|decoded"):
            ct_volumes.read_series(Path("x"), {"0.dcm": content}, 10**6)
    with pytest.raises(StageError, match="no DICOM"):
        ct_volumes.read_series(Path("x"), {}, 10**6)
    with pytest.raises(StageError, match="at most 10 voxels"):
        ct_volumes.read_series(Path("x"), {"0.dcm": whole}, 10)


def nifti(values: numpy.ndarray, affine: numpy.ndarray | None = None) -> bytes:
    return nibabel.Nifti1Image(values, numpy.eye(4) if affine is None else affine).to_bytes()


def test_damaged_nifti(scans):
    whole, plain = ct_samples.nifti(scans[0].hu, 0), nifti(scans[0].hu)
    for content in (b"no nifti", whole[: len(whole) // 2], plain[:500], plain[:100], b"\x1f\x8bno"):
        with pytest.raises(StageError, match="NIfTI|truncated"):
            ct_volumes.read_nifti(Path("x"), content, 10**6)
    for values, said in ((numpy.zeros((0, 3, 3), "i2"), "empty|NIfTI"), (numpy.zeros((3, 3), "i2"), "three axes"),
                         (numpy.full((3, 3, 3), numpy.nan, "f4"), "NaN")):  # fmt: skip
        with pytest.raises(StageError, match=said):
            ct_volumes.read_nifti(Path("x"), nifti(values), 10**6)
    with pytest.raises(StageError, match="at most 9 voxels"):
        ct_volumes.read_nifti(Path("x"), plain, 9)
    bomb = gzip.compress(plain + bytes(2 * ct_volumes.HEADERS))
    with pytest.raises(StageError, match="unpacks to more than"):
        ct_volumes.read_nifti(Path("x"), bomb, 10**4)


# --- grey levels and sizes ------------------------------------------------------------------------


def params(**changes):
    found = ct_lesion.main.configure([PUBLISHER]).params
    for name, value in changes.items():
        setattr(found, name, value)
    return found


def test_hu_get_the_window_and_others_their_own_quantiles(project, scans):
    assert ct_cases.scale_of(scans[0].hu, params(), Path("x")) == (True, (-1000.0, 400.0))
    stretched = (scans[0].hu.astype(int) + 1400) * 2
    hu, window = ct_cases.scale_of(stretched, params(), Path("x"))
    assert not hu and window == pytest.approx(numpy.quantile(stretched, (0.005, 0.995)).tolist())
    with pytest.raises(StageError, match="nearly everywhere"):
        ct_cases.scale_of(numpy.full((2, 4, 4), 7), params(), Path("x"))


def test_resampling_keeps_means_and_masks_go_by_majority():
    random = numpy.random.RandomState(0)
    values = random.uniform(size=(2, 9, 6))
    assert ct_cases.averaged(values, 4).mean() == pytest.approx(values.mean())
    assert numpy.allclose(ct_cases.averaged(values[:, :6], 3), values[:, :6].reshape(2, 3, 2, 3, 2).mean((2, 4)))
    assert numpy.array_equal(ct_cases.averaged(values, None), values)
    mask = numpy.zeros((1, 4, 4))
    mask[0, :2, :2] = mask[0, 2, 2] = 1
    assert ct_cases.majority(mask, 2).tolist() == [[[1, 0], [0, 0]]]


# --- the stage ------------------------------------------------------------------------------------


def test_volumes_in_the_publishers_folder(project, scans):
    write(FOLDER, files(scans))
    ct_lesion.main([PUBLISHER, "params.side.publisher=8"])
    about, arrays = manifest("ct_lesion"), prepared()
    assert about["files"] == "subset" and about["unit"] == "patients" and about["counts"]["train"] >= 4
    assert arrays["shape"].tolist() == [[5, 8, 8]] * 9 and arrays["spacing"][0].tolist() == [6.0, 4.0, 4.0]
    assert not arrays["artefact"].any() and set(numpy.unique(arrays["lesion"])) == {0, 1}


def test_few_patients_are_divided_by_slabs(project, scans, capsys):
    deep = [ct_phantom.draw(ct_phantom.Recipe(depth=depth, side=16), numpy.random.RandomState(depth)) for depth in (9, 11)]
    write(FOLDER, files(deep))
    ct_lesion.main([PUBLISHER, "params.side.publisher=16", "params.slabs=3"])
    assert manifest("ct_lesion")["unit"] == "slabs" and manifest("ct_lesion")["shape"] == ["9 to 11", "16", "16"]
    assert prepared()["piece"].tolist() == [[0, 0, 3, 0], [0, 3, 6, 1], [0, 6, 9, 2], [1, 0, 3, 0], [1, 3, 7, 1], [1, 7, 11, 2]]
    Path("runs/prepare/ct_lesion/manifest.json").unlink()
    assert "expected 12 or more for 4 slabs" in fails(capsys, "params.slabs=4", "params.side.publisher=16")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("rp_msk/1.nii.gz", lambda s: ct_samples.nifti(s[1].lesion[:4], 1), "has the shape"),
        ("rp_msk/1.nii.gz", lambda s: ct_samples.nifti(s[1].lesion * 3, 1), "has the label 3"),
        ("rp_msk/1.nii.gz", lambda s: ct_samples.nifti(s[1].lesion * 0.5, 1), "no labels"),
        ("rp_lung_msk/1.nii.gz", lambda s: nifti(s[1].lung.transpose(2, 1, 0)), "orientation"),
        ("rp_im/1.nii.gz", lambda s: b"damaged", "not an intact NIfTI"),
        ("rp_im/1.nii.gz", lambda s: b"", "0 bytes"),
        ("rp_im/2/3.dcm", lambda s: b"damaged", "not an intact DICOM"),
        ("rp_msk/1.nii.gz", None, "rp_msk/1: not found"),
        ("rp_im/2/3.dcm", None, "one is missing"),
        ("patients.csv", lambda s: b"case,patient\n0,a\n", "names no patient for case 1"),
        ("patients.csv", lambda s: b"name\n0\n", "expected the columns"),
    ],
)
def test_wrong_files(project, scans, capsys, name, content, said):
    write(FOLDER, files(scans))
    if content is None:
        (FOLDER / name).unlink()
    else:
        write(FOLDER, {name: content(scans)})
    assert said in fails(capsys, "params.side.publisher=16")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("params.window=[400,-1000]", "params.window"),
        ("params.quantiles=[0.9,0.1]", "params.quantiles"),
        ("params.labels=[1]", "params.labels"),
        ("params.slabs=2", "params.slabs"),
        ("params.val_share=0.9", "params.val_share"),
        ("params.max_bytes=10", "max_bytes"),
        ("params.max_voxels=10", "at most 10 voxels"),
        ("ct_source=other", "source=other"),
    ],
)
def test_impossible_settings(project, scans, capsys, word, said):
    write(FOLDER, files(scans))
    assert said in fails(capsys, word)


def test_a_scan_without_lesion_is_kept(project, scans):
    healthy = files(scans) | {"rp_msk/1.nii.gz": ct_samples.nifti(scans[1].lesion * 0, 1)}
    write(FOLDER, healthy)
    ct_lesion.main([PUBLISHER, "params.side.publisher=16"])
    assert not prepared()["lesion"].reshape(9, -1)[1].any() and manifest("ct_lesion")["cases"][1]["labels"] == {"0": 1280}


def test_files_of_the_other_source_are_refused(project, scans, capsys):
    write(Path("data/sample/ct_lesion"), files(scans))
    assert "differs from the pinned sample" in helpers.fails(ct_lesion, "ct_lesion", capsys, "params.side.sample=16")
    (FOLDER / "rp_im").mkdir(parents=True)
    assert "holds no volume" in fails(capsys)


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "ct-lesion-medseg2").is_dir(), reason="the publisher's volumes are not here")
def test_the_publishers_volumes(project):
    shutil.copytree(SHARED / "ct-lesion-medseg2", FOLDER)
    ct_lesion.main([PUBLISHER])
    about, arrays = manifest("ct_lesion"), prepared()
    assert about["files_because"] == "2 of 9 volumes, 84 of 829 slices, 61 of 373 with_lesions" and about["unit"] == "slabs"
    assert [case["hu"] or case["oriented"] for case in about["cases"]] == [False, False]
    ends = numpy.cumsum(arrays["shape"].prod(1))
    for begin, end in ((0, ends[0]), (ends[0], ends[1])):
        lesion, lung = arrays["lesion"][begin:end] > 0, arrays["lung"][begin:end] > 0
        image = arrays["image"][begin:end]
        assert (lesion & lung).sum() > 0.95 * lesion.sum() and image[lung].mean() < image[~lung].mean() + 60
    places = {case: sorted((a, b) for c, a, b, _ in arrays["piece"].tolist() if c == case) for case in (0, 1)}
    assert all(one[1] == two[0] for row in places.values() for one, two in itertools.pairwise(row))
