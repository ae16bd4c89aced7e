"""Cases of a CT set: a volume with its masks, checked, resampled and brought to grey levels."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy

from stages.lib import artifacts
from stages.lib.errors import StageError
from stages.prepare import ct_volumes, provenance
from stages.prepare.ct_volumes import Volume

GENERATED = "generated sample"
IMAGES, LESIONS, LUNGS, ARTEFACTS = "rp_im", "rp_msk", "rp_lung_msk", "rp_artefact_msk"
NEAR = 0.02  # relative difference of a mask's spacing from its volume's that still counts as none


@dataclasses.dataclass(frozen=True)
class Case:
    """One volume after preparing: grey levels and masks uint8 [D, H, W], spacing in mm, and what its file was like."""

    name: str
    image: numpy.ndarray
    lesion: numpy.ndarray
    lung: numpy.ndarray
    artefact: numpy.ndarray
    spacing: tuple[float, float, float]
    hu: bool
    window: tuple[float, float]
    oriented: bool
    labels: dict[str, int]  # voxels of the file by value of the lesion mask
    with_lesion: int  # slices of the file that have one


class Files:
    """Reads files below a root, of at most max_bytes, and keeps their hashes."""

    def __init__(self, root: Path, max_bytes: int) -> None:
        self.root, self.max_bytes = root, max_bytes
        self.sums: dict[str, str] = {}

    def read(self, path: Path) -> bytes:
        """All bytes of a file. Raises StageError if it is absent, empty or too large."""
        try:
            size = path.stat().st_size
        except OSError as error:
            raise StageError(f"{path}: cannot be read: {error.strerror}; fetch the data set again") from error
        if not 0 < size <= self.max_bytes:
            raise StageError(f"{path}: {size} bytes; expected 1 to {self.max_bytes} (params.max_bytes)")
        content = artifacts.read_bytes(path)
        self.sums[path.relative_to(self.root).as_posix()] = hashlib.sha256(content).hexdigest()
        return content

    def fingerprint(self) -> str:
        """SHA-256 over the sorted lines "<sha256>  <path>" of what was read."""
        return hashlib.sha256("".join(sorted(f"{one}  {name}\n" for name, one in self.sums.items())).encode()).hexdigest()


def check_params(params: Any) -> None:
    """StageError for a parameter out of range."""
    low, high = params.window if len(params.window) == 2 else (0.0, 0.0)
    below, above = params.quantiles if len(params.quantiles) == 2 else (1.0, 0.0)
    if not low < high:
        raise StageError(f"params.window={params.window}: expected two rising numbers of HU")
    if not 0.0 <= below < above <= 1.0:
        raise StageError(f"params.quantiles={params.quantiles}: expected two rising shares from 0 to 1")
    if 0 not in params.labels or len(params.labels) < 2:
        raise StageError(f"params.labels={params.labels}: expected 0 and at least one lesion")
    if params.slabs < 3:
        raise StageError(f"params.slabs={params.slabs}: expected 3 or more, to train, to choose and to test")
    if not (params.val_share > 0 and params.test_share > 0 and params.val_share + params.test_share < 1):
        raise StageError(
            f"params.val_share={params.val_share}, test_share={params.test_share}: expected shares, below 1 together"
        )


def patients(files: Files, names: Sequence[str]) -> list[str]:
    """The patient of each case, by patients.csv (columns case, patient); without that file a case is a patient."""
    path = files.root / "patients.csv"
    if not path.is_file():
        return list(names)
    rows = list(csv.DictReader(io.StringIO(files.read(path).decode("utf-8-sig", "replace"))))
    if not rows or not {"case", "patient"} <= set(rows[0]):
        raise StageError(f"{path}: expected the columns case and patient")
    known = {row["case"]: row["patient"] for row in rows}
    for name in names:
        if not known.get(name):
            raise StageError(f"{path}: names no patient for case {name}; add it, since scans of one must not be divided")
    return [known[name] for name in names]


# --- reading --------------------------------------------------------------------------------------


def read(files: Files, name: str, side: int | None, params: Any) -> Case:
    """One case, resampled in the plane to `side`. Raises StageError for what does not fit together."""
    volume = load(files, IMAGES, name, params.max_voxels)
    masks = {kind: mask(files, kind, name, volume, params) for kind in (LESIONS, LUNGS, ARTEFACTS)}
    values, counted = masks[LESIONS], Counter(masks[LESIONS].ravel().tolist())
    strange = sorted(set(counted) - set(params.labels))
    if strange:
        raise StageError(f"{files.root / LESIONS / name}: has the label {strange[0]}; expected {params.labels} (params.labels)")
    hu, window = scale_of(volume.values, params, files.root / IMAGES / name)
    grey = numpy.clip((volume.values.astype(numpy.float64) - window[0]) / (window[1] - window[0]), 0.0, 1.0) * 255.0
    height, width = values.shape[1:]
    factor = (1.0, 1.0) if side is None else (height / side, width / side)
    spacing = (volume.spacing[0], volume.spacing[1] * factor[0], volume.spacing[2] * factor[1])
    whole = numpy.rint(averaged(grey, side)).astype(numpy.uint8)
    small = {kind: majority(found != 0, side) for kind, found in masks.items()}
    labels = {str(value): count for value, count in sorted(counted.items())}
    return Case(name, whole, small[LESIONS], small[LUNGS], small[ARTEFACTS], spacing, hu, window, volume.oriented, labels,
                int((values != 0).any((1, 2)).sum()))  # fmt: skip


def load(files: Files, folder: str, name: str, max_voxels: int) -> Volume:
    """A case's volume of one folder. Raises StageError if it is absent or damaged."""
    path = ct_volumes.find(files.root / folder, name)
    if path is None:
        raise StageError(f"{files.root / folder / name}: not found; expected {name}.nii.gz or a folder of DICOM files")
    if path.is_dir():
        inside = {entry.name: files.read(entry) for entry in sorted(path.iterdir()) if entry.is_file()}
        return ct_volumes.read_series(path, inside, max_voxels)
    return ct_volumes.read_nifti(path, files.read(path), max_voxels)


