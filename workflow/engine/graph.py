"""The resolved stages of every dvc.yaml, as light records the planner and Snakemake can pass around."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc.stage import PipelineStage, Stage

ITEM = re.compile(r"\$\{item\.(\w+)\}")


@dataclass
class Task:
    """One resolved stage (all paths are relative to the repository root).

    `patterns` are the declared outputs with `${item.key}` turned into `{key}`, Snakemake's wildcards.
    """

    address: str
    file: str
    name: str
    rule: str
    keys: dict[str, str]
    cmd: str
    wdir: str
    deps: list[str]
    params: dict[str, list[str]]
    outs: list[str]
    patterns: list[str]
    meta: dict[str, Any] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """Return the JSON form of the task."""
        return asdict(self)


def rule_name(file: str, group: str) -> str:
    """Name a rule after the folder that declares it: `dcp_train` for `train` of stages/papers/dcp/dvc.yaml."""
    parts = file.split("/")[:-1]
    prefix = f"{parts[-1]}_" if parts else ""
    return re.sub(r"\W", "_", prefix + group)


def tidy(path: str) -> str:
    """Normalise a repository path to forward slashes."""
    return path.replace("\\", "/")


def _declared(stage: PipelineStage, resolver: Any) -> tuple[dict[str, str], dict[str, Any], Any]:
    """Matrix keys of the stage, its raw definition and the context that resolves the rest of it."""
    group, _, key = stage.name.partition("@")
    definition = resolver.definitions[group]
    if not key:
        return {}, definition.definition, definition.context
    if not hasattr(definition, "matrix_data"):
        raise ValueError(f"{stage.addressing}: use matrix: instead of foreach:, its keys become the wildcards")
    values = definition.normalized_iterable[key]
    return {k: str(v) for k, v in values.items()}, definition.template, definition.context


def _patterns(stage: PipelineStage, keys: dict[str, str], raw: dict[str, Any], context: Any) -> list[str]:
    """Declared outputs in the order of `stage.outs`, as Snakemake patterns."""
    declared = []
    for kind in ("outs", "metrics", "plots"):
        for entry in raw.get(kind) or []:
            text = entry if isinstance(entry, str) else next(iter(entry))
            pattern = ITEM.sub(lambda match: "{" + match[1] + "}", text)
            declared.append(str(context.resolve_str(pattern)))
    wanted = {tidy(out.def_path) for out in stage.outs}
    return [p for p in declared if p.format(**keys) in wanted]


def make_task(repo: Repo, stage: PipelineStage, resolvers: dict[str, Any]) -> Task:
    """Describe one pipeline stage; paths must be declared with the repository root as `wdir`.

    `resolvers` keeps what DVC parses of each dvc.yaml from one call to the next (it keeps nothing itself).

    Raises:
        ValueError: the stage's `wdir` is not the root, or it is declared by `foreach:`.
    """
    from dvc.dependency import ParamsDependency

    if repo.fs.relpath(stage.wdir, repo.root_dir) != ".":
        raise ValueError(f"{stage.addressing}: set wdir to the repository root")
    if stage.path not in resolvers:
        resolvers[stage.path] = stage.dvcfile.resolver
    keys, raw, context = _declared(stage, resolvers[stage.path])
    file = tidy(repo.fs.relpath(stage.path, repo.root_dir))
    cmd = stage.cmd if isinstance(stage.cmd, str) else " && ".join(stage.cmd)
    params = {tidy(d.def_path): list(d.params) for d in stage.deps if isinstance(d, ParamsDependency)}
    patterns = _patterns(stage, keys, raw, context)
    outs = [p.format(**keys) for p in patterns]
    return Task(
        address=f"{file}:{stage.name}",
        file=file,
        name=stage.name,
        rule=rule_name(file, stage.name.partition("@")[0]),
        keys=keys,
        cmd=cmd,
        wdir=".",
        deps=[tidy(d.def_path) for d in stage.deps if not isinstance(d, ParamsDependency)],
        params=params,
        outs=outs,
        patterns=patterns,
        meta=dict(stage.meta or {}),
    )


def repro_order(repo: Repo) -> list[Stage]:
    """All stages in the order in which a serial `dvc repro` of the root dvc.yaml would visit them."""
    from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro

    graph = get_active_graph(repo.index.graph)
    root = repo.fs.join(repo.root_dir, "dvc.yaml")
    targets = collect_stages(repo, [root]) if repo.fs.exists(root) else []
    first = plan_repro(graph, targets) if targets else []
    seen = set(first)
    return first + [stage for stage in plan_repro(graph) if stage not in seen]


@contextmanager
def quiet() -> Iterator[None]:
    """Silence DVC's progress output and INFO log while the engine calls its API."""
    import logging

    logger = logging.getLogger("dvc")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
