"""The embedded sample of HCVRD: drawn scenes of a person with one or two objects, in the publisher's files.

Below hcvrd/: final_data.json, zeroshot_data.json, long_tail_indexes.mat, train.txt and test.txt as the publisher writes them;
images.zip and images2.zip with VG_100K/<id>.jpg and VG_100K_2/<id>.jpg as Visual Genome ships its images; web.zip with a sheet
of images for every label's query, and truth.csv, which tells what each of them really shows. An object's class decides its
shape and colour, a predicate is a place about the person, with jitter. Web images have another palette, are larger and have
more clutter; about a third of them show something else.
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy

from stages.lib import artifacts
from stages.lib.runtime import derive_seed
from stages.prepare import scene_drawing as drawing
from stages.prepare.image_samples import digest
from stages.prepare.scene_drawing import Box

SEED = 2018
CANVAS, TILE = 40, 32
SHEET = (4, 6)  # rows and columns of web images on a label's sheet
NOISE = 0.35  # share of web images that show another triplet; half of those share the object
SEEN, ZERO_SHOT = 130, 60
TEST_SEEN, TEST_ZERO_SHOT = 500, 300  # annotated relations
WEB_QUALITY = 78
EPOCH = (1980, 1, 1, 0, 0, 0)

# Of each predicate: where the object's centre lies from the person's (down, right) and its size (height, width), in
# sixteenths of the person's height, and whether it is drawn in front of the person, behind, or as a frame.
PREDICATES: dict[str, tuple[int, int, int, int, str]] = {
    "left of": (2, 13, 8, 8, "front"),
    "right of": (2, -13, 8, 8, "front"),
    "above": (13, 0, 8, 9, "front"),
    "under": (-13, 0, 6, 10, "front"),
    "on": (9, 0, 6, 14, "front"),
    "holding": (-1, 7, 5, 5, "front"),
    "wearing": (-7, 0, 5, 7, "front"),
    "riding": (5, 0, 9, 15, "front"),
    "carrying": (-4, -6, 7, 7, "front"),
    "facing": (-7, 11, 8, 8, "front"),
    "far from": (-9, -14, 5, 5, "front"),
    "inside": (0, 0, 20, 16, "frame"),
    "behind": (1, 3, 12, 12, "front"),
    "beside": (5, -9, 7, 6, "behind"),
}
OBJECTS = ("ball", "box", "kite", "bench", "plate", "door", "tent", "bike", "clock", "board", "flag", "cart", "tyre", "bag",
           "lamp", "chair")  # fmt: skip

Triplet = tuple[str, str, str]


@dataclass(frozen=True)
class World:
    """All labels: seen ones with numbers of training instances, and labels for which there are none."""

    seen: dict[Triplet, int]
    zero_shot: list[Triplet]


@dataclass(frozen=True)
class Scene:
    """An image: who is in it, and predicate, object and whether that label is zero-shot, of one or two relations."""

    role: str  # train, test or other
    person: str
    relations: list[tuple[Triplet, bool]]


def generator(*names: object) -> numpy.random.RandomState:
    """The stream of one purpose; RandomState's are frozen."""
    return numpy.random.RandomState(derive_seed(SEED, "hcvrd", *names) % 2**32)


def make_all(root: Path) -> dict[str, str]:
    """Write hcvrd/ below root; returns one SHA-256 by folder, as image_samples.digest."""
    contents = files()
    for name, content in contents.items():
        artifacts.write_bytes(root / "hcvrd" / name, content, durable=False)
    return {"hcvrd": digest(contents)}


def files() -> dict[str, bytes]:
    """Contents by path of the whole sample."""
    world = make_world()
    scenes = make_scenes(world)
    numbers = sorted(generator("ids").choice(2_400_000, len(scenes), replace=False) + 1)
    order = generator("shuffle").permutation(len(scenes))
    drawn = {int(number): (scenes[place], *draw(scenes[place], int(number))) for number, place in zip(numbers, order)}
    return annotations(world, drawn) | photographs(drawn) | web(world)


# --- labels ---------------------------------------------------------------------------------------


def make_world() -> World:
    """Random labels (subject, predicate, object), each object with 4 to 8 predicates; all words of zero-shot ones are seen."""
    random, people = generator("world"), list(drawing.PEOPLE)
    pairs = [
        (list(PREDICATES)[p], name)
        for name in OBJECTS
        for p in sorted(random.permutation(len(PREDICATES))[: random.randint(4, 9)])
    ]
    triplets = [(who, *pair) for pair in pairs for who in people]
    triplets = [triplets[i] for i in random.permutation(len(triplets))]
    seen, rest = triplets[:SEEN], triplets[SEEN:]
    words = [set(part) for part in zip(*seen, strict=True)]
    zero_shot = [one for one in rest if all(word in known for word, known in zip(one, words, strict=True))]
    # Zipf and Mandelbrot: three quarters of the labels have fewer than 10 instances, as the publisher's long tail.
    counts = {one: max(1, round(75 * (12 / (12 + rank)) ** 1.5)) for rank, one in enumerate(seen)}
    return World(counts, zero_shot[:ZERO_SHOT])


