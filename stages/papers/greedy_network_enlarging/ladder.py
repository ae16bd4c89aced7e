"""The files by which the steps of a search hand on what was found, and where they lie.

runs/greedy_network_enlarging/step<k>/<scale>/<dataset>/<dimension>/<seed>.json   candidates with their scores
runs/greedy_network_enlarging/step<k>/<scale>/<dataset>/choice/<seed>.json        the winners, with the chain up to them
runs/greedy_network_enlarging/sample/<scale>/<dataset>/<seed>.json                random allocations with their scores
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.lib import artifacts, files
from stages.lib.stage import StageError
from stages.papers.greedy_network_enlarging.allocation import DIMENSIONS, Allocation, Slot, from_record, slots
from stages.papers.greedy_network_enlarging.growth import Round
from stages.papers.greedy_network_enlarging.settings import Search, SearchConfig
from stages.papers.greedy_network_enlarging.space import Space

if TYPE_CHECKING:
    from stages.papers.greedy_network_enlarging.proxy import Evaluator

PAPER = "greedy_network_enlarging"


def place(step: int, scale: str, dataset: str, part: str, seed: int) -> Path:
    """The file of a dimension of a step, or of its choice."""
    return files.RUNS / PAPER / f"step{step}" / scale / dataset / part / f"{seed}.json"


def sampled(scale: str, dataset: str, seed: int) -> Path:
    """The file of the random allocations."""
    return files.RUNS / PAPER / "sample" / scale / dataset / f"{seed}.json"


def trained(scale: str, dataset: str, seed: int) -> Path:
    """The folder of the final nets of all arms."""
    return files.RUNS / PAPER / "train" / scale / dataset / str(seed)


def check_step(search: Search, step: int) -> None:
    """StageError for a step that the search does not have."""
    if not 1 <= step <= search.steps:
        raise StageError(f"step={step}: the search has steps 1 to {search.steps} (search.steps)")


def dimension_slots(stages: int, dimension: str) -> list[Slot]:
    """The slots of depth, width or resolution; StageError for another word."""
    if dimension == "resolution":
        return [Slot("resolution")]
    if dimension not in ("depth", "width"):
        raise StageError(f"dimension={dimension}: expected depth, width or resolution")
    return [Slot(dimension, stage) for stage in range(stages)]


def read(path: Path, repetitions: Sequence[int]) -> list[dict[str, Any]]:
    """The repetitions of a file of the search, in their order. Raises StageError unless they are those that are asked for."""
    content = artifacts.read_json(path)
    rows = content.get("repetitions") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) and "seed" in row for row in rows):
        raise StageError(f"{path}: not a file of the search; run the stage that makes it again")
    found = [row["seed"] for row in rows]
    if found != list(repetitions):
        raise StageError(f"{path}: has repetitions {found}, expected {list(repetitions)}; see repeats in the params file")
    return rows


def before(space: Space, step: int, cfg: SearchConfig, repetitions: Sequence[int]) -> list[list[Allocation]]:
    """The chain alpha_0, ..., alpha_{k-1} of every repetition; only the base before the first step."""
    if step == 1:
        return [[space.base] for _ in repetitions]
    path = place(step - 1, cfg.scale, cfg.dataset, "choice", cfg.seed)
    chains = [[from_record(item) for item in row["chain"]] for row in read(path, repetitions)]
    if any(len(chain) != step or chain[0] != space.base for chain in chains):
        raise StageError(f"{path}: holds a chain of another base or step; run the stages of the search again")
    return chains


def slot_row(found: Round, slot: Slot, evaluator: "Evaluator") -> dict[str, Any]:
    """What is written of a slot: its net, scores and what they cost, or why it is not compared."""
    candidate = next(item for item in found.candidates if item.slot == slot)
    net, row = candidate.net, {"slot": slot.name, "feasible": candidate.net is not None, "macs": candidate.macs}
    if net is None:
        return {**row, "reason": "outside delta" if candidate.macs else "nearest to the budget as it is"}
    scores = evaluator.accuracies(net)
    return {
        **row, "net": net.record(), "scores": scores, "score": evaluator(net), "trainings": len(scores),
        "spent": evaluator.spent(net),
    }  # fmt: skip


def gathered(step: int, cfg: SearchConfig, space: Space, repetitions: Sequence[int]) -> list[dict[str, Any]]:
    """The candidates of a step from the files of all dimensions: per repetition seed, budget, delta and the rows of all
    slots in their order. Raises StageError where a slot lacks or files disagree.
    """
    parts = [read(place(step, cfg.scale, cfg.dataset, d, cfg.seed), repetitions) for d in DIMENSIONS]
    wanted, made = [slot.name for slot in slots(space.base.stages)], []
    for rows in zip(*parts, strict=True):
        together = {key: rows[0][key] for key in ("seed", "budget", "delta")}
        if any(row[key] != value for row in rows for key, value in together.items()):
            raise StageError(f"step {step} of {cfg.scale} {cfg.dataset} {cfg.seed}: its files disagree; run its stages again")
        found = [item for row in rows for item in row["slots"]]
        if [item["slot"] for item in found] != wanted:
            raise StageError(f"step {step} of {cfg.scale} {cfg.dataset} {cfg.seed}: expected the slots {', '.join(wanted)}")
        made.append({**together, "slots": found})
    return made


@dataclass(frozen=True)
class Finished:
    """A whole search: its chain alpha_0 .. alpha_N and the candidates, winner and cost of every step."""

    chain: tuple[Allocation, ...]
    steps: tuple[dict[str, Any], ...]

    @property
    def spent(self) -> int:
        """Multiply-adds of the forward passes of all its evaluations."""
        return sum(step["spent"] for step in self.steps)

    @property
    def trainings(self) -> int:
        """Trainings of all its evaluations."""
        return sum(step["trainings"] for step in self.steps)


def finished(space: Space, cfg: SearchConfig, repetitions: Sequence[int]) -> list[Finished]:
    """The whole search of every repetition. Raises StageError where a step lacks or belongs to another search."""
    numbers = range(1, cfg.search.steps + 1)
    steps = [read(place(k, cfg.scale, cfg.dataset, "choice", cfg.seed), repetitions) for k in numbers]
    made = []
    for rows in zip(*steps, strict=True):
        chain = tuple(from_record(item) for item in rows[-1]["chain"])
        if any(row["chain"] != rows[-1]["chain"][: k + 1] for k, row in zip(numbers, rows, strict=True)) or (
            len(chain) != len(rows) + 1 or chain[0] != space.base
        ):
            raise StageError(f"{place(len(rows), cfg.scale, cfg.dataset, 'choice', cfg.seed)}: its steps do not follow one "
                             "another; run the stages of the search again")  # fmt: skip
        made.append(Finished(chain, tuple(rows)))
    return made
