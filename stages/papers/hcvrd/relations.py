"""The prepared set: relations of a split, labels, web images; and the pairs of boxes that a detector would propose."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy
import torch
from torch import Tensor

from stages.lib import artifacts, data
from stages.lib.errors import StageError
from stages.papers.hcvrd import boxes

if TYPE_CHECKING:
    from stages.papers.hcvrd.settings import Detector

SEEN, ZERO_SHOT, BOXES_ONLY = 0, 1, 2  # roles of a relation
FILES = ("train", "val", "test", "labels", "web")


@dataclasses.dataclass(frozen=True)
class Relations:
    """One split. x: uint8 [N, 3, S, S]; listed [N]: 1 in train.txt, 2 in test.txt; of relations [R]: image (place), role,
    label, and boxes sub_box, obj_box float32 [R, 4].
    """

    x: Tensor
    listed: Tensor
    image: Tensor
    role: Tensor
    label: Tensor
    sub_box: Tensor
    obj_box: Tensor


@dataclasses.dataclass(frozen=True)
class Labels:
    """All L labels. triplets int64 [L, 3], places among the words; kind [L]: 0 seen, 1 zero-shot of val, 2 of test; count
    [L] of training instances.
    """

    triplets: Tensor
    kind: Tensor
    count: Tensor
    words: tuple[list[str], list[str], list[str]]
    tail_below: int

    @property
    def seen(self) -> Tensor:
        """Which labels have training instances, bool [L]."""
        return self.kind == 0

    def names(self) -> list[str]:
        """Labels as text."""
        return [" ".join(words[i] for words, i in zip(self.words, row, strict=True)) for row in self.triplets.tolist()]

    def spread(self, count: int) -> list[int]:
        """That many labels, or all, evenly from those without training instances to the most frequent ones."""
        order = self.count.argsort(stable=True)
        return order[torch.linspace(0, len(order) - 1, min(count, len(order))).long()].tolist()

    def zero_shot(self, split: str) -> Tensor:
        """Which labels are the split's zero-shot ones, bool [L]."""
        return self.kind == (1 if split == "val" else 2)


@dataclasses.dataclass(frozen=True)
class Web:
    """M web images of every label. x: uint8 [L, M, 3, T, T]; good: which show their label, bool [L, M]; box of the pair
    float32 [L, M, 4].
    """

    x: Tensor
    good: Tensor
    box: Tensor


@dataclasses.dataclass(frozen=True)
class World:
    """What one repetition learns from and is measured on."""

    train: Relations
    asked: Relations
    labels: Labels
    web: Web
    split: str


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Proposed pairs. image [K]; boxes sub, obj float32 [K, 4]; logarithms of class scores sub_score [K, S], obj_score [K, O];
    truth [K]: the relation that a pair was made for, -1 for none.
    """

    image: Tensor
    sub: Tensor
    obj: Tensor
    sub_score: Tensor
    obj_score: Tensor
    truth: Tensor

    def __len__(self) -> int:
        return len(self.image)


def read(split: str, root: Path = data.PREPARED) -> World:
    """The prepared set. Raises StageError if it was altered, or lacks images, training relations or web images."""
    folder = root / "hcvrd"
    about = artifacts.verify_manifest(folder / "manifest.json")
    parts = {name: relations(folder / f"{name}.npz") for name in ("train", split)}
    triplets, kind, count = tensors(folder / "labels.npz", "triplets", "kind", "count")
    try:
        words = tuple(list(about[name]) for name in ("subjects", "predicates", "objects"))
        labels = Labels(triplets, kind, count, words, int(about["tail_below"]))
    except (KeyError, TypeError) as error:
        raise StageError(f"{folder / 'manifest.json'}: lacks {error}; run the prepare stage again") from error
    x, shown, box = tensors(folder / "web.npz", "x", "shown", "box")
    asked = [int((parts[split].role == role).sum()) for role in (SEEN, ZERO_SHOT)]
    for what, amount in (("training relation", len(parts["train"].label)), ("web image", x.numel()),
                         ("image", parts["train"].x.numel()), (f"relation of a seen label in {split}", asked[0]),
                         (f"zero-shot relation in {split}", asked[1])):  # fmt: skip
        if not amount:
            raise StageError(f"{folder}: has no {what}; the {about.get('source')} files lack them, use relation_source=sample")
    good = (shown == torch.arange(len(x)).unsqueeze(1)) | (shown < 0)
    if not bool(good.any(1).all()):
        raise StageError(f"{folder / 'web.npz'}: a label has no good web image; expected one or more")
    return World(parts["train"], parts[split], labels, Web(x, good, box.float()), split)


def tensors(path: Path, *names: str) -> list[Tensor]:
    """Arrays of a file as tensors."""
    return [torch.from_numpy(numpy.ascontiguousarray(one)) for one in artifacts.read_npz(path, *names)]


def relations(path: Path) -> Relations:
    """A split's file. Raises StageError if it holds none or is no such file."""
    x, listed, image, role, label, sub, obj = tensors(path, "x", "listed", "image", "role", "label", "sub_box", "obj_box")
    if not len(label) == len(image) == len(role) == len(sub) == len(obj) or len(x) != len(listed):
        raise StageError(f"{path}: arrays differ in length; run the prepare stage again")
    return Relations(x, listed, image, role, label, sub.float(), obj.float())