def make_scenes(world: World) -> list[Scene]:
    """All images: zero-shot relations share them with training relations, with test ones, or have their own."""
    random, scenes = generator("scenes"), []
    labels, weights = list(world.seen), numpy.array(list(world.seen.values()))
    pools = {
        "train": [one for one, count in world.seen.items() for _ in range(count)],
        "test": labels * 2 + [labels[i] for i in numpy.searchsorted(
            weights.cumsum(), random.randint(0, weights.sum(), TEST_SEEN - 2 * len(labels)), side="right")],
        "other": [],
    }  # fmt: skip
    pools = {role: [pool[i] for i in random.permutation(len(pool))] for role, pool in pools.items()}
    for number in range(TEST_ZERO_SHOT):
        one = world.zero_shot[number % len(world.zero_shot)]
        role = ("train", "test", "other")[int(numpy.searchsorted((66, 88), random.randint(100), side="right"))]
        partner = take_partner(pools[role], one)
        role = role if partner else "other"  # the publisher's lists name annotated images only
        scenes.append(Scene(role, one[0], [(one, True)] + ([(partner, False)] if partner else [])))
    for role in ("train", "test"):
        while pools[role]:
            one = pools[role].pop()
            partner = take_partner(pools[role], one) if random.randint(100) < 45 else None
            scenes.append(Scene(role, one[0], [(one, False)] + ([(partner, False)] if partner else [])))
    return scenes


def take_partner(pool: list[Triplet], one: Triplet) -> Triplet | None:
    """Remove and return a label of the same person with another predicate and object; None if there is none."""
    for place in range(len(pool) - 1, -1, -1):
        if pool[place][0] == one[0] and pool[place][1] != one[1] and pool[place][2] != one[2]:
            return pool.pop(place)
    return None


# --- images ---------------------------------------------------------------------------------------


