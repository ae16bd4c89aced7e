r"""CLIP's published weights to safetensors, once: the image tower alone, in float32, under the names it has there.

    python stages/papers/milan/convert.py source=ViT-B-16.pt \
        sha256=5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f

writes data/publisher/clip/ViT-B-16/{visual.safetensors,manifest.json}, which the stage `teach` reads where
`teacher.weights` names that folder. No pickle is trusted: the file must have the given SHA-256, TorchScript archives
are read by torch.jit.load, state dicts by torch.load(weights_only=True), and .safetensors as they are.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stages.lib.stage import StageError, field, stage

if TYPE_CHECKING:
    from torch import Tensor

PREFIX = "visual."


@dataclass
class Config:
    """Command line of the script."""

    source: str = field(help="the publisher's file: TorchScript, a state dict, or safetensors")
    sha256: str = field(help="its SHA-256; OpenAI's addresses of the files contain it")
    folder: str = field(default="data/publisher/clip/ViT-B-16", help="where to write")
    head_dim: int = field(default=64, help="width of a head, which the tensors do not tell; 64 in all of CLIP")


def read_tensors(path: Path) -> "dict[str, Tensor]":
    """All tensors of the file by name. Raises StageError for what is no archive of tensors."""
    import pickle

    import torch

    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            return load(path.read_bytes())
        except SafetensorError as error:
            raise StageError(f"{path}: not an intact safetensors file ({error})") from error
    try:
        scripted = zipfile.is_zipfile(path) and any("/code/" in name for name in zipfile.ZipFile(path).namelist())
        if scripted:
            return dict(torch.jit.load(path, map_location="cpu").state_dict())
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, zipfile.BadZipFile, pickle.UnpicklingError) as error:
        raise StageError(f"{path}: neither TorchScript nor a state dict of tensors ({type(error).__name__})") from error
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise StageError(f"{path}: expected a state dict, names with tensors")
    return found


def image_tower(tensors: "dict[str, Tensor]", path: Path) -> "dict[str, Tensor]":
    """The image tower's tensors in float32, without their prefix. Raises StageError if there are none."""
    found = {name.removeprefix(PREFIX): value.float() for name, value in tensors.items() if name.startswith(PREFIX)}
    if not found:
        raise StageError(f"{path}: no tensor is named {PREFIX}*; expected CLIP's weights")
    return found


@stage(Config)
def main(cfg: Config) -> None:
    """Write the image tower of CLIP's published weights as safetensors, with a manifest that names both files' SHA-256."""
    from stages.lib import artifacts
    from stages.papers.milan import checkpoint

    source, folder = Path(cfg.source), Path(cfg.folder)
    if cfg.head_dim < 1:
        raise StageError(f"head_dim={cfg.head_dim}: expected 1 or more")
    found = artifacts.sha256(source)
    if found != cfg.sha256:
        raise StageError(f"{source}: SHA-256 {found[:12]}, expected {cfg.sha256[:12]}; get the file again")
    tensors = image_tower(read_tensors(source), source)
    tower = checkpoint.assemble(tensors, checkpoint.shape_of(tensors, cfg.head_dim, str(source)), str(source))
    checkpoint.save(folder / checkpoint.WEIGHTS, tower)
    artifacts.write_manifest(folder / "manifest.json", outputs=[folder / checkpoint.WEIGHTS], source_sha256=found)
    print(f"{folder}: {sum(p.numel() for p in tower.parameters()):,} parameters, {tower.shape.record()}")


if __name__ == "__main__":
    main()
