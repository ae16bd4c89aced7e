"""Stage: the winner of a step among the candidates that its jobs evaluated, and the chain of nets up to it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stages.lib.stage import field, stage
from stages.papers.greedy_network_enlarging.settings import FILES, SearchConfig

if TYPE_CHECKING:
    from stages.papers.greedy_network_enlarging.allocation import Allocation
    from stages.papers.greedy_network_enlarging.proxy import Evaluator
    from stages.papers.greedy_network_enlarging.space import Space


@dataclass
class Config(SearchConfig):
    step: int = field(help="k, from 1 to search.steps")


def chosen(cfg: Config, space: "Space", chain: "list[Allocation]", found: dict[str, Any], score: "Evaluator") -> dict[str, Any]:
    """The winner of one repetition, after the exchange of MACs between stages where that is asked for."""
    from stages.papers.greedy_network_enlarging import growth
    from stages.papers.greedy_network_enlarging.allocation import from_record, slots
    from stages.papers.greedy_network_enlarging.exchange import exchange_pass

    feasible = [(slot, row) for slot, row in zip(slots(space.base.stages), found["slots"], strict=True) if row["feasible"]]
    scored = [(slot, from_record(row["net"]), row["score"]) for slot, row in feasible]
    slot, net, value = growth.choose(space, found["budget"], scored)
    tried: list[dict] = []
    if cfg.search.exchange:
        net, value, tried = exchange_pass(space, net, value, cfg.search, found["delta"], score)
    cost = [(row["trainings"], row["spent"]) for _, row in feasible] + [(row["trainings"], row["spent"]) for row in tried]
    return {
        **found, "winner": slot.name, "score": value, "macs": space.macs(net), "exchanges": tried,
        "trainings": sum(item[0] for item in cost), "spent": sum(item[1] for item in cost),
        "chain": [item.record() for item in [*chain, net]],
    }  # fmt: skip


@stage(Config, files=FILES)
def main(cfg: Config) -> None:
    """Reads the scores of all 2 S + 1 slots of a step, chooses the net that the next step enlarges, and writes it."""
    from stages.lib import artifacts
    from stages.papers.greedy_network_enlarging import ladder
    from stages.papers.greedy_network_enlarging.proxy import opened

    ladder.check_step(cfg.search, cfg.step)
    path = ladder.place(cfg.step, cfg.scale, cfg.dataset, "choice", cfg.seed)
    space, evaluators = opened(cfg, path)
    repetitions = [score.repetition for score in evaluators]
    chains = ladder.before(space, cfg.step, cfg, repetitions)
    candidates = ladder.gathered(cfg.step, cfg, space, repetitions)
    made = [chosen(cfg, space, *item) for item in zip(chains, candidates, evaluators, strict=True)]
    for row in made:
        won = f"{row['winner']} with {row['macs']} MACs, score {row['score']:.4f}"
        print(f"step {cfg.step} of {row['seed']}: {won}", flush=True)
    artifacts.write_json(path, {"step": cfg.step, "repetitions": made})


if __name__ == "__main__":
    main()
