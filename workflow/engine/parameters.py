"""Values of tracked parameters, each file parsed once a plan (DVC parses it for every stage that names it)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dvc.dependency import ParamsDependency


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


def _lookup(tree: dict[str, Any], key: str) -> dict[str, Any]:
    """{key: value}, or nothing where the tree lacks it; by the library that DVC asks, which walks the tree each time."""
    import dpath

    try:
        return {key: dpath.get(tree, key, separator=".")}
    except KeyError:
        return {}