def mask(files: Files, folder: str, name: str, volume: Volume, params: Any) -> numpy.ndarray:
    """A mask of the volume's shape, whole numbers; zeros where the set has no such folder.

    Raises StageError for other shapes and spacings, for an orientation that only one of both files tells, for fractions.
    """
    if folder == ARTEFACTS and not (files.root / folder).is_dir():
        return numpy.zeros(volume.values.shape, dtype=numpy.uint8)
    found, path = load(files, folder, name, params.max_voxels), files.root / folder / name
    if found.values.shape != volume.values.shape:
        raise StageError(f"{path}: has the shape {found.values.shape}, its volume {volume.values.shape}; fetch both again")
    if found.oriented != volume.oriented or not numpy.allclose(found.spacing, volume.spacing, rtol=NEAR):
        raise StageError(f"{path}: spacing {found.spacing} mm or orientation differ from its volume's {volume.spacing} mm")
    whole = numpy.rint(found.values)
    if (whole != found.values).any() or whole.min() < 0 or whole.max() > 255:
        raise StageError(f"{path}: holds values that are no labels; expected whole numbers of 0 or more")
    return whole.astype(numpy.uint8)


def scale_of(values: numpy.ndarray, params: Any, path: Path) -> tuple[bool, tuple[float, float]]:
    """(whether values are HU, values that become 0 and 255): the HU window, else quantiles of this volume.

    Air is -1000 HU and in every scan; a file of grey levels has nothing so low. Raises StageError for a constant volume.
    """
    if float(numpy.quantile(values, 0.01)) < params.air:
        return True, (float(params.window[0]), float(params.window[1]))
    low, high = (float(one) for one in numpy.quantile(values, params.quantiles))
    if not low < high:
        raise StageError(f"{path}: has the same value {low:g} nearly everywhere; fetch it again")
    return False, (low, high)


def averaged(values: numpy.ndarray, side: int | None) -> numpy.ndarray:
    """float64 [D, side, side]: means over areas of the plane, of values [D, H, W]."""
    if side is None or values.shape[1:] == (side, side):
        return values.astype(numpy.float64)
    rows, columns = (weights(size, side) for size in values.shape[1:])
    return numpy.einsum("ih,dhw,jw->dij", rows, values.astype(numpy.float64), columns, optimize=True)


def weights(size: int, side: int) -> numpy.ndarray:
    """[side, size]: the share of each old pixel in each new one."""
    edges = numpy.arange(side + 1) * size / side
    place = numpy.arange(size)
    overlap = numpy.minimum(edges[1:, None], place + 1) - numpy.maximum(edges[:-1, None], place)
    return numpy.clip(overlap, 0.0, None) * side / size


def majority(chosen: numpy.ndarray, side: int | None) -> numpy.ndarray:
    """uint8 [D, side, side]: 1 where more than half of a pixel's area is chosen."""
    return (averaged(chosen, side) > 0.5).astype(numpy.uint8)


# --- what the set is ------------------------------------------------------------------------------


def count(read: Sequence[Case]) -> dict[str, int]:
    """Volumes, slices, and slices with lesions in the files."""
    return {
        "volumes": len(read),
        "slices": sum(len(one.image) for one in read),
        "with_lesions": sum(one.with_lesion for one in read),
    }


def shape(read: Sequence[Case]) -> list[str]:
    """Slices, rows and columns, as ranges where volumes differ."""
    ends = [(min(one), max(one)) for one in zip(*(case.image.shape for case in read))]
    return [str(low) if low == high else f"{low} to {high}" for low, high in ends]


def origin(found: str, counts: dict[str, int], params: Any) -> tuple[str, str]:
    """(what the files are, why), from their hash or else their numbers."""
    if found == params.sample_sha256:
        return GENERATED, "as pinned; no CT volumes ship with any dependency"
    text = ", ".join(f"{counts[name]} of {most} {name}" for name, most in params.official.items())
    if any(counts[name] > most for name, most in params.official.items()):
        return provenance.REMADE, text
    whole = all(counts[name] == most for name, most in params.official.items())
    return (provenance.OFFICIAL if whole else "subset"), text


def arrays(read: Sequence[Case], piece: numpy.ndarray) -> dict[str, numpy.ndarray]:
    """All volumes flat, one after the other, with their shapes and spacings, and the pieces [n, 4]."""
    flat = {name: numpy.concatenate([getattr(one, name).ravel() for one in read])
            for name in ("image", "lesion", "lung", "artefact")}  # fmt: skip
    return flat | {
        "shape": numpy.array([one.image.shape for one in read], dtype=numpy.int64),
        "spacing": numpy.array([one.spacing for one in read]),
        "piece": piece,
    }
