"""The same federation with a stage for each client of a round: where its files lie, and what all its scripts are given."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stages.lib.stage import MISSING, field
from stages.papers.fedpu.settings import Federation

if TYPE_CHECKING:
    import torch

    from stages.papers.fedpu.local import Job


@dataclass
class Whole:
    """Command line and parameters that name one federation."""

    scale: str = field(help="parallel, or any other whose clients are worth a stage each")
    dataset: str = field(help="a prepared data set")
    scene: str = field(help="a scene of the params file")
    arm: str = field(help="an arm")
    seed: int = field(help="the repetition")
    threads: int = MISSING
    device: str = MISSING
    params: Federation = field(default_factory=Federation)


def root(cfg: Whole) -> Path:
    """The folder of a federation."""
    from stages.lib import files

    return files.RUNS / "fedpu" / "stages" / cfg.scale / cfg.dataset / cfg.scene / cfg.arm / str(cfg.seed)


def client_folder(cfg: Whole, turn: int, number: int) -> Path:
    """What client `number` left in round `turn`."""
    return root(cfg) / "clients" / str(turn) / str(number)


def round_folder(cfg: Whole, turn: int) -> Path:
    """The server's state after round `turn`."""
    return root(cfg) / "rounds" / str(turn)


def job(cfg: Whole) -> "tuple[Job, torch.device]":
    """The federation as `federate` would make it. Only this client's part of the images is used by a client's stage."""
    from stages.lib import runtime
    from stages.papers.fedpu import experiment

    device = runtime.prepare(cfg.threads, cfg.device, cfg.seed)
    train, _ = experiment.splits(cfg.dataset, "val", cfg.params)
    return experiment.make_job(train, cfg.params, cfg.scene, cfg.arm, cfg.seed, device), device


def read_files(cfg: Whole) -> list[Path]:
    """The prepared files that `job` reads."""
    from stages.lib import data

    names = data.SPLITS if cfg.params.pool else ("train", "val")
    return [data.PREPARED / cfg.dataset / name for name in (*(f"{one}.npz" for one in names), "manifest.json")]


def check_turn(cfg: Whole, turn: int) -> None:
    """StageError unless the round is one of the federation's."""
    from stages.lib.errors import StageError

    if not 1 <= turn <= cfg.params.rounds:
        raise StageError(f"round={turn}: expected 1 to params.rounds={cfg.params.rounds}")
