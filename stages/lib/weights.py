"""Models on disk: weights as safetensors with the architecture record, from which the net is rebuilt."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from stages.lib.artifacts import load_tensors, save_tensors
from stages.lib.errors import StageError, one_line
from stages.lib.models import build


def save_model(path: str | Path, model: nn.Module) -> None:
    """Write a model's state and its record(). Raises StageError if a weight is not finite."""
    save_tensors(path, model.state_dict(), model.record())


def load_model(path: str | Path) -> nn.Module:
    """Rebuild a model from its record and weights, in eval mode on the CPU. Raises StageError."""
    tensors, record = load_tensors(path)
    try:
        model = build(record)
        model.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = one_line(error)[:200]
        raise StageError(f"{path}: weights and architecture disagree ({reason}); run its stage again") from error
    return model.eval()
