"""The frame of a stage script: command line, parameters, `--help`, one-line errors.

    @stage(Config, paper="dcp", section="{dataset}.train")
    def main(cfg: Config) -> None:
        '''What the stage does.'''

`main()` composes params/ with Hydra, checks it against the dataclass (and calls check() of the dataclasses
that have one, for ranges) and then the function. Hydra and
torch are imported only when needed, so that wrong input and --help answer fast. Nothing global stays
behind: the same script may run many times in one process (runpy) or in a forked child.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from stages.lib import runtime as _runtime  # noqa: F401  fixes the instruction set before anyone imports torch
from stages.lib.errors import StageError, report

MISSING: Any = "???"  # OmegaConf's own mark of a value that must be given


def field(*, default: Any = MISSING, default_factory: Any = None, help: str = "") -> Any:
    """A dataclass field with a sentence for --help; without a default it must be given."""
    if default_factory is not None:
        return dataclasses.field(default_factory=default_factory, metadata={"help": help})
    return dataclasses.field(default=default, metadata={"help": help})


@dataclasses.dataclass(frozen=True)
class Source:
    """A params file that a stage reads: its template, the section of it, the Config field it fills."""

    path: str  # below params/, without .yaml, e.g. "dcp/{scale}"
    section: str | None  # dotted, None for the whole file
    target: str  # field of the Config


class Stage:
    """A function with its parameters; calling it runs the command line (sys.argv unless given)."""

    def __init__(self, function: Callable[[Any], None], schema: type, sources: Sequence[Source]) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.schema = schema
        self.sources = tuple(sources)

    @property
    def reads(self) -> list[tuple[str, str | None]]:
        """Every (params file, dotted section or None for all) that decides the result, as templates."""
        from stages.lib.composition import global_keys

        files = [(f"params/{source.path}.yaml", source.section) for source in self.sources]
        fields = {item.name for item in dataclasses.fields(self.schema)}
        return [("params/config.yaml", key) for key in global_keys() if key in fields] + files

    def configure(self, arguments: Sequence[str]) -> Any:
        """The Config for these KEY=VALUE arguments. Raises StageError."""
        from stages.lib.composition import compose

        return compose(self, arguments)

    def __call__(self, arguments: Sequence[str] | None = None) -> None:
        """Run; on failure print one line and raise SystemExit with a nonzero status."""
        arguments = list(sys.argv[1:] if arguments is None else arguments)
        code = self._run(arguments)
        if code:
            raise SystemExit(code)

    def _run(self, arguments: list[str]) -> int:
        try:
            if {"--help", "-h"} & set(arguments):
                from stages.lib.usage import usage

                print(usage(self, [item for item in arguments if item not in ("--help", "-h")]))
            else:
                _refuse_other_checkout(Path(self.function.__code__.co_filename))
                self.function(self.configure(arguments))
        except BrokenPipeError:  # the reader of our output has gone, e.g. `| head`; nobody is left to tell
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except (Exception, KeyboardInterrupt) as error:
            return report(error, show_traceback=os.environ.get("REPRISE_TRACEBACK") == "1")
        return 0


def stage(
    schema: type,
    *,
    paper: str | None = None,
    section: str | None = None,
    files: Sequence[str] | dict[str, str] = (),
) -> Callable[[Callable[[Any], None]], Stage]:
    """Make a function of one Config a stage.

    `section` of params/<paper>/<scale>.yaml fills cfg.params. `files` add further params files, each as
    "folder/name" or "folder/name:dotted.section"; a list fills the fields of the same names, a mapping says
    which field. All may hold {key} of the Config's top level, e.g. "{dataset}.train".
    """
    sources = []
    if paper is not None and section is not None:
        sources.append(Source(f"{paper}/{{scale}}", section or None, "params"))
    named = files if isinstance(files, dict) else {_last(item): item for item in files}
    for target, text in named.items():
        path, _, part = text.partition(":")
        sources.append(Source(path, part or None, target))
    known = {item.name for item in dataclasses.fields(schema)}
    for source in sources:
        if source.target not in known:  # a mistake of the script's author, told at import
            raise TypeError(f"{schema.__name__} has no field {source.target!r} for params/{source.path}.yaml")
    return lambda function: Stage(function, schema, sources)


def _refuse_other_checkout(script: Path) -> None:
    """A script must run with the modules beside it: an environment made in another clone imports that clone's, and the
    result would be recorded under fingerprints of code that never ran. Raises StageError."""
    for folder in script.resolve().parents:
        own = folder / "stages/lib/stage.py"
        if own.is_file():
            if not own.samefile(__file__):
                other = Path(__file__).resolve().parents[2]
                raise StageError(
                    f"{script}: would run with the modules of {other}; run `make setup` here, or set PYTHONPATH={folder}"
                )
            return


def _last(text: str) -> str:
    path, _, part = text.partition(":")
    return (part or path).replace("/", ".").split(".")[-1]


__all__ = ["MISSING", "Source", "Stage", "StageError", "field", "stage"]
