"""Stages as the dvc.yaml files declare them at this moment, parsed again only when their bytes changed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from workflow.engine.parameters import FreshParameters, bytes_of

if TYPE_CHECKING:
    from dvc.dvcfile import ProjectFile
    from dvc.repo import Repo
    from dvc.stage import PipelineStage


class Declarations:
    """Loads stages without their lock-file entries: a job needs none, and parsing them is what costs."""

    def __init__(self, repo: Repo) -> None:
        self.repo = repo
        self.parameters = FreshParameters()
        self._parsed: dict[str, tuple[ProjectFile, dict[Path, bytes]]] = {}

    def stage(self, file: str, name: str) -> PipelineStage:
        """Load one stage of `file` (a dvc.yaml, relative to the root).

        Raises:
            DvcException: the file or the stage is not there or cannot be parsed.
        """
        return self.parameters.serve(self._file(file).stages[name])

    def stages(self, file: str) -> list[PipelineStage]:
        """Load all stages of `file`; raises as `stage` does."""
        return list(self._file(file).stages.values())

    def _file(self, file: str) -> ProjectFile:
        dvcfile, sources = self._parsed.get(file, (None, {}))
        if dvcfile is None or any(bytes_of(path) != content for path, content in sources.items()):
            dvcfile = self._parse(file)
        return dvcfile

    def _parse(self, file: str) -> ProjectFile:
        from dvc.dvcfile import load_file

        root = Path(self.repo.root_dir)
        dvcfile = load_file(self.repo, str(root / file))
        dvcfile.__dict__["lockfile_contents"] = {}
        dvcfile.stages  # noqa: B018  (parses; the files read for `vars:` are known afterwards)
        read = [root / file, *(root / Path(file).parent / path for path in dvcfile.resolver.context.imports)]
        self._parsed[file] = (dvcfile, {path: bytes_of(path) for path in read})
        return dvcfile
