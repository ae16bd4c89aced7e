"""Teachers on disk: those that the stage `teach` wrote, and CLIP's image tower as `convert.py` leaves it."""

from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from stages.lib import artifacts
from stages.lib.errors import StageError
from stages.papers.milan.tower import Shape, Tower

FIELDS = ("image", "channels", "patch", "width", "depth", "heads", "joint")
WEIGHTS = "visual.safetensors"  # name of a converted tower in its folder


def shape_of(tensors: dict[str, Tensor], head_dim: int, origin: str) -> Shape:
    """The shape that a tower's tensors tell. Raises StageError naming a tensor that is absent or of an impossible shape."""
    sizes = {}
    for name, dimensions in (("conv1.weight", 4), ("positional_embedding", 2), ("proj", 2)):
        if name not in tensors or tensors[name].ndim != dimensions:
            found = list(tensors[name].shape) if name in tensors else "none"
            raise StageError(f"{origin}: {name}: expected a tensor of {dimensions} dimensions, found {found}")
        sizes[name] = tuple(tensors[name].shape)
    width, channels, patch, _ = sizes["conv1.weight"]
    side = round((sizes["positional_embedding"][0] - 1) ** 0.5)
    depth = len({name.split(".")[2] for name in tensors if name.startswith("transformer.resblocks.")})
    return Shape(side * patch, channels, patch, width, depth, width // head_dim or 1, sizes["proj"][1])


def assemble(tensors: dict[str, Tensor], shape: Shape, origin: str) -> Tower:
    """The frozen tower of these tensors, in eval mode. StageError names the first that is missing, surplus or misshapen."""
    with torch.random.fork_rng(devices=[]):
        tower = Tower(shape)
    wanted = tower.state_dict()
    for name in sorted({*wanted, *tensors}):
        expected = list(wanted[name].shape) if name in wanted else "none of that name"
        found = list(tensors[name].shape) if name in tensors else "none"
        if expected != found:
            raise StageError(f"{origin}: {name}: expected {expected}, found {found}; these are not the weights of this tower")
    tower.load_state_dict(tensors)
    return tower.requires_grad_(False).eval()


def save(path: Path, tower: Tower) -> None:
    """Write a tower's tensors and shape."""
    artifacts.save_tensors(path, tower.state_dict(), tower.shape.record())


def load(path: Path) -> Tower:
    """A tower as `save` left it. Raises StageError for a file that is damaged or holds something else."""
    tensors, record = artifacts.load_tensors(path)
    if not isinstance(record, dict) or set(record) != {"kind", *FIELDS} or record["kind"] != "clip tower":
        raise StageError(f"{path}: holds no teacher; run the stage teach, or convert.py, again")
    return assemble(tensors, Shape(**{name: record[name] for name in FIELDS}), str(path))


def read_converted(folder: Path, source_sha256: str) -> Tower:
    """CLIP's image tower from a folder of convert.py. Raises StageError where it is missing, altered or another file's."""
    path = folder / "manifest.json"
    if not path.is_file():
        raise StageError(f"{path}: not found; put CLIP's weights there by `python stages/papers/milan/convert.py --help`")
    made = artifacts.verify_manifest(path)
    if source_sha256 and made.get("source_sha256") != source_sha256:
        told = str(made.get("source_sha256"))[:12]
        raise StageError(f"{path}: converted from a file with SHA-256 {told}, expected {source_sha256[:12]}; convert that file")
    return load(folder / WEIGHTS)


def check_shape(tower: Tower, wanted: Shape, origin: str) -> None:
    """StageError unless a tower has the shape that images and parameters ask for."""
    own, other = asdict(tower.shape), asdict(wanted)
    for name in FIELDS:
        if own[name] != other[name]:
            raise StageError(f"{origin}: a tower with {name} {own[name]}; images and params.teacher ask for {other[name]}")
