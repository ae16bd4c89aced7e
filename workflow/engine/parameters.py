"""Values of tracked parameters, each file parsed once (DVC parses it for every stage that names it)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dvc.dependency import ParamsDependency
    from dvc.stage import Stage


class Parameters:
    """Reads `ParamsDependency` values as DVC does, from files that are kept parsed."""

    def __init__(self) -> None:
        self._files: dict[str, dict[str, Any] | None] = {}
        self._found: dict[tuple[str, str], dict[str, Any]] = {}  # the same keys are asked for by stage after stage

    def values(self, dep: ParamsDependency) -> dict[str, Any]:
        """The tracked values there are: dotted key to value, or the whole file where no key is named."""
        tree = self._tree(dep)
        if tree is None or not dep.params:
            return tree or {}
        found: dict[str, Any] = {}
        for key in dep.params:
            if (dep.fs_path, key) not in self._found:
                self._found[dep.fs_path, key] = _lookup(tree, key)
            found |= self._found[dep.fs_path, key]
        return found

    def changed(self, dep: ParamsDependency) -> bool:
        """Whether a value differs from the recorded one, is new, or is gone (`ParamsDependency.workspace_status`)."""
        if not dep.hash_info:
            return True
        recorded, actual = dep.hash_info.value, self.values(dep)
        keys = dep.params or {*recorded, *actual}
        return any(key not in actual or key not in recorded or actual[key] != recorded[key] for key in keys)

    def _tree(self, dep: ParamsDependency) -> dict[str, Any] | None:
        from dvc.utils.serialize import load_path

        if dep.fs_path not in self._files:
            self._files[dep.fs_path] = load_path(dep.fs_path, dep.fs) if dep.exists else None
        return self._files[dep.fs_path]


class FreshParameters(Parameters):
    """The same for a process that outlives a plan: a file is parsed again when its bytes have changed."""

    def __init__(self) -> None:
        super().__init__()
        self._bytes: dict[str, bytes] = {}

    def serve(self, stage: Stage) -> Stage:
        """Have the stage's dependencies ask here, not DVC's parser; returns the stage."""
        from dvc.dependency import ParamsDependency

        for dep in (dep for dep in stage.deps if isinstance(dep, ParamsDependency)):
            dep.read_params = lambda flatten=True, *, dep=dep: dict(self.values(dep))
        return stage

    def values(self, dep: ParamsDependency) -> dict[str, Any]:
        """As of this moment."""
        content = bytes_of(Path(dep.fs_path))
        if self._bytes.get(dep.fs_path) != content:
            self._files.pop(dep.fs_path, None)
            self._found = {key: found for key, found in self._found.items() if key[0] != dep.fs_path}
            self._bytes[dep.fs_path] = content
        return super().values(dep)


def bytes_of(path: Path) -> bytes:
    """What a file holds; nothing where there is none, as there is nothing to parse."""
    return path.read_bytes() if path.is_file() else b""


def _lookup(tree: dict[str, Any], key: str) -> dict[str, Any]:
    """{key: value}, or nothing where the tree lacks it; by the library that DVC asks, which walks the tree each time."""
    import dpath

    try:
        return {key: dpath.get(tree, key, separator=".")}
    except KeyError:
        return {}
