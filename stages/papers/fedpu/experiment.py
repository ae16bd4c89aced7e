"""From a prepared data set to jobs, and from their rounds to the figures of every arm."""

from collections.abc import Mapping, Sequence

import torch

from stages.lib import data
from stages.lib.data import Split
from stages.lib.errors import StageError
from stages.papers.fedpu import arms, nets
from stages.papers.fedpu.clients import make_clients
from stages.papers.fedpu.local import Job
from stages.papers.fedpu.saved import Progress
from stages.papers.fedpu.settings import Federation

REFERENCE = "positives_only"  # whose last accuracy the bytes of all arms are counted up to


def splits(dataset: str, eval_split: str, params: Federation) -> tuple[Split, Split]:
    """(images for the clients, images for measuring): as prepared, or the pool of all splits divided as FedMatch does."""
    if params.pool is None:
        return data.load(dataset, "train"), data.load(dataset, eval_split)
    read = [data.load(dataset, name) for name in data.SPLITS]
    if len(params.pool) != 3:
        raise StageError(f"params.pool={list(params.pool)}: expected sizes of train, val and test")
    joined = Split(torch.cat([one.x for one in read]), torch.cat([one.y for one in read]), read[0].classes, read[0].mean,
                   read[0].std, read[0].source, "pool")  # fmt: skip
    sizes = dict(zip(data.SPLITS, params.pool, strict=True))
    index = data.stratified(joined.y.numpy(), sizes, 0)
    return tuple(joined.take(torch.from_numpy(index[name])) for name in ("train", eval_split))


def scene_of(params: Federation, name: str):
    """The scene of that name. Raises StageError that lists them."""
    if name not in params.scenes:
        raise StageError(f"scene={name}: there is no such scene; choose one of {', '.join(params.scenes)}")
    return params.scenes[name]


def make_job(split: Split, params: Federation, scene: str, arm: str, seed: int, device: torch.device) -> Job:
    """The federation of one arm. Same images, labels, initial weights, orders and draws for all arms of a repetition."""
    about, own = arms.find(arm), scene_of(params, scene)
    rate = arms.rate(params.lr, arm)
    clients = make_clients(split, params, own, about.prior_factor, seed, device)
    net = nets.record(params.net, list(split.x.shape[1:]), len(split.classes))
    return Job(params, about, rate, clients, net, seed, f"{arm} on {scene}")


def figures(scene: str, found: Mapping[str, Progress], early: int) -> dict[str, dict[str, float]]:
    """By arm: accuracy after the last and an early round, and kilobytes exchanged until the arm first reaches the last
    accuracy of positives only (all kilobytes if it never does).
    """
    values = {}
    for arm, progress in found.items():
        values[arm] = {
            f"accuracy_{scene}": progress.accuracies[-1],
            f"accuracy_{scene}_early": progress.accuracies[early - 1],
            f"kilobytes_{scene}": sum(progress.exchanged) / 1000,
        }
        if REFERENCE in found:
            goal = found[REFERENCE].accuracies[-1]
            values[arm][f"kilobytes_to_{scene}"] = sum(progress.exchanged[: reached(progress.accuracies, goal)]) / 1000
    return values


def reached(accuracies: Sequence[float], goal: float) -> int:
    """The first round (from 1) whose accuracy is the goal or more; the last round if there is none."""
    return next((turn for turn, value in enumerate(accuracies, 1) if value >= goal), len(accuracies))
