"""A tiny prepared set of relations for the tests of HCVRD: 9 seen labels, 2 zero-shot ones of val and 2 of test."""

from pathlib import Path

import numpy

from stages.lib import artifacts

TRIPLETS = [(s, p, o) for s in range(2) for p in range(3) for o in range(3)][:13]
KIND = [0] * 9 + [1, 1, 2, 2]
SIDE, TILE, EACH = 16, 16, 6


def split(random: numpy.random.RandomState, labels: list[int], roles: list[int]) -> dict[str, numpy.ndarray]:
    """One image a relation, its colours telling the label; every third image has a second annotation that gives boxes."""
    count = len(labels)
    x = random.randint(90, 110, (count, 3, SIDE, SIDE))
    rows = {"image": list(range(count)), "role": list(roles), "label": list(labels)}
    for image, label in enumerate(labels):
        for part, box in enumerate(((2, 2, 8, 12), (7, 5, 14, 13))):
            x[image, :, box[1] : box[3], box[0] : box[2]] += 40 * numpy.array(TRIPLETS[label])[:, None, None] - 20 * part
    for image in range(0, count, 3):
        rows["image"].append(image)
        rows["role"].append(2)
        rows["label"].append(int(labels[(image + 1) % count]))
    total = len(rows["image"])
    sub = numpy.tile(numpy.array([2, 2, 8, 12]), (total, 1))
    obj = numpy.tile(numpy.array([7, 5, 14, 13]), (total, 1))
    obj[count:] -= 1
    return {
        "ids": numpy.arange(count), "listed": numpy.array([1 + (i % 3) % 2 for i in range(count)]), "sub_box": sub, "obj_box": obj,
        "x": numpy.clip(x, 0, 255).astype(numpy.uint8), **{name: numpy.array(value) for name, value in rows.items()},
    }  # fmt: skip


def prepare(folder: Path) -> None:
    """Write runs/prepare/hcvrd below a folder."""
    random, root = numpy.random.RandomState(0), folder / "runs/prepare/hcvrd"
    seen, parts = list(range(9)), {}
    parts["train"] = split(random, (seen * 4 + seen[:5] * 8), [0] * 76)
    parts["train"] = {name: value if name in ("ids", "listed", "x") else value[:76] for name, value in parts["train"].items()}
    for name, unseen in (("val", [9, 10]), ("test", [11, 12])):
        parts[name] = split(random, seen * 2 + unseen * 4, [0] * 18 + [1] * 8)
    web = random.randint(60, 200, (len(KIND), EACH, 3, TILE, TILE)).astype(numpy.uint8)
    shown = numpy.tile(numpy.arange(len(KIND))[:, None], (1, EACH))
    shown[:, -2:] = (shown[:, -2:] + 1) % len(KIND)
    for label in range(len(KIND)):
        for place in range(EACH):
            web[label, place, :, 4:12, 4:12] = 60 * numpy.array(TRIPLETS[shown[label, place]])[:, None, None] + 30
    box = numpy.tile(numpy.array([4, 4, 12, 12]), (len(KIND), EACH, 1))
    count = numpy.bincount(parts["train"]["label"], minlength=len(KIND))
    parts["labels"] = {"triplets": numpy.array(TRIPLETS), "kind": numpy.array(KIND), "count": count}
    parts["web"] = {"x": web, "shown": shown, "box": box}
    for name, arrays in parts.items():
        artifacts.write_npz(root / f"{name}.npz", **arrays)
    words = {"subjects": ["man", "woman"], "predicates": ["on", "under", "by"], "objects": ["box", "ball", "kite"]}
    artifacts.write_manifest(
        root / "manifest.json", outputs=[root / f"{name}.npz" for name in parts], dataset="hcvrd", source="sample",
        files="generated sample", tail_below=8, classes=["x"], counts={}, split="", **words,
    )  # fmt: skip
