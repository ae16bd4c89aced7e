"""The prepared volumes (runs/prepare/ct_lesion) as scans, or as slabs of scans."""

import dataclasses
from pathlib import Path

import numpy
import torch
from torch import Tensor

from stages.lib import artifacts
from stages.lib.data import PREPARED
from stages.lib.errors import StageError

ARRAYS = ("image", "lesion", "lung", "artefact", "shape", "spacing", "piece")


@dataclasses.dataclass(frozen=True)
class Scan:
    """A volume or a slab of it: image float32 in [0, 1], masks uint8, all [D, H, W]; spacing of D, H, W in mm.

    `place` is a number of its own in the set; `group` its split (0 train, 1 val, 2 test) or the number of its slab.
    """

    place: int
    case: int
    name: str  # the case's, in its files
    patient: str
    group: int
    first: int  # its first slice in the whole scan
    image: Tensor
    lesion: Tensor
    lung: Tensor
    artefact: Tensor
    spacing: tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class Set:
    """All pieces of the set; `unit` is patients or slabs."""

    scans: tuple[Scan, ...]
    unit: str


def paths(dataset: str) -> list[Path]:
    """The files of a prepared set."""
    return [PREPARED / dataset / name for name in ("volumes.npz", "manifest.json")]


def load(dataset: str) -> Set:
    """The prepared set. Raises StageError if a file is absent, altered or out of shape."""
    arrays_path, manifest = paths(dataset)
    about = artifacts.verify_manifest(manifest)
    if arrays_path.name not in about["outputs"] or about.get("unit") not in ("patients", "slabs"):
        raise StageError(f"{manifest}: not that of CT volumes; run the prepare stage of {dataset} again")
    found = dict(zip(ARRAYS, artifacts.read_npz(arrays_path, *ARRAYS), strict=True))
    ends = numpy.cumsum(found["shape"].prod(1))
    if len(found["image"]) != ends[-1] or len(about["cases"]) != len(ends):
        raise StageError(f"{arrays_path}: its shapes do not fit its voxels; run the prepare stage of {dataset} again")
    scans = []
    for place, (case, first, last, group) in enumerate(found["piece"].tolist()):
        shape, end = tuple(found["shape"][case].tolist()), int(ends[case])
        whole = {name: torch.from_numpy(found[name][end - int(numpy.prod(shape)) : end].reshape(shape))[first:last]
                 for name in ARRAYS[:4]}  # fmt: skip
        image = whole.pop("image").to(torch.float32) / 255
        named, spacing = about["cases"][case], tuple(found["spacing"][case].tolist())
        scans.append(Scan(place, case, named["case"], named["patient"], group, first, image, **whole, spacing=spacing))
    return Set(tuple(scans), about["unit"])
