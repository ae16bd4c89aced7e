"""Reading HCVRD as its publisher wrote it: annotations, lists of image ids, indices of the long tail; and counting it.

The order of a box's four numbers is not documented. It is [y, x, h, w] (top, left, height, width): only then do hats lie at
the heads and shoes at the feet of the persons who wear them. Names in the lists end in .jpg, the annotations' keys do not.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.lib.errors import StageError

TEXTS, BOXES = ("subject", "predicate", "object"), ("sub_box", "obj_box")
Box = tuple[int, int, int, int]
Triplet = tuple[str, str, str]


@dataclasses.dataclass(frozen=True)
class Relation:
    """One annotation. Boxes are in the publisher's order y, x, h, w, in pixels."""

    image: int
    subject: str
    predicate: str
    object: str
    sub_box: Box
    obj_box: Box

    @property
    def label(self) -> Triplet:
        """Its category: the whole triplet."""
        return self.subject, self.predicate, self.object

    def __str__(self) -> str:
        return f"image {self.image}: {' '.join(self.label)}"


def corners(box: Sequence[int]) -> Box:
    """x1, y1, x2, y2 of a publisher's box y, x, h, w."""
    y, x, h, w = box
    return x, y, x + w, y + h


def read_relations(content: bytes, path: Path) -> list[Relation]:
    """All annotations of a file, images in ascending order. Raises StageError for another schema."""
    try:
        tree = json.loads(content)
    except ValueError as error:
        raise StageError(f"{path}: not JSON or cut short ({error}); fetch it again") from error
    if not isinstance(tree, dict):
        raise StageError(f"{path}: holds a {type(tree).__name__}; expected a list of annotations by image id")
    found = []
    for key, entries in tree.items():
        if not key.isdecimal() or not isinstance(entries, list):
            raise StageError(f"{path}: key {key!r}; expected an image id, as text, with a list of annotations")
        found += [_relation(int(key), entry, path) for entry in entries]
    return sorted(found, key=lambda one: one.image)  # stable: an image's annotations stay in their order


def _relation(image: int, entry: Any, path: Path) -> Relation:
    """One annotation, its types checked."""
    if not isinstance(entry, dict) or not set(entry) >= {*TEXTS, *BOXES}:
        raise StageError(f"{path}: image {image}: an annotation lacks a key; expected {', '.join((*TEXTS, *BOXES))}")
    for name in TEXTS:
        if not isinstance(entry[name], str) or not entry[name].strip():
            raise StageError(f"{path}: image {image}: {name} is {entry[name]!r}; expected a word")
    for name in BOXES:
        box = entry[name]
        if not isinstance(box, list) or len(box) != 4 or not all(type(value) is int for value in box):
            raise StageError(f"{path}: image {image}: {name} is {box!r}; expected four whole numbers [y, x, h, w]")
    return Relation(image, *(entry[name] for name in TEXTS), *(tuple(entry[name]) for name in BOXES))


def read_ids(content: bytes, path: Path) -> list[int]:
    """Image ids of a list of names <id>.jpg, one a line; the last line may lack its end. Raises StageError otherwise."""
    found = []
    for number, line in enumerate(content.decode("ascii", "replace").splitlines(), 1):
        stem, _, kind = line.strip().partition(".")
        if not stem.isdecimal() or kind != "jpg":
            raise StageError(f"{path}: line {number} is {line!r}; expected <image id>.jpg")
        found.append(int(stem))
    if len(set(found)) != len(found):
        raise StageError(f"{path}: image {Counter(found).most_common(1)[0][0]} is listed twice; fetch the list again")
    return found


def read_tail(content: bytes, path: Path) -> list[int]:
    """Indices of long-tail categories, from 0; the order of the categories they point at is not published."""
    from stages.prepare.sensor_matlab import read

    values = read(content, path).get("long_tail")
    if values is None or values.dtype.kind not in "iuf" or values.ndim != 2 or values.shape[0] != 1:
        raise StageError(f"{path}: has no variable long_tail [1, n]; expected the publisher's file")
    found = [int(value) for value in values[0].tolist()]
    if len(set(found)) != len(found) or min(found, default=0) < 0:
        raise StageError(f"{path}: long_tail holds an index twice or below 0; fetch it again")
    return found


