"""Small settings and digits that MILAN's tests share."""

from pathlib import Path

import torch
import yaml

from stages.lib.data import Split

SMOKE = yaml.safe_load((Path(__file__).parents[2] / "params/milan/smoke.yaml").read_text())["scenes"]


def images() -> dict:
    """The smoke scale's scenes."""
    return dict(SMOKE["images"])


def digits(count: int) -> Split:
    """Blobs of ten classes in the prepared digits' encoding."""
    y = torch.arange(count) % 10
    patterns = torch.rand(10, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    grey = (patterns[y] + 0.1 * torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    return Split((grey + 1.0) / 3.0, y, tuple(map(str, range(10))), (0.0,), (1.0,), "sample")
