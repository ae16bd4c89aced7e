# One DAG on two engines: the dvc.yaml files declare the stages, DVC says which are stale and remembers every
# result, Snakemake orders, parallelises, submits and logs. See workflow/README.md.
import sys

from workflow.engine.rules import Pipeline, execution

executor = execution(sys._getframe())
pipeline = Pipeline(
    main=workflow.is_main_process,
    executing=executor is not None,
    local=executor == "local",
)


# Everything that the report gathers. (`report` is the stage of that name in the root dvc.yaml.)
rule all:
    localrule: True
    input:
        pipeline.targets(file="dvc.yaml") or pipeline.targets(),


include: "workflow/rules/targets.smk"


for stage in pipeline.rules:

    rule:
        name:
            stage.name
        input:
            stage.inputs(ancient),
        output:
            [directory(path) if folder else path for path, folder in stage.outputs],
        log:
            stage.log("runs/.logs", ".log"),
        benchmark:
            stage.log("runs/.benchmarks", ".tsv")
        wildcard_constraints:
            **stage.constraints,
        params:
            stage=stage.address,
            command=pipeline.command,
        threads: stage.resource("threads", 1)
        resources:
            mem_mb=stage.resource("mem_mb", 2000),
            runtime=stage.resource("runtime", 60),
            gpu=stage.resource("gpu", 0),
        shell:
            "{params.command} {params.stage:q} > {log:q} 2>&1"
