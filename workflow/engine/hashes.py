"""Content hashes of dependencies, now or as they will be once the stages above have been restored."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.meta import Meta
    from dvc_data.hashfile.obj import HashFile

Hash = tuple["Meta | None", "HashInfo"]


@dataclass(frozen=True)
class Predicted:
    """What an output will be: its hash (None: unknown before the stage has run)."""

    meta: Meta | None
    hash_info: HashInfo | None


def _above(path: str) -> list[str]:
    """The folders that contain a repository path, the nearest first."""
    parts = path.split("/")
    return ["/".join(parts[:depth]) for depth in range(len(parts) - 1, 0, -1)]


class Hasher:
    """Hash paths of the workspace, each once.

    `outputs` maps every planned output (repository path) to what it is or will be; a path that is or contains
    such an output takes the prediction instead of the workspace's bytes.
    """

    def __init__(self, repo: Repo) -> None:
        self.repo = repo
        self.outputs: dict[str, Predicted] = {}
        self._inside: dict[str, dict[str, Predicted]] = {}  # of every folder that holds outputs, at whatever depth
        self._known: dict[str, Hash | None] = {}

    def expect(self, path: str, out: Predicted) -> None:
        """Note what an output will be."""
        self.outputs[path] = out
        for folder in _above(path):
            self._inside.setdefault(folder, {})[path] = out

    def forget(self, path: str) -> None:
        """Drop what was hashed at `path` and at the folders that contain it (their bytes changed)."""
        for known in (path, *_above(path)):
            self._known.pop(known, None)

    def workspace(self, path: str) -> Hash | None:
        """Hash of the file or directory as it lies there; None if it is absent."""
        if path not in self._known:
            self._known[path] = self._hash(path)
        return self._known[path]

    def _hash(self, path: str) -> Hash | None:
        from dvc_data.hashfile.build import build

        full = os.path.join(self.repo.root_dir, path)
        if not os.path.exists(full):
            return None
        odb = self.repo.cache.local
        _, meta, obj = build(odb, full, self.repo.fs, "md5", ignore=self.repo.dvcignore, dry_run=True)
        _let_go(obj)
        return meta, obj.hash_info

    def predict(self, path: str) -> Predicted | None:
        """Hash of a dependency once everything above it is up to date.

        Returns:
            None if it does not exist and no stage makes it; a `Predicted` without hash where a stage that has
            to run makes it, or a part of it.
        """
        if path in self.outputs:
            return self.outputs[path]
        inside = self._inside.get(path, {})
        if any(out.hash_info is None for out in inside.values()):
            return Predicted(None, None)
        if any(self._differs(p, out) for p, out in inside.items()):
            return self._tree(path, inside)
        found = self.workspace(path)
        return Predicted(*found) if found else None

    def without_strays(self, path: str) -> Predicted | None:
        """Like `predict`, for a directory, but leaving out files that no stage declares (see `strays`)."""
        inside = self._inside.get(path, {})
        return self._tree(path, inside) if inside and self.strays(path) else None

    def strays(self, path: str) -> list[str]:
        """Files under a directory of stage outputs that no stage declares (any more): a removed seed's results."""
        if path not in self._inside:
            return []
        root = Path(self.repo.root_dir)
        files = [f.relative_to(root).as_posix() for f in sorted((root / path).rglob("*")) if f.is_file()]
        ignored = {".snakemake_timestamp"}
        return [f for f in files if not self._declared(f) and Path(f).name not in ignored]

    def _declared(self, file: str) -> bool:
        return any(p in self.outputs for p in (file, *_above(file)))

    def _differs(self, path: str, out: Predicted) -> bool:
        found = self.workspace(path)
        return found is None or found[1] != out.hash_info

    def _tree(self, path: str, inside: dict[str, Predicted]) -> Predicted:
        """Directory hash made of predicted file hashes (unknown if one of the outputs is itself a directory)."""
        from dvc_data.hashfile.tree import Tree

        tree = Tree()
        for p, out in inside.items():
            if out.hash_info is None or out.hash_info.isdir:
                return Predicted(None, None)
            tree.add(tuple(p[len(path) + 1 :].split("/")), out.meta, out.hash_info)
        tree.digest()
        _let_go(tree)
        return Predicted(None, tree.hash_info)


def _let_go(obj: HashFile) -> None:
    """Drop a folder's listing from the store in memory where DVC left it and which it looks through for every next one."""
    if obj.hash_info.isdir:
        store = obj.fs.fs
        store.store.pop(store._strip_protocol(obj.path), None)
