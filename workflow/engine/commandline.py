"""How Snakemake was started, read from its parsed command line, and what of it suits this pipeline better otherwise."""

from __future__ import annotations

from typing import Any

# Snakemake's ways of being started that run no job.
LOOKING = (
    "dryrun touch unlock lint report list_target_rules list_rules print_compilation containerize generate_unit_tests "
    "dag rulegraph filegraph d3dag cleanup_metadata conda_cleanup_envs conda_create_envs_only list_conda_envs "
    "cleanup_shadow container_cleanup_images list_changes list_input_changes list_params_changes list_untracked "
    "summary detailed_summary archive delete_all_output delete_temp_output"
).split()


def _unlimited(args: Any) -> None:
    """Drop the default limit of 100 jobs a second, which no machine reaches by itself, and for SLURM the sub-sample.

    Under a limit every pass of Snakemake's scheduler (9.27) asks for one more after that second, so that each job adds a
    pass a second for the rest of the run: at 500 jobs they took a third of a core. And where fewer jobs of a rule are chosen
    than are ready, SLURM's plugin (2.8) forgets those it was given while it waits for a whole array: the run never ends.
    """
    limit = getattr(args, "max_jobs_per_timespan", None)
    if limit is not None and (limit.max_jobs, limit.timespan) == (100, 1):
        args.max_jobs_per_timespan = None
    if args.executor == "slurm":
        args.scheduler_subsample = None


class Packs(dict):
    """Snakemake's `group_components` with one size for every group; empty, so that no job's command line lists them."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def get(self, group: str, default: int = 1) -> int:
        """Jobs of the group that make one submission."""
        return self.size


def _arguments(frame: Any) -> Any:
    """The parsed command line, from the calling `args_to_api`: Snakemake parses the Snakefile before it uses the rest."""
    while frame is not None:
        if frame.f_code.co_name == "args_to_api":
            return frame.f_locals["args"]
        frame = frame.f_back
    return None


def pack(frame: Any, size: int) -> None:
    """Let so many jobs of a group be one submission."""
    args = _arguments(frame)
    if args is not None:
        args.group_components = Packs(size)


def execution(frame: Any) -> str | None:
    """Name of the executor if Snakemake was started to run jobs, else None (dry run, --unlock, --lint ...)."""
    args = _arguments(frame)
    if args is None:
        return None
    if args.executor in ("local", "slurm"):
        _unlimited(args)
    # DVC decides what a killed run left half done. Snakemake would force a job whose result is committed, and then leave out
    # all that is stale below it.
    args.ignore_incomplete = True
    looking = any(getattr(args, name, None) not in (None, False) for name in LOOKING)
    return None if looking else args.executor
