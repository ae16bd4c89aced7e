"""Nets with auxiliary heads, on disk."""

from pathlib import Path

from torch import nn

from stages.lib import artifacts
from stages.lib.errors import StageError
from stages.papers.dcp.heads import AuxHead, Supervised


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
