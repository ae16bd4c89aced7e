"""A table of samples with a utility label and one secret or more, divided in two: to train on, and to measure on."""

import dataclasses
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy
import torch
from torch import Tensor

from stages.lib import artifacts, files
from stages.lib.data import stratified
from stages.lib.errors import StageError
from stages.lib.runtime import derive_seed

SLUG = "privacy_adversarial_features"


def folder(scale: str, dataset: str, seed: int) -> Path:
    """Where the tables of a data set lie."""
    return files.RUNS / SLUG / "tables" / scale / dataset / str(seed)


@dataclasses.dataclass(frozen=True)
class Task:
    """One utility label and one secret.

    train, evaluation: float32 [n, D] and [m, D], standardised by the training samples; mean, deviation: those moments [D];
    u, s, u_eval, s_eval: int64 labels; utilities, secrets: how many classes; constant: features left out because they
    do not vary.
    """

    train: Tensor
    evaluation: Tensor
    mean: Tensor
    deviation: Tensor
    u: Tensor
    s: Tensor
    u_eval: Tensor
    s_eval: Tensor
    utilities: int
    secrets: int
    constant: int

    def to(self, device: torch.device) -> "Task":
        """The same on a device."""
        moved = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return Task(**{name: item.to(device) if isinstance(item, Tensor) else item for name, item in moved.items()})

    @property
    def bayes_leak(self) -> float:
        """Share of the measured samples whose secret the label u alone gives: the majority of s given u."""
        majority = torch.stack([torch.bincount(self.s[self.u == u], minlength=self.secrets).argmax()
                                for u in range(self.utilities)])  # fmt: skip
        return float((majority[self.u_eval] == self.s_eval).double().mean())


def write(path: Path, x: numpy.ndarray, u: numpy.ndarray, secrets: Mapping[str, numpy.ndarray], train: numpy.ndarray) -> Path:
    """One repetition's table: x [N, D], u [N], one secret [N] by name, and whether a sample is to train on [N]."""
    named = {f"secret_{name}": values.astype(numpy.int64) for name, values in secrets.items()}
    artifacts.write_npz(path, x=x.astype(numpy.float32), u=u.astype(numpy.int64), train=train.astype(bool), **named)
    return path


def secrets_of(path: Path) -> list[str]:
    """Names of a table's secrets."""
    try:
        with numpy.load(path, allow_pickle=False) as archive:
            return sorted(name.removeprefix("secret_") for name in archive.files if name.startswith("secret_"))
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise StageError(f"{path}: not an intact npz file; run its stage again") from error


def read(path: Path, secret: str) -> Task:
    """The task of a table and one of its secrets. StageError for what no map can be learned from."""
    x, u, train, s = artifacts.read_npz(path, "x", "u", "train", f"secret_{secret}")
    if x.ndim != 2 or not len(x) == len(u) == len(s) == len(train):
        raise StageError(f"{path}: x {list(x.shape)}, u, train and {secret} disagree; run its stage again")
    u, utilities = _codes(u, train, f"{path}: the utility label")
    s, secrets = _codes(s, train, f"{path}: the secret {secret}")
    _refuse_determined(u[train], s[train], f"{path}: the secret {secret}")
    values = torch.from_numpy(x.astype(numpy.float64))
    mean, deviation = values[train].mean(0), values[train].std(0, correction=0)
    varies = deviation > 1e-9 * (mean.abs() + 1.0)
    if not bool(values.isfinite().all()) or not bool(varies.any()):
        raise StageError(f"{path}: features are not finite, or every one is constant; expected numbers that vary")
    mean, deviation = torch.where(varies, mean, 0.0), torch.where(varies, deviation, torch.inf)  # constant ones become 0
    scaled = ((values - mean) / deviation).float()[:, varies]
    labels = [torch.from_numpy(part) for part in (u[train], s[train], u[~train], s[~train])]
    return Task(scaled[train], scaled[~train], mean[varies], deviation[varies], *labels, utilities, secrets,
                int((~varies).sum()))  # fmt: skip


def _codes(labels: numpy.ndarray, train: numpy.ndarray, name: str) -> tuple[numpy.ndarray, int]:
    """Labels as 0 .. C-1 by the training samples' classes. StageError for fewer than two, or one that is only measured."""
    classes = numpy.unique(labels[train])
    if len(classes) < 2:
        raise StageError(f"{name} has {len(classes)} class to train on; expected two or more")
    if not train.any() or train.all() or not numpy.isin(labels, classes).all():
        raise StageError(f"{name}: expected samples on both sides and every measured class among those to train on")
    return numpy.searchsorted(classes, labels), len(classes)


def _refuse_determined(u: numpy.ndarray, s: numpy.ndarray, name: str) -> None:
    """StageError where each u has one s: to tell u is then to tell s, and there is nothing to trade."""
    if len(numpy.unique(numpy.stack((u, s), 1), axis=0)) == len(numpy.unique(u)):
        raise StageError(f"{name} follows from the utility label; expected one that varies within a class of it")


def thinned(u: numpy.ndarray, index: numpy.ndarray, count: int, repetition: int) -> numpy.ndarray:
    """A repetition's own `count` of the places `index`, classes of u kept in proportion, ascending."""
    return index[stratified(u[index], {"taken": count}, derive_seed(repetition, "taken") % 2**32)["taken"]]
