# Named targets beside `all` and `report`: the audit, one paper, its shakedown, the benchmarks.
from pathlib import Path


rule audit:
    input:
        pipeline.targets(suffix="_audit"),
    localrule: True


for paper, declared in pipeline.papers().items():

    rule:
        name:
            paper.replace("-", "_")
        input:
            pipeline.targets(file=declared),
        localrule: True


# Not part of the report and so not DVC's: each paper-scale stage builds its real net, takes two steps and cuts a block.
rule shakedown:
    input:
        [
            f"runs/shakedown/{paper}.json"
            for paper in pipeline.papers()
            if Path(f"stages/papers/{paper}/shakedown.py").exists()
        ],


rule shakedown_paper:
    output:
        "runs/shakedown/{paper}.json",
    log:
        "runs/.logs/shakedown/{paper}.log",
    resources:
        mem_mb=16000,
        runtime=60,
    shell:
        "python stages/papers/{wildcards.paper}/shakedown.py > {log} 2>&1"


rule benchmarks:
    shell:
        "python -m tests.bench"
