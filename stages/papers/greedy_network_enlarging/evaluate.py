"""Stage: the candidates of one dimension at one step of the search, evaluated.

The fan-out over candidates is static. A dynamic one (jobs made from a checkpoint's output) exists in Snakemake but not in
DVC, and is not needed: the 2 S + 1 slots of a step (depth of each stage, width of each stage, resolution) are known
beforehand, only their values depend on the step before. So every step is a stage of its own over dimension and seed; each
job derives all candidates from the last choice by the same arithmetic, evaluates its own, and writes a row that says so at
once for a slot that cannot come near the budget.
"""

from dataclasses import dataclass

from stages.lib.stage import field, stage
from stages.papers.greedy_network_enlarging.settings import FILES, SearchConfig


@dataclass
class Config(SearchConfig):
    step: int = field(help="k, from 1 to search.steps")
    dimension: str = field(help="depth, width or resolution: whose candidates are evaluated")


@stage(Config, files=FILES)
def main(cfg: Config) -> None:
    """Derives the candidates of a step, trains those of one dimension on part of the training images, writes their scores."""
    from stages.lib import artifacts
    from stages.papers.greedy_network_enlarging import growth, ladder
    from stages.papers.greedy_network_enlarging.proxy import opened

    ladder.check_step(cfg.search, cfg.step)
    path = ladder.place(cfg.step, cfg.scale, cfg.dataset, cfg.dimension, cfg.seed)
    space, evaluators = opened(cfg, path)
    slots = ladder.dimension_slots(space.base.stages, cfg.dimension)
    budget = growth.budgets(space.macs(space.base), cfg.search.target, cfg.search.steps)[cfg.step - 1]
    chains, made = ladder.before(space, cfg.step, cfg, [score.repetition for score in evaluators]), []
    for chain, score in zip(chains, evaluators, strict=True):
        found = growth.candidates(space, chain[-1], budget, cfg.search)
        rows = [ladder.slot_row(found, slot, score) for slot in slots]
        for row in rows:
            print(f"step {cfg.step} of {score.repetition}: {row['slot']} {row.get('score', row.get('reason'))}", flush=True)
        made.append({"seed": score.repetition, "budget": found.budget, "delta": found.delta, "slots": rows})
    artifacts.write_json(path, {"step": cfg.step, "dimension": cfg.dimension, "repetitions": made})


if __name__ == "__main__":
    main()
