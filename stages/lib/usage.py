"""The text of `--help`: every parameter with its type, present value, meaning and where it is set."""

from __future__ import annotations

import dataclasses
import inspect
import textwrap
import typing
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stages.lib.stage import Stage


def usage(stage: Stage, arguments: Sequence[str]) -> str:
    """Help for a stage, with the values that these KEY=VALUE arguments give."""
    from stages.lib.composition import global_keys, layered

    config = layered(stage, arguments, lenient=True)
    shared = set(global_keys())
    script = inspect.getsourcefile(stage.function) or "stage.py"
    names = [item.name for item in dataclasses.fields(stage.schema)]
    given = [name for name in names if name not in shared and name not in {s.target for s in stage.sources}]
    words = ["usage: python", _relative(script), *(f"{name}=VALUE" for name in given), "[KEY=VALUE ...]"]
    lines = [" ".join(words), ""]
    lines += [*textwrap.wrap(inspect.getdoc(stage.function) or "", 100), "", "parameters:"]
    lines += _table([_row(stage, shared, config, *item) for item in _leaves(stage.schema)])
    return "\n".join(lines)


def _leaves(schema: type, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """(dotted key, type, help) of every field, nested dataclasses opened."""
    hints = typing.get_type_hints(schema)
    for item in dataclasses.fields(schema):
        kind = hints[item.name]
        if dataclasses.is_dataclass(kind):
            yield from _leaves(kind, f"{prefix}{item.name}.")
        else:
            yield prefix + item.name, kind, item.metadata.get("help", "")


def _row(stage: Stage, shared: set[str], config: Any, key: str, kind: Any, text: str) -> tuple[str, ...]:
    from omegaconf import OmegaConf

    value = OmegaConf.select(config, key, throw_on_missing=False)
    shown = "?" if value is None and OmegaConf.is_missing(*_parent(config, key)) else str(value)
    name = kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind)
    return key, name.replace("typing.", ""), textwrap.shorten(shown, 40), _origin(stage, shared, key), text


def _parent(config: Any, key: str) -> tuple[Any, str]:
    from omegaconf import OmegaConf

    head, _, last = key.rpartition(".")
    return (OmegaConf.select(config, head) if head else config), last


def _origin(stage: Stage, shared: set[str], key: str) -> str:
    """Where a parameter is set, as the reader would look for it."""
    for source in stage.sources:
        if key == source.target or key.startswith(f"{source.target}."):
            path = f"params/{source.path}.yaml".replace("{", "<").replace("}", ">")
            section = (source.section or "").replace("{", "<").replace("}", ">")
            return f"{path}: {section}" if section else path
    return "params/config.yaml" if key in shared else "command line"


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return ["  " + "  ".join([*(row[i].ljust(widths[i]) for i in range(4)), row[4]]).rstrip() for row in rows]


def _relative(script: str) -> str:
    from pathlib import Path

    path = Path(script).resolve()
    return path.relative_to(Path.cwd()).as_posix() if path.is_relative_to(Path.cwd()) else path.name
