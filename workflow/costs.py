"""Core-seconds of each paper and scale, from what the engine noted when it computed the stages (runs/.costs)."""

from __future__ import annotations

import json
import re
from pathlib import Path

ADDRESS = re.compile(r"stages/papers/(?P<paper>[^/]+)/dvc\.yaml:\w+@(?P<scale>smoke|small|medium|paper)\b")


def by_paper(folder: Path) -> dict[tuple[str, str], float]:
    """Sums of the notes in a folder by paper and scale; notes of stages without a scale are left out."""
    sums: dict[tuple[str, str], float] = {}
    for path in sorted(folder.glob("*.json")):
        note = json.loads(path.read_text(encoding="utf-8"))
        match = ADDRESS.match(note["stage"])
        if match:
            key = (match["paper"], match["scale"])
            sums[key] = sums.get(key, 0.0) + note["core_seconds"]
    return sums
