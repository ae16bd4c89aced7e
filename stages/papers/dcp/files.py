"""Where dcp's stages keep their files, and how one matrix seed stands for several repetitions."""

from pathlib import Path

from torch import nn

from stages.lib import artifacts
from stages.lib.errors import StageError
from stages.papers.dcp.heads import AuxHead, Supervised

RUNS = Path("runs/dcp")
SCRATCH = Path("runs/.scratch/dcp")


def repetitions(seed: int, repeats: int) -> list[int]:
    """Repetitions s k .. s k + k - 1 that matrix seed s stands for where the scale has `repeats: k`."""
    if repeats < 1:
        raise StageError(f"repeats={repeats}: expected 1 or more; correct the scale's params file")
    return list(range(seed * repeats, (seed + 1) * repeats))


def weights(folder: Path, stem: str, repetition: int, repeats: int) -> Path:
    """A repetition's safetensors file: `<stem>.safetensors`, or `<stem>-<repetition>.safetensors` if there are several."""
    return folder / (f"{stem}.safetensors" if repeats == 1 else f"{stem}-{repetition}.safetensors")


def scratch(folder: Path, repetition: int, purpose: str) -> Path:
    """The resumable state of one training of the stage that writes `folder`."""
    return SCRATCH / folder.relative_to(RUNS) / f"{purpose}-{repetition}.state"


def seal(folder: Path, made: list[Path], read: list[Path], config: object) -> None:
    """The manifest, written after all other outputs of a stage."""
    artifacts.write_manifest(folder / "manifest.json", outputs=made, inputs=read, config=config)


def save_supervised(path: Path, model: Supervised) -> None:
    """Writes a net together with its auxiliary heads and pivots."""
    record = {"kind": "dcp_supervised", "net": model.net.record(), "ends": model.ends}
    artifacts.save_tensors(path, model.state_dict(), record)


def load_supervised(path: Path) -> Supervised:
    """Reads what `save_supervised` wrote, in eval mode; StageError where the file is something else."""
    tensors, record = artifacts.load_tensors(path)
    if not isinstance(record, dict) or record.get("kind") != "dcp_supervised":
        raise StageError(f"{path}: not a net with auxiliary heads; run the train stage again")
    try:
        return _rebuild(tensors, record).eval()
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
        raise StageError(f"{path}: weights and record disagree ({str(error)[:120]}); run the train stage again") from error


def _rebuild(tensors: dict, record: dict) -> Supervised:
    from stages.lib.models import build

    net: nn.Module = build(record["net"])
    shapes = [tensors[f"heads.{p}.linear.weight"].shape for p in range(len(record["ends"]) - 1)]
    model = Supervised(net, [AuxHead(width, classes) for classes, width in shapes], record["ends"])
    model.load_state_dict(tensors)
    return model
