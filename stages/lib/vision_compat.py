"""torchvision beside a torch that its compiled operators do not fit: import this before torchvision.

PyPI's torchvision is built for CUDA; next to a CPU-only torch its library does not load, and the import
stops at "operator torchvision::nms does not exist". Declaring the two operator schemas that torchvision
looks up while being imported cures it; nms gets a short torch kernel, qnms (quantised boxes) none.
torchvision.ops.nms also asks whether the library was loaded; that one question is left out. Other compiled
operators stay absent (roi_align falls back to torch code, compiled at its first call, which takes half a
minute); images are decoded by Pillow.
Where the compiled operators load, nothing is declared or changed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stages.lib.runtime import installed

# A Library takes its operators along when it is garbage collected, so the module keeps it.
_LIBRARY: torch.library.Library | None = None


def install() -> bool:
    """Declare and implement the operators unless they exist; True if this module provides them."""
    global _LIBRARY
    if _LIBRARY is None and not _compiled_operators():
        _LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
        _LIBRARY.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _LIBRARY.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _LIBRARY.impl("nms", nms, "CPU")
        _import_without_question()
    return _LIBRARY is not None


def _compiled_operators() -> bool:
    """Load torchvision's own library, without importing torchvision, and say if nms is there."""
    if hasattr(torch.ops.torchvision, "nms"):
        return True
    folder = installed("torchvision")
    for path in sorted(folder.glob("_C.*")) if folder else []:
        try:
            torch.ops.load_library(path)
        except (OSError, ImportError):  # built for another torch
            return False
    return hasattr(torch.ops.torchvision, "nms")


def _import_without_question() -> None:
    from torchvision.ops import boxes

    boxes._assert_has_ops = lambda: None


def nms(dets: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Indices of the boxes that greedy non-maximum suppression keeps, best first.

    dets [N, 4] as x1, y1, x2, y2; scores [N]. A box goes if its IoU with a kept better one is above the threshold.
    """
    if dets.ndim != 2 or dets.shape[1] != 4 or scores.shape != dets.shape[:1]:
        raise RuntimeError(f"nms: boxes {list(dets.shape)}, scores {list(scores.shape)}; expected [N, 4] and [N]")
    low, high = dets[:, :2], dets[:, 2:]
    area = (high - low).prod(1)
    order = scores.argsort(descending=True, stable=True)
    kept = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        overlap = (torch.minimum(high[best], high[order]) - torch.maximum(low[best], low[order])).clamp(min=0).prod(1)
        order = order[~(overlap / (area[best] + area[order] - overlap) > iou_threshold)]
    return torch.stack(kept) if kept else torch.empty(0, dtype=torch.int64)


install()
