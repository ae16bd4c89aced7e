# One DAG on two engines: the dvc.yaml files declare the stages, DVC says which are stale and remembers every
# result, Snakemake orders, parallelises, submits and logs. See workflow/README.md.
import sys

from workflow.engine.commandline import execution, pack
from workflow.engine.rules import Pipeline

executor = execution(sys._getframe())
pipeline = Pipeline(
    main=workflow.is_main_process,
    executing=executor is not None,
    local=executor == "local",
    batch=int(config.get("batch", 1)),
)
if pipeline.batch > 1:
    pack(sys._getframe(), pipeline.batch)
    workflow.register_resource("pack", 1)  # one job of a pack at a time


# The limit holds within each submission, not over all of them.
resource_scopes:
    pack="local",


def declare(path, folder):
    """Mark folders for Snakemake, and the report's pages for `snakemake --report`."""
    if folder:
        return directory(path)
    if path.startswith("reports/") and path.endswith((".html", ".csv")):
        return report(path, caption="workflow/captions/report.rst", category="Reprise")
    return path


# Everything that the report gathers. (`report` is the stage of that name in the root dvc.yaml.)
rule all:
    input:
        pipeline.targets(file="dvc.yaml") or pipeline.targets(),
    localrule: True


include: "workflow/rules/targets.smk"


for stage in pipeline.rules:

    rule:
        name:
            stage.name
        input:
            stage.inputs(ancient),
        output:
            [declare(path, folder) for path, folder in stage.outputs],
        log:
            stage.log("runs/.logs", ".log"),
        benchmark:
            stage.log("runs/.benchmarks", ".tsv")
        wildcard_constraints:
            **stage.constraints,
        # What most stages wait for goes first, so that a run does not end with one core idle.
        priority: stage.height
        group:
            stage.name if stage.packed else None
        # On a cluster, what takes a minute at most runs here, and `--config batch=10` packs stages of up to ten minutes.
        localrule: pipeline.submitting and stage.short
        threads: stage.resource("threads", 1)
        resources:
            mem_mb=stage.resource("mem_mb", 2000),
            runtime=stage.resource("runtime", 60),
            gpu=stage.resource("gpu", 0),
            pack=int(stage.packed),
        params:
            stage=stage.address,
            command=pipeline.command,
        shell:
            "REPRISE_GPUS={resources.gpu} {params.command} {params.stage:q} > {log:q} 2>&1 || {{ tail -n 20 {log:q} >&2; exit 1; }}"
