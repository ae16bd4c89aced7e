"""From HCVRD's annotations to arrays: which are usable, which split they belong to, their labels, images and web images."""

from __future__ import annotations

import csv
import dataclasses
import io
import zipfile
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy

from stages.lib.errors import StageError, one_line
from stages.prepare.hcvrd_files import TEXTS, Relation, Triplet, corners, faults, unknown_parts

SEEN, ZERO_SHOT, BOXES_ONLY = 0, 1, 2  # roles of a relation in a split
LISTED = {"neither": 0, "train": 1, "test": 2}


@dataclasses.dataclass(frozen=True)
class Annotations:
    """Usable relations of both files, and the publisher's lists of image ids."""

    seen: list[Relation]
    zero_shot: list[Relation]
    train: list[int]
    test: list[int]


@dataclasses.dataclass(frozen=True)
class Labels:
    """All triplets in order: seen ones first, then zero-shot ones; kind 0 seen, 1 zero-shot of val, 2 of test."""

    triplets: list[Triplet]
    kind: list[int]

    def index(self) -> dict[Triplet, int]:
        """Places of the triplets."""
        return {one: place for place, one in enumerate(self.triplets)}


def usable(
    seen: list[Relation] | None, zero_shot: list[Relation], train: list[int], test: list[int],
    sizes: Mapping[int, tuple[int, int]],
) -> tuple[Annotations, list[str]]:  # fmt: skip
    """(annotations without bad ones, one line for each of those). `seen` is None where its file is absent."""
    learning = set(train)
    both = sorted(learning & set(test))
    bad = [f"image {number} is in train.txt and test.txt" for number in both]
    if sizes:
        needed = {one.image for one in (*(seen or []), *zero_shot)}
        bad += [f"image {number} is annotated, but in no archive" for number in sorted(needed - set(sizes))]
    wrong = faults(zero_shot, sizes)
    if seen is not None:
        wrong |= unknown_parts(zero_shot, [one for one in seen if one.image in learning])
    bad += wrong.values()
    zero_shot = [one for place, one in enumerate(zero_shot) if place not in wrong]
    kept = []
    if seen is not None:
        annotated = {one.image for one in seen}
        bad += [f"image {number} is listed, but final_data.json has no annotation of it"
                for number in (*train, *test) if number not in annotated]  # fmt: skip
        wrong = faults(seen, sizes)
        learnt, listed = {one.label for one in seen if one.image in learning}, {*train, *test}
        for place, one in enumerate(seen):
            if place not in wrong and one.image not in listed:
                wrong[place] = f"{one}: its image is in neither list"
            elif place not in wrong and one.label not in learnt:
                wrong[place] = f"{one}: no training image has this label, and it is not called zero-shot"
        bad += wrong.values()
        kept = [one for place, one in enumerate(seen) if place not in wrong]
    return Annotations(kept, zero_shot, train, test), bad


def divide(read: Annotations, val_every: int, labels_every: int) -> tuple[Labels, dict[str, list[tuple[Relation, int]]]]:
    """(labels, relations with their roles by split).

    Validation images are every `val_every`-th of train.txt that holds no label's last training instance. Every
    `labels_every`-th zero-shot label is val's. Annotations of an evaluated image that are no ground truth of its
    split give boxes.
    """
    train, by_image = set(read.train), defaultdict(list)
    for one in read.seen:
        by_image[one.image].append(one)
    left, held = Counter(one.label for one in read.seen if one.image in train), set()
    for number in sorted(train)[::val_every]:
        taken = Counter(one.label for one in by_image[number])
        if taken and all(left[label] > count for label, count in taken.items()):
            held.add(number)
            left -= taken
    unseen = sorted({one.label for one in read.zero_shot})
    kinds = {label: 1 if place % labels_every == labels_every - 1 else 2 for place, label in enumerate(unseen)}
    seen = sorted({one.label for one in read.seen if one.image in train})
    labels = Labels([*seen, *unseen], [0] * len(seen) + [kinds[label] for label in unseen])
    parts: dict[str, list[tuple[Relation, int]]] = {"train": [(one, SEEN) for one in read.seen if one.image in train - held]}
    for split, kind in (("val", 1), ("test", 2)):
        own = held if split == "val" else set(read.test)
        images = own | {one.image for one in read.zero_shot if kinds[one.label] == kind}
        chosen = [(one, SEEN if one.image in own else BOXES_ONLY) for one in read.seen if one.image in images]
        chosen += [(one, ZERO_SHOT if kinds[one.label] == kind else BOXES_ONLY)
                   for one in read.zero_shot if one.image in images]  # fmt: skip
        parts[split] = chosen
    return labels, parts


def names_of(labels: Labels) -> dict[str, list[str]]:
    """Sorted words by kind, and all labels as text."""
    words = {f"{name}s": sorted({one[place] for one in labels.triplets}) for place, name in enumerate(TEXTS)}
    return words | {"classes": [" ".join(one) for one in labels.triplets]}


def label_arrays(labels: Labels, train: Sequence[tuple[Relation, int]]) -> dict[str, numpy.ndarray]:
    """triplets int64 [L, 3] (places among subjects, predicates, objects), kind int64 [L], count int64 [L] of training."""
    names = names_of(labels)
    places = [{word: number for number, word in enumerate(names[f"{name}s"])} for name in TEXTS]
    rows = [[where[word] for where, word in zip(places, one, strict=True)] for one in labels.triplets]
    counted = Counter(one.label for one, _ in train)
    return {
        "triplets": numpy.array(rows, dtype=numpy.int64).reshape(-1, 3),
        "kind": numpy.array(labels.kind, dtype=numpy.int64),
        "count": numpy.array([counted[one] for one in labels.triplets], dtype=numpy.int64),
    }


