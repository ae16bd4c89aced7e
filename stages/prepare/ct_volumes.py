"""CT volumes from files: NIfTI (nibabel) and DICOM series (pydicom), turned to one orientation, with their spacing.

Volumes are [slice, row, column] with rows to the back and columns to the patient's left (DICOM's own LPS), slices
from feet to head. A file whose affine tells nothing but the spacing keeps its order, [column, row, slice] being assumed.
"""

from __future__ import annotations

import dataclasses
import gzip
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy

from stages.lib.errors import StageError, one_line

SUFFIXES = (".nii.gz", ".nii")
HEADERS, WIDEST = 1 << 20, 8  # most bytes of a NIfTI file besides its voxels, and of a voxel
APART = 1e-3  # relative difference of spacings, and of axes, that still counts as none


@dataclasses.dataclass(frozen=True)
class Volume:
    """values [D, H, W]; spacing in mm of slices, rows and columns; whether the file told its orientation."""

    values: numpy.ndarray
    spacing: tuple[float, float, float]
    oriented: bool


def find(folder: Path, case: str) -> Path | None:
    """The case's NIfTI file or its folder of DICOM files; None if there is neither."""
    places = [folder / f"{case}{suffix}" for suffix in SUFFIXES]
    return next((place for place in places if place.is_file()), folder / case if (folder / case).is_dir() else None)


def cases(folder: Path) -> list[str]:
    """Names of all cases below a folder, numbers in order. Raises StageError if there are none."""
    if not folder.is_dir():
        raise StageError(f"{folder}: not found; expected volumes as <case>.nii.gz or folders of DICOM files")
    names = {entry.name for entry in folder.iterdir() if entry.is_dir()}
    for suffix in SUFFIXES:
        names |= {entry.name.removesuffix(suffix) for entry in folder.iterdir() if entry.name.endswith(suffix)}
    found = sorted((name for name in names if not name.startswith(".")), key=lambda name: (len(name), name))
    if not found:
        raise StageError(f"{folder}: holds no volume; expected <case>.nii.gz or folders of DICOM files")
    return found


def check(volume: Volume, path: Path) -> Volume:
    """The volume itself. Raises StageError for one that is empty, not finite or without a spacing."""
    if not volume.values.size or min(volume.values.shape) < 1:
        raise StageError(f"{path}: the volume is empty {volume.values.shape}; fetch it again")
    if volume.values.dtype.kind == "f" and not numpy.isfinite(volume.values).all():
        raise StageError(f"{path}: holds NaN or infinity; fetch it again")
    if not all(0.0 < one < numpy.inf for one in volume.spacing):
        raise StageError(f"{path}: its spacing is {volume.spacing} mm; expected three numbers above 0")
    return volume


# --- NIfTI ----------------------------------------------------------------------------------------


def read_nifti(path: Path, content: bytes, max_voxels: int) -> Volume:
    """A NIfTI-1 file. Raises StageError for damage, other than three axes, and more than max_voxels."""
    import nibabel

    most = HEADERS + WIDEST * max_voxels
    try:
        plain = unpacked(content, most + 1)
        image = nibabel.Nifti1Image.from_bytes(plain)
        shape = image.shape
    except Exception as error:  # a damaged file can raise nearly anything from the parser
        raise StageError(f"{path}: not an intact NIfTI file ({one_line(error)}); fetch it again") from error
    if len(plain) > most:
        raise StageError(f"{path}: unpacks to more than {most} bytes; at most {max_voxels} voxels (params.max_voxels) are read")
    if len(shape) != 3 or min(shape) < 1:
        raise StageError(f"{path}: has the shape {shape}; expected a volume of three axes that is not empty")
    if int(numpy.prod(shape, dtype=numpy.int64)) > max_voxels:
        raise StageError(f"{path}: has the shape {shape}; at most {max_voxels} voxels (params.max_voxels) are read")
    oriented = tells_orientation(image.affine)
    if not numpy.isfinite(image.affine).all() or abs(numpy.linalg.det(image.affine[:3, :3])) < APART**3:
        raise StageError(f"{path}: its affine is not that of a volume; expected three axes of mm")
    turned = _turned(image) if oriented else image
    try:
        values = numpy.asanyarray(turned.dataobj)
    except (OSError, EOFError, ValueError) as error:
        raise StageError(f"{path}: truncated ({one_line(error)}); fetch it again") from error
    width, height, depth = (float(one) for one in nibabel.affines.voxel_sizes(turned.affine))
    return check(Volume(numpy.ascontiguousarray(values.transpose(2, 1, 0)), (depth, height, width), oriented), path)