# --- pairs ----------------------------------------------------------------------------------------


def class_scores(true: Tensor, classes: int, certainty: float, generator: torch.Generator) -> Tensor:
    """Logarithms of a detector's class probabilities [n, classes] for boxes whose classes are `true`."""
    noise = torch.randn(len(true), classes, generator=generator)
    return (noise + certainty * torch.nn.functional.one_hot(true, classes)).log_softmax(1)


def distinct(image: Tensor, box: Tensor, kind: Tensor) -> tuple[Tensor, Tensor]:
    """(first row of each distinct (image, class, box), which of those a row is) of R rows."""
    rows = torch.cat([image.unsqueeze(1), kind.unsqueeze(1), box.long()], 1)
    _, inverse = rows.unique(dim=0, return_inverse=True)
    first = torch.full((int(inverse.max()) + 1,), len(rows), dtype=torch.int64)
    first.scatter_reduce_(0, inverse, torch.arange(len(rows)), "amin")
    return first, inverse


def propose(given: Relations, labels: Labels, settings: "Detector", detected: bool, generator: torch.Generator) -> Pairs:
    """With `detected`, all pairs of a person and an object of each image, boxes jittered and some missed; else the annotated
    pair of every relation, in the order of the relations.
    """
    parts, side = labels.triplets[given.label], given.x.shape[-1]
    sub_first, sub_of = distinct(given.image, given.sub_box, parts[:, 0])
    obj_first, obj_of = distinct(given.image, given.obj_box, parts[:, 2])
    sub_score = class_scores(parts[sub_first, 0], len(labels.words[0]), settings.certainty, generator)
    obj_score = class_scores(parts[obj_first, 2], len(labels.words[2]), settings.certainty, generator)
    sub, obj = given.sub_box[sub_first], given.obj_box[obj_first]
    if not detected:
        return Pairs(given.image, sub[sub_of], obj[obj_of], sub_score[sub_of], obj_score[obj_of], torch.arange(len(parts)))
    sub, obj = (boxes.jitter(one, settings.jitter, side, generator) for one in (sub, obj))
    found = torch.rand(len(sub), generator=generator) >= settings.missed
    met = torch.rand(len(obj), generator=generator) >= settings.missed
    same = given.image[sub_first].unsqueeze(1) == given.image[obj_first]
    one, other = (same & found.unsqueeze(1) & met).nonzero().unbind(1)
    truth = torch.full((len(sub), len(obj)), -1)
    truth[sub_of, obj_of] = torch.arange(len(parts))
    return Pairs(
        given.image[sub_first][one], sub[one], obj[other], sub_score[one], obj_score[other], truth[one, other]
    )  # fmt: skip