# --- what is wrong with annotations ---------------------------------------------------------------


def faults(relations: Iterable[Relation], sizes: Mapping[int, tuple[int, int]]) -> dict[int, str]:
    """What is wrong, by the relation's place: no area, outside its image (where (height, width) is known), given twice."""
    found, met = {}, set()
    for place, one in enumerate(relations):
        why = next((text for name in BOXES if (text := _box_fault(name, getattr(one, name), sizes.get(one.image)))), "")
        if one in met:
            why = "the same annotation a second time"
        met.add(one)
        if why:
            found[place] = f"{one}: {why}"
    return found


def _box_fault(name: str, box: Box, size: tuple[int, int] | None) -> str:
    y, x, h, w = box
    if h <= 0 or w <= 0:
        return f"{name} {list(box)} has no area"
    if y < 0 or x < 0 or (size is not None and (y + h > size[0] or x + w > size[1])):
        return f"{name} {list(box)} lies outside the image" + (f" of {size[0]} x {size[1]} pixels" if size else "")
    return ""


def unknown_parts(zero_shot: Sequence[Relation], seen: Sequence[Relation]) -> dict[int, str]:
    """Zero-shot relations that are none (the triplet has training instances) or use a word that no training one has."""
    triplets = {one.label for one in seen}
    words = {name: {getattr(one, name) for one in seen} for name in TEXTS}
    found = {}
    for place, one in enumerate(zero_shot):
        strange = [name for name in TEXTS if getattr(one, name) not in words[name]]
        if one.label in triplets:
            found[place] = f"{one}: is annotated for training, so it is not zero-shot"
        elif strange:
            found[place] = f"{one}: unknown {strange[0]}; no training annotation has it"
    return found


# --- counting -------------------------------------------------------------------------------------


def statistics(zero_shot: Sequence[Relation], train: Sequence[int], test: Sequence[int]) -> dict[str, int]:
    """The publisher's counts of images and zero-shot relations, by name."""
    listed = {"train": set(train), "test": set(test)}
    images = {one.image for one in zero_shot}
    multiplicity = Counter(Counter(one.label for one in zero_shot).values())
    found = {
        "train images": len(train), "test images": len(test), "train and test images": len(listed["train"] & listed["test"]),
        "zero-shot images": len(images), "zero-shot relations": len(zero_shot),
        "zero-shot triplets": sum(multiplicity.values()),
        "zero-shot pairs of predicate and object": len({one.label[1:] for one in zero_shot}),
        **{f"zero-shot {name}s": len({getattr(one, name) for one in zero_shot}) for name in TEXTS},
        **{f"zero-shot triplets with {times} relations": count for times, count in sorted(multiplicity.items())},
        **{f"zero-shot relations of {name}": count for name, count in
           sorted(Counter(one.subject for one in zero_shot).items())},
    }  # fmt: skip
    for name, inside in (*listed.items(), ("neither", images - listed["train"] - listed["test"])):
        found[f"zero-shot images in {name}"] = len(images & inside)
        found[f"zero-shot relations in {name}"] = sum(one.image in inside for one in zero_shot)
    found["images overall, lists added"] = len(train) + len(listed["test"] | images)
    found["images overall, each once"] = len(listed["train"] | listed["test"] | images)
    return found


def part_heights(relations: Iterable[Relation], objects: set[str]) -> list[float]:
    """Where the centres of such objects lie in their person's box: 0 at its top, 1 at its bottom. Establishes the box order."""
    return [
        (one.obj_box[0] + one.obj_box[2] / 2 - one.sub_box[0]) / one.sub_box[2] for one in relations if one.object in objects
    ]
