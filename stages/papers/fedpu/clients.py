"""What one client knows: images, labels where it has them, positive classes, class priors."""

import dataclasses
from collections.abc import Sequence

import numpy
import torch
from torch import Tensor

from stages.lib.data import Split, stratified
from stages.lib.errors import StageError
from stages.papers.fedpu import fedmatch, partition
from stages.papers.fedpu.partition import Share
from stages.papers.fedpu.settings import Federation, Scene


@dataclasses.dataclass(frozen=True)
class Known:
    """What an objective may use beside a batch.

    positive: bool [C]. priors: [C], class shares among all images of the client; priors_unlabelled: among the unlabelled
    ones. Each belongs to the mean over just those images.
    """

    positive: Tensor
    priors: Tensor
    priors_unlabelled: Tensor

    @property
    def count(self) -> int:
        """C_k, the number of positive classes."""
        return int(self.positive.sum())


@dataclasses.dataclass(frozen=True)
class Client:
    """x [n, ...]; target int64 [n]: the label y if it is known, y + C if not, where y is hidden and the rest only a mark."""

    x: Tensor
    target: Tensor
    known: Known

    def __len__(self) -> int:
        return len(self.target)


def make_clients(
    split: Split, params: Federation, scene: Scene, factor: float, seed: int, device: torch.device
) -> list[Client]:
    """The clients of a scene. `factor` multiplies the priors of positive classes (misspecification).

    Raises StageError where the division is impossible, see `partition`.
    """
    classes = len(split.classes)
    if params.images is not None:
        split = split.take(torch.from_numpy(stratified(split.y.numpy(), {"all": params.images}, 0)["all"]))
    y = split.y.numpy()
    divide = fedmatch.fedmatch if scene.partition == "fedmatch" else partition.shards
    shares = divide(y, scene, params.clients, classes, seed)
    return [make_client(split, own, scene.priors, factor, k, classes, device) for k, own in enumerate(shares)]


def make_client(
    split: Split, own: Share, priors: Sequence[float] | None, factor: float, number: int, classes: int, device: torch.device
) -> Client:  # fmt: skip
    """One client from its share of a split."""
    index = torch.from_numpy(own.images)
    y, marked = split.y[index], torch.from_numpy(own.labelled)
    if bool(marked.all()):
        raise StageError(f"client {number}: has no unlabelled image; lower the share of labels")
    if priors is not None and len(priors) != classes:
        raise StageError(f"params.scenes: priors: {len(priors)} numbers; expected one for each of {classes} classes")
    positive = torch.zeros(classes, dtype=torch.bool)
    positive[list(own.positives)] = True
    every, hidden = (_shares(part, classes, priors) for part in (y, y[~marked]))
    known = Known(positive, *(_misspecified(part, positive, factor, number) for part in (every, hidden)))
    moved = Known(*(getattr(known, item.name).to(device) for item in dataclasses.fields(known)))
    return Client(split.x[index].to(device), torch.where(marked, y, y + classes).to(device), moved)


def _shares(y: Tensor, classes: int, given: Sequence[float] | None) -> numpy.ndarray:
    if given is not None:
        return numpy.array(given, dtype=numpy.float64)
    return numpy.bincount(y.numpy(), minlength=classes) / len(y)


def _misspecified(shares: numpy.ndarray, positive: Tensor, factor: float, number: int) -> Tensor:
    """Priors float32 [C] with those of positive classes times `factor`; the others share what is left in proportion."""
    if factor == 1.0:
        return torch.from_numpy(shares).float()
    mask = positive.numpy()
    told = float(shares[mask].sum()) * factor
    if told > 1 + 1e-9:
        raise StageError(f"client {number}: priors of positive classes sum to {told:.3g} with the factor {factor}; at most 1")
    rest = float(shares[~mask].sum())
    scaled = numpy.where(mask, shares * factor, shares * ((1 - told) / rest if rest else 0.0))
    return torch.from_numpy(scaled).float()