def box_of(one: Triplet, person: Box, random: numpy.random.RandomState, side: int) -> Box:
    """Box of a relation's object about a person's box, cut at the edges of an image."""
    down, right, tall, wide, _ = PREDICATES[one[1]]
    unit, grown = person[2], 16 + random.randint(-2, 3)
    height, width = max(tall * unit * grown // 256, 3), max(wide * unit * grown // 256, 3)
    y = person[0] + person[2] // 2 + down * unit // 16 + random.randint(-2, 3)
    x = person[1] + person[3] // 2 + right * unit // 16 + random.randint(-2, 3)
    top, left = max(int(y - height // 2), 0), max(int(x - width // 2), 0)
    top, left = min(top, side - 3), min(left, side - 3)
    return top, left, int(min(height, side - top)), int(min(width, side - left))


def paint(image: numpy.ndarray, person: Box, kind: str, parts: list[tuple[Triplet, Box]]) -> None:
    """Draw a person and its objects, those behind it first."""
    for front in (False, True):
        if front:
            drawing.draw_person(image, person, kind)
        for one, box in parts:
            place = PREDICATES[one[1]][4]
            if (place == "front") == front:
                drawing.draw_object(image, box, OBJECTS.index(one[2]), place == "frame")


def distract(image: numpy.ndarray, random: numpy.random.RandomState, related: list[Triplet]) -> None:
    """Up to two objects anywhere that nobody annotated, of other classes than those that are."""
    others = [number for number, name in enumerate(OBJECTS) if name not in {one[2] for one in related}]
    for _ in range(random.randint(3)):
        top, left = (random.randint(0, len(image) - 4) for _ in range(2))
        height, width = (random.randint(4, 9) for _ in range(2))
        drawing.draw_object(image, (top, left, height, width), others[random.randint(len(others))])


def draw(scene: Scene, number: int) -> tuple[numpy.ndarray, Box, list[Box]]:
    """(image int64 [CANVAS, CANVAS, 3], the person's box, the objects' boxes) of an image id."""
    random, labels = generator("image", number), [one for one, _ in scene.relations]
    height, width, _ = drawing.PEOPLE[scene.person]
    height += random.randint(-1, 2)
    middle = CANVAS // 2 + random.randint(-4, 5, 2)
    person = (int(middle[0] - height // 2), int(middle[1] - width // 2), int(height), width)
    image = drawing.background(random, CANVAS)
    drawing.clutter(image, random, random.randint(1, 5))
    distract(image, random, labels)
    parts = [(one, box_of(one, person, random, CANVAS)) for one in labels]
    paint(image, person, scene.person, parts)
    drawing.clutter(image, random, random.randint(0, 3))
    return drawing.tinted(image, random, 40), person, [box for _, box in parts]


def web_image(one: Triplet, random: numpy.random.RandomState) -> tuple[numpy.ndarray, Box]:
    """(image int64 [TILE, TILE, 3], box of the pair) of what a search engine might find: larger, cluttered, other colours."""
    height, width, _ = drawing.PEOPLE[one[0]]
    height = height + 1 + random.randint(0, 3)
    middle = TILE // 2 + random.randint(-3, 4, 2)
    down, right = PREDICATES[one[1]][:2]  # the pair's middle, not the person's, is near the middle
    top = int(numpy.clip(middle[0] - height // 2 - down * height // 32, 0, TILE - height))
    left = int(numpy.clip(middle[1] - width // 2 - right * height // 32, 0, TILE - width))
    person = (top, left, int(height), width)
    image = drawing.background(random, TILE)
    drawing.clutter(image, random, random.randint(8, 15))
    distract(image, random, [one])
    box = box_of(one, person, random, TILE)
    paint(image, person, one[0], [(one, box)])
    drawing.clutter(image, random, random.randint(0, 3))
    start = [min(person[i], box[i]) for i in (0, 1)]
    stop = [max(person[i] + person[i + 2], box[i] + box[i + 2]) for i in (0, 1)]
    return drawing.tinted(image, random, 70), (*start, stop[0] - start[0], stop[1] - start[1])


def spoiled(one: Triplet, labels: list[Triplet], random: numpy.random.RandomState) -> Triplet:
    """Another triplet that a query found: one with the same object half of the time."""
    others = [label for label in labels if label != one]
    near = [label for label in others if label[2] == one[2]]
    pool = near if near and random.randint(2) else others
    return pool[random.randint(len(pool))]


# --- files ----------------------------------------------------------------------------------------

Drawn = dict[int, tuple[Scene, numpy.ndarray, Box, list[Box]]]


def annotations(world: World, drawn: Drawn) -> dict[str, bytes]:
    """The publisher's five files; lists of ids are sorted as text and lack the last newline, as the publisher's."""
    from stages.prepare.sensor_samples import matlab

    tables: dict[bool, dict[str, list]] = {False: {}, True: {}}
    for number, (scene, _, person, boxes) in drawn.items():
        for (one, unseen), box in zip(scene.relations, boxes, strict=True):
            entry = {"predicate": one[1], "object": one[2], "sub_box": person, "obj_box": box, "subject": one[0]}
            tables[unseen].setdefault(str(number), []).append(entry)
    found = {"final_data.json": json.dumps(tables[False]).encode(), "zeroshot_data.json": json.dumps(tables[True]).encode()}
    for role in ("train", "test"):
        names = sorted(f"{number}.jpg" for number, (scene, *_) in drawn.items() if scene.role == role)
        found[f"{role}.txt"] = "\n".join(names).encode()
    tail = [place for place, one in enumerate(sorted(world.seen)) if world.seen[one] < 10]
    found["long_tail_indexes.mat"] = matlab({"long_tail": numpy.array([tail], dtype=numpy.int64)})
    return found


def photographs(drawn: Drawn) -> dict[str, bytes]:
    """Visual Genome's two archives."""
    folders: dict[str, dict[str, bytes]] = {"VG_100K": {}, "VG_100K_2": {}}
    for number, (_, image, *_) in drawn.items():
        folder = "VG_100K_2" if number % 2 else "VG_100K"
        folders[folder][f"{folder}/{number}.jpg"] = drawing.encode(image)
    return {"images.zip": archive(folders["VG_100K"]), "images2.zip": archive(folders["VG_100K_2"])}


def web(world: World) -> dict[str, bytes]:
    """A sheet of web images for the query of every label, and what they show."""
    labels = sorted([*world.seen, *world.zero_shot])
    contents, lines = {}, ["query,place,subject,predicate,object,y,x,h,w"]
    for one in labels:
        random, query = generator("web", *one), " ".join(one)
        sheet = numpy.zeros((SHEET[0] * TILE, SHEET[1] * TILE, 3), dtype=numpy.int64)
        for place in range(SHEET[0] * SHEET[1]):
            shown = spoiled(one, labels, random) if random.randint(100) < 100 * NOISE else one
            image, box = web_image(shown, random)
            row, column = divmod(place, SHEET[1])
            sheet[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE] = image
            lines.append(f"{query},{place},{','.join(shown)},{','.join(map(str, box))}")
        contents[f"{query}.jpg"] = drawing.encode(sheet, WEB_QUALITY)
    return {"web.zip": archive(contents | {"truth.csv": "".join(f"{line}\n" for line in lines).encode()})}


def archive(contents: dict[str, bytes]) -> bytes:
    """A zip without compression and with fixed times."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as made:
        for name, content in contents.items():
            made.writestr(zipfile.ZipInfo(name, EPOCH), content)
    return buffer.getvalue()
