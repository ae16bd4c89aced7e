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


# Not DVC's either: only nets trained at the scale `paper` read the shards, and the report needs none of them.
rule imagenet_shards:
    input:
        "runs/prepare/imagenet/manifest.json",
        "params/dataset/imagenet_shards.yaml",
    output:
        "runs/prepare/imagenet_shards/manifest.json",
    log:
        "runs/.logs/imagenet_shards.log",
    threads: 16
    resources:
        mem_mb=8000,
        runtime=1440,
    shell:
        "python stages/prepare/imagenet_shards.py threads={threads} > {log} 2>&1"


rule benchmarks:
    shell:
        "python -m tests.bench"