def unpacked(content: bytes, most: int) -> bytes:
    """A gzipped file's content up to `most` bytes, so that a small file cannot fill the memory; other content as it is."""
    if content[:2] != b"\x1f\x8b":
        return content
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
        return file.read(most)


def tells_orientation(affine: numpy.ndarray) -> bool:
    """Whether an affine is more than a spacing: axes turned or mirrored, or an origin."""
    spacing = numpy.diag(affine)[:3]
    return not (numpy.allclose(affine, numpy.diag([*spacing, 1.0])) and (spacing > 0).all())


def _turned(image: Any) -> Any:
    """The image with its axes nearest to left, back and head; oblique ones are not resampled."""
    from nibabel import orientations

    now, wanted = orientations.io_orientation(image.affine), orientations.axcodes2ornt(("L", "P", "S"))
    return image.as_reoriented(orientations.ornt_transform(now, wanted))


# --- DICOM ----------------------------------------------------------------------------------------


def read_series(folder: Path, contents: dict[str, bytes], max_voxels: int) -> Volume:
    """One series of axial CT slices, sorted along the slices' normal, in HU if the files rescale to them.

    Raises StageError for damaged files, two series in a folder, missing or repeated slices, slices that differ in shape.
    """
    slices = [_slice(folder / name, content) for name, content in sorted(contents.items())]
    if not slices:
        raise StageError(f"{folder}: holds no DICOM file; fetch the series again")
    series = {str(one.get("SeriesInstanceUID", "")) for one in slices}
    if len(series) > 1:
        raise StageError(f"{folder}: holds {len(series)} series; keep one in a folder")
    shapes = {(int(one.Rows), int(one.Columns), tuple(map(float, one.PixelSpacing))) for one in slices}
    if len(shapes) > 1:
        raise StageError(f"{folder}: its slices differ in shape or spacing; expected one series")
    (rows, columns, (height, width)) = shapes.pop()
    if rows * columns * len(slices) > max_voxels:
        raise StageError(f"{folder}: {len(slices)} slices of {rows} x {columns}; at most {max_voxels} voxels are read")
    axes = {tuple(numpy.round([float(v) for v in one.ImageOrientationPatient], 3).tolist()) for one in slices}
    if axes != {(1.0, 0.0, 0.0, 0.0, 1.0, 0.0)}:
        raise StageError(
            f"{folder}: its slices are not axial {sorted(axes)[0]}; expected rows to the left, columns to the back"
        )
    slices.sort(key=lambda one: float(one.ImagePositionPatient[2]))
    depth = _step(folder, [float(one.ImagePositionPatient[2]) for one in slices], slices)
    values = numpy.stack([_pixels(folder, one) for one in slices])
    return check(Volume(values, (depth, height, width), True), folder)


NEEDED = ("Rows", "Columns", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "PixelData")


def _slice(path: Path, content: bytes) -> Any:
    """One file's data set. Raises StageError if it is no DICOM or lacks what a slice needs."""
    import pydicom

    try:
        found = pydicom.dcmread(io.BytesIO(content))
        absent = [name for name in NEEDED if name not in found]
    except Exception as error:  # as above
        raise StageError(f"{path}: not an intact DICOM file ({one_line(error)}); fetch it again") from error
    if absent:
        raise StageError(f"{path}: lacks {absent[0]}; expected a slice of a CT series")
    return found


def _step(folder: Path, places: Sequence[float], slices: Sequence[Any]) -> float:
    """Distance of slices in mm. Raises StageError where one is missing or there twice."""
    if len(places) == 1:
        return float(slices[0].get("SliceThickness", 0.0) or 1.0)
    steps = numpy.diff(places)
    step = float(numpy.median(steps))
    if step <= 0 or (numpy.abs(steps - step) > 0.01 * step).any():
        raise StageError(f"{folder}: slices lie {steps.min():g} to {steps.max():g} mm apart; one is missing or there twice")
    return step


def _pixels(folder: Path, one: Any) -> numpy.ndarray:
    """A slice in the rescaled unit, float32 or the integers of the file. Raises StageError for damaged pixels."""
    try:
        stored = one.pixel_array
    except Exception as error:  # as above
        raise StageError(f"{folder}: pixels cannot be decoded ({one_line(error)}); fetch the series again") from error
    slope, intercept = float(one.get("RescaleSlope", 1.0)), float(one.get("RescaleIntercept", 0.0))
    return (stored.astype(numpy.float32) * slope + intercept).astype(numpy.float32)
