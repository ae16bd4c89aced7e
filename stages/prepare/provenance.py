"""What raw files are: the publisher's own, re-made from them, or the embedded sample. Never left unsaid."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from stages.lib.errors import StageError

OFFICIAL, REMADE, EMBEDDED = "official", "re-made", "embedded sample"
SOURCES = ("sample", "publisher")


def folder(source: str, dataset: str) -> Path:
    """data/<source>/<dataset>. Raises StageError for an unknown source or an absent folder."""
    if source not in SOURCES:
        raise StageError(f"source={source}: expected one of {', '.join(SOURCES)}")
    path = Path("data") / source / dataset
    if not path.is_dir():
        todo = "python -m stages.prepare.samples writes it" if source == "sample" else "see the README for its layout"
        raise StageError(f"{path}: not found; {todo}")
    return path


def classify(contents: Mapping[str, bytes], official: Mapping[str, str], embedded: Mapping[str, str]) -> str:
    """One word for a set of files by name, from hex MD5 or SHA-256 by name (publishers list either).

    Raises StageError where official, embedded and other files lie side by side.
    """
    kinds: dict[str, list[str]] = {}
    for name, content in contents.items():
        kinds.setdefault(_kind(name, content, official, embedded), []).append(name)
    if len(kinds) > 1:
        mixed = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in sorted(kinds.items()))
        raise StageError(f"files of different origin in one folder ({mixed}); fetch the altered ones again")
    return next(iter(kinds))


def _kind(name: str, content: bytes, official: Mapping[str, str], embedded: Mapping[str, str]) -> str:
    digests = {hashlib.md5(content, usedforsecurity=False).hexdigest(), hashlib.sha256(content).hexdigest()}
    if official.get(name) in digests:
        return OFFICIAL
    return EMBEDDED if embedded.get(name) in digests else REMADE


def refuse_misplaced(kind: str, source: str, path: Path) -> None:
    """Raise StageError for the embedded sample under data/publisher, and for what is not it under data/sample."""
    if source == "publisher" and kind == EMBEDDED:
        raise StageError(f"{path}: holds the embedded sample; put the publisher's files there or use source=sample")
    if source == "sample" and kind == REMADE:
        raise StageError(f"{path}: differs from the pinned sample; python -m stages.prepare.samples writes it again")