def split_arrays(
    part: Sequence[tuple[Relation, int]], read: Annotations, labels: Labels, pixels: Mapping[int, numpy.ndarray]
) -> dict[str, numpy.ndarray]:
    """ids, listed (0 neither, 1 train.txt, 2 test.txt) [N], x uint8 [N, 3, side, side] (no side without images); of
    relations: image (place among ids), role and label [R], sub_box and obj_box int64 [R, 4] as x1, y1, x2, y2.
    """
    ids = sorted({one.image for one, _ in part})
    place, label = {number: index for index, number in enumerate(ids)}, labels.index()
    train, test = set(read.train), set(read.test)
    listed = [LISTED["train" if number in train else "test" if number in test else "neither"] for number in ids]
    blank = numpy.zeros((len(ids), 3, 0, 0), dtype=numpy.uint8)
    held = bool(pixels) and bool(ids)
    return {
        "ids": numpy.array(ids, dtype=numpy.int64),
        "listed": numpy.array(listed, dtype=numpy.int64),
        "x": numpy.stack([pixels[number] for number in ids]) if held else blank,
        "image": numpy.array([place[one.image] for one, _ in part], dtype=numpy.int64),
        "role": numpy.array([role for _, role in part], dtype=numpy.int64),
        "label": numpy.array([label[one.label] for one, _ in part], dtype=numpy.int64),
        **{name: numpy.array([corners(getattr(one, name)) for one, _ in part], dtype=numpy.int64).reshape(-1, 4)
           for name in ("sub_box", "obj_box")},
    }  # fmt: skip


# --- archives of images ---------------------------------------------------------------------------


def read_images(archives: Sequence[bytes | None], side: int, root: Path) -> dict[int, numpy.ndarray]:
    """uint8 [3, side, side] by image id, from Visual Genome's archives; nothing if side is 0 or there are none."""
    found = {}
    for content in archives if side else ():
        for name, data in members(content, root).items() if content else ():
            stem = Path(name).stem
            if not name.endswith(".jpg") or not stem.isdecimal():
                raise StageError(f"{root}: an archive of images holds {name}; expected VG_100K/<image id>.jpg")
            image = decode(data, f"{root}: {name}")
            if image.shape != (3, side, side):
                raise StageError(f"{root}: {name} has {image.shape[1]} x {image.shape[2]} pixels; expected {side} x {side}")
            found[int(stem)] = image
    return found


def members(content: bytes, root: Path) -> dict[str, bytes]:
    """Files of an archive by name, in its order. Raises StageError for a damaged one."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
    except (zipfile.BadZipFile, OSError, ValueError, EOFError) as error:
        raise StageError(f"{root}: an archive is damaged ({one_line(error)}); fetch it again") from error


def decode(content: bytes, name: str) -> numpy.ndarray:
    """uint8 [3, H, W] of an image file. Raises StageError for a damaged one."""
    from PIL import Image

    try:
        image = Image.open(io.BytesIO(content)).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise StageError(f"{name}: cannot be decoded ({one_line(error)}); fetch it again") from error
    return numpy.ascontiguousarray(numpy.asarray(image).transpose(2, 0, 1))


def web_arrays(
    content: bytes | None, labels: Labels, tile: int, sheet: tuple[int, int], root: Path
) -> dict[str, numpy.ndarray]:
    """x uint8 [L, M, 3, tile, tile]: the M images that each label's query found; shown int64 [L, M]: the label that an
    image really shows, -1 where nobody knows; box int64 [L, M, 4] of the pair, x1, y1, x2, y2. L is 0 without web images.
    """
    size = (len(labels.triplets) if content else 0, sheet[0] * sheet[1])
    arrays = {
        "x": numpy.zeros((*size, 3, tile, tile), dtype=numpy.uint8),
        "shown": numpy.full(size, -1, dtype=numpy.int64),
        "box": numpy.zeros((*size, 4), dtype=numpy.int64),
    }
    held = members(content, root) if content else {}
    for place, label in enumerate(labels.triplets if content else []):
        name = f"{' '.join(label)}.jpg"
        if name not in held:
            raise StageError(f"{root / 'web.zip'}: has no {name}; expected a sheet of images for every label")
        image = decode(held[name], f"{root / 'web.zip'}: {name}")
        if image.shape != (3, sheet[0] * tile, sheet[1] * tile):
            raise StageError(f"{root / 'web.zip'}: {name} is {list(image.shape)}; expected {sheet[0]} x {sheet[1]} of {tile}")
        cut = image.reshape(3, sheet[0], tile, sheet[1], tile).transpose(1, 3, 0, 2, 4)
        arrays["x"][place] = cut.reshape(-1, 3, tile, tile)
    _truth(held.get("truth.csv"), labels, arrays, root)
    return arrays


def _truth(content: bytes | None, labels: Labels, arrays: dict[str, Any], root: Path) -> None:
    """Fill `shown` and `box` from the archive's truth.csv, if there is one."""
    places, texts = labels.index(), {" ".join(one): number for number, one in enumerate(labels.triplets)}
    for row in csv.DictReader(io.StringIO(content.decode("utf-8"))) if content else ():
        try:
            where = texts[row["query"]], int(row["place"])
            arrays["shown"][where] = places[tuple(row[name] for name in TEXTS)]
            arrays["box"][where] = corners([int(row[name]) for name in "yxhw"])
        except (KeyError, ValueError, IndexError, TypeError) as error:
            raise StageError(f"{root / 'web.zip'}: truth.csv: a line cannot be used ({one_line(error)})") from error
