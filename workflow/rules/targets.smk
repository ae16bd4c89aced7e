# Named targets beside `all` and `report`: the audit, one paper.


rule audit:
    localrule: True
    input:
        pipeline.targets(suffix="_audit"),


for paper, declared in pipeline.papers().items():

    rule:
        name:
            paper
        localrule: True
        input:
            pipeline.targets(file=declared),
