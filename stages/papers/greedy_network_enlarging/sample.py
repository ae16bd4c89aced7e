"""Stage: random allocations of the greedy net's MACs, as many as cost what its search did, and children of a good small net."""

from dataclasses import dataclass

from stages.lib.stage import field, stage
from stages.papers.greedy_network_enlarging.settings import FILES, Random, SearchConfig, Uniform


@dataclass
class Config(SearchConfig):
    uniform: Uniform = field(default_factory=Uniform)
    random: Random = field(default_factory=Random)


OWN = {key: f"greedy_network_enlarging/{{scale}}:{{dataset}}.{key}" for key in ("uniform", "random")}


@stage(Config, files={**FILES, **OWN})
def main(cfg: Config) -> None:
    """Draws allocations without a search, evaluates each as the search does, and writes them with their scores.

    Their number makes the MACs spent on them those of the greedy search. The children are drawn in the same way from all
    nets that contain the winner of its first step.
    """
    from stages.lib import artifacts
    from stages.lib.runtime import derive_seed
    from stages.papers.greedy_network_enlarging import ladder
    from stages.papers.greedy_network_enlarging.draws import draw
    from stages.papers.greedy_network_enlarging.proxy import opened

    path = ladder.sampled(cfg.scale, cfg.dataset, cfg.seed)
    space, evaluators = opened(cfg, path)
    made = []
    for score, steps in zip(evaluators, ladder.finished(space, cfg, [e.repetition for e in evaluators]), strict=True):
        first, net = steps.chain[1], steps.chain[-1]
        wanted = max(cfg.random.trained, steps.spent // score.spent(net))
        kinds = {"draws": (space.base, wanted), "children": (first, cfg.random.children)}
        row: dict = {"seed": score.repetition}
        for kind, (least, count) in kinds.items():
            seed = derive_seed(score.repetition, "random", kind)
            nets = draw(space, least, space.macs(net), cfg.uniform.match, cfg.search, seed, count)
            row[kind] = [
                {"net": item.record(), "macs": space.macs(item), "scores": score.accuracies(item), "score": score(item),
                 "trainings": len(score.accuracies(item)), "spent": score.spent(item)}
                for item in nets
            ]  # fmt: skip
            print(f"{kind} of {score.repetition}: {[round(item['score'], 4) for item in row[kind]]}", flush=True)
        made.append(row)
    artifacts.write_json(path, {"repetitions": made})


if __name__ == "__main__":
    main()
