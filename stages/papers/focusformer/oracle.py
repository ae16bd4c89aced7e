"""Stage: the sampler alone, against accuracies given by a formula, whose best architecture for every budget is known."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stages.lib.checks import at_least
from stages.lib.stage import MISSING, StageError, field, stage
from stages.papers.focusformer.settings import Sampler, Space, Supernet

if TYPE_CHECKING:
    from stages.papers.focusformer.space import Architecture

CLASSES = 10
IMAGE = [1, 8, 8]


@dataclass
class OracleParams:
    """A space small enough to be enumerated, and the sampler's training."""

    space: Space = field(default_factory=Space)
    supernet: Supernet = field(default_factory=Supernet, help="what the costs follow from")
    budgets: list[float] = field(default_factory=list, help="MACs allowed, as shares of the largest architecture's")
    sampler: Sampler = field(default_factory=Sampler)
    updates: int = field(help="REINFORCE updates")

    def check(self) -> None:
        """StageError for no update at all or a single budget."""
        at_least("updates", self.updates, 1)
        if len(self.budgets) < 2:
            raise StageError(f"params.budgets={list(self.budgets)}: expected two or more")


@dataclass
class Config:
    scale: str = field(help="smoke, small, medium")
    seed: int = field(help="matrix seed; stands for `repeats` repetitions")
    repeats: int = field(help="repetitions of a matrix seed")
    threads: int = MISSING
    params: OracleParams = field(default_factory=OracleParams)


class Oracle:
    """Acc(a), concave and growing in every size, with random weights for the blocks, scaled into (0, 1)."""

    def __init__(self, space: Space, generator) -> None:
        self.space = space
        self.weights = [[0.2 + generator.random() for _ in ("ratio", "heads")] for _ in range(space.depth[-1])]
        self.width = 0.2 + generator.random()

    def value(self, found: "Architecture") -> float:
        """The accuracy of an architecture."""
        total, most = self.width * math.log1p(found.embed), self.width * math.log1p(self.space.embed[-1])
        for layer, (of_ratio, of_heads) in enumerate(self.weights):
            most += of_ratio * math.log1p(self.space.ratio[-1]) + of_heads * math.log1p(self.space.heads[-1])
            if layer < found.depth:
                total += of_ratio * math.log1p(found.ratios[layer]) + of_heads * math.log1p(found.heads[layer])
        return total / most


def regrets(params: OracleParams, form: str, repetition: int, updates: int) -> dict[str, float]:
    """Mean and largest shortfall from the best accuracy over the budgets, and the share of them met, of one sampler."""
    import random

    import torch

    from stages.lib.adamw import AdamW
    from stages.lib.runtime import derive_seed, seed_everything
    from stages.papers.focusformer import cost, deployment, reinforce
    from stages.papers.focusformer import space as spaces
    from stages.papers.focusformer.sampler import Sampler as Net

    oracle = Oracle(params.space, random.Random(derive_seed(repetition, "oracle")))
    canvas = cost.canvas(params.supernet, IMAGE, CLASSES)
    budgets = cost.budgets(params.space, canvas, params.budgets)
    seed_everything(derive_seed(repetition, "sampler"))
    sampler, options = Net(params.space, budgets, params.sampler.hidden), params.sampler
    policy = AdamW([(list(sampler.parameters()), 0.0)])
    own = Sampler(**{**vars(options), "reward": form})
    for _ in range(updates):
        reinforce.update(sampler, policy, own, canvas, lambda found, _: torch.tensor([oracle.value(one) for one in found]))
    known = [(cost.macs(one, canvas), oracle.value(one)) for one in spaces.everything(params.space)]
    lost, met = [], 0
    for budget in budgets:
        best = max(value for macs, value in known if macs <= budget)
        found = deployment.deploy(sampler, canvas, budget, own.draws)
        met += found is not None
        lost.append(1.0 - oracle.value(found or spaces.smallest(params.space)) / best)
    return {"regret": sum(lost) / len(lost), "regret_worst": max(lost), "within_budget": met / len(budgets)}


@stage(Config, paper="focusformer", section="oracle", files={"repeats": "focusformer/{scale}:repeats"})
def main(cfg: Config) -> None:
    """Trains samplers with each reward on a formula's accuracies and writes how far their decodes are from the optimum.

    Reads no data. The control is the sampler as it was initialised.
    """
    from stages.lib import artifacts, files, runtime
    from stages.papers.focusformer.settings import REWARDS

    runtime.prepare(cfg.threads, "cpu", cfg.seed)  # too small for anything else
    rows = []
    for repetition in files.repetitions(cfg.seed, cfg.repeats):
        found = {form: regrets(cfg.params, form, repetition, cfg.params.updates) for form in REWARDS}
        found["untrained"] = regrets(cfg.params, REWARDS[0], repetition, 0)
        rows += [row for arm, values in found.items() for row in files.metric_rows("oracle", arm, repetition, values)]
        print(f"oracle {repetition}: " + ", ".join(f"{arm} {v['regret']:.3f}" for arm, v in found.items()), flush=True)
    path = files.RUNS / "focusformer" / "metrics" / cfg.scale / "oracle" / f"{cfg.seed}.json"
    artifacts.write_json(path, {"rows": rows, "layers": []})


if __name__ == "__main__":
    main()
