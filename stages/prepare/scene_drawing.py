"""Drawing persons, objects and clutter into small images: whole numbers only, so that every machine draws the same pixels.

An image is uint8 [H, W, 3]; a box is (y, x, h, w) in pixels, as the publisher of HCVRD writes boxes.
"""

from __future__ import annotations

import functools

import numpy

Box = tuple[int, int, int, int]

SKIN = (224, 188, 150)
# Height and width in pixels, and the colour of the clothes
PEOPLE = {"man": (17, 8, (40, 60, 150)), "woman": (15, 8, (170, 40, 110)), "child": (11, 6, (60, 150, 60))}
SHAPES = ("disc", "square", "triangle", "cross")
COLOURS = ((200, 50, 40), (230, 190, 40), (30, 150, 160), (120, 80, 40))


def object_style(number: int) -> tuple[str, tuple[int, int, int]]:
    """Shape and colour of an object class 0..15; no two classes share both."""
    return SHAPES[number % 4], COLOURS[number // 4 % 4]


def background(random: numpy.random.RandomState, side: int) -> numpy.ndarray:
    """A dull wall and floor with noise, int64 [side, side, 3]."""
    image = numpy.empty((side, side, 3), dtype=numpy.int64)
    image[:] = random.randint(110, 190, 3)
    image[random.randint(side // 2, side) :] = random.randint(80, 160, 3)
    return image + random.randint(-10, 11, (side, side, 1))


def fill(image: numpy.ndarray, box: Box, mask: numpy.ndarray, colour: object) -> None:
    """Paint the pixels of a mask bool [h, w] of a box, as far as it lies inside the image."""
    top, left, height, width = box
    rows = slice(max(top, 0), min(top + height, image.shape[0]))
    columns = slice(max(left, 0), min(left + width, image.shape[1]))
    seen = mask[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    image[rows, columns][seen] = colour


def grid(height: int, width: int) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Twice the distances of pixel centres from the middle of a box, row and column [h, w]."""
    rows, columns = numpy.mgrid[:height, :width]
    return 2 * rows + 1 - height, 2 * columns + 1 - width


@functools.cache
def shape_mask(shape: str, height: int, width: int) -> numpy.ndarray:
    """Pixels of a shape that fills its box, bool [h, w]; the same array for the same box, not to be written to."""
    y, x = grid(height, width)
    if shape == "disc":
        return (y * width) ** 2 + (x * height) ** 2 <= (height * width) ** 2
    if shape == "triangle":
        return abs(x) * 2 * height <= (y + height) * width
    if shape == "cross":
        return (abs(x) * 3 <= width) | (abs(y) * 3 <= height)
    return numpy.ones((height, width), dtype=bool)


def draw_object(image: numpy.ndarray, box: Box, number: int, frame: bool = False) -> None:
    """Draw an object class; a frame leaves its inside open."""
    shape, colour = object_style(number)
    mask = shape_mask(shape, box[2], box[3])
    if frame:
        y, x = grid(box[2], box[3])
        mask = mask & ((abs(y) * 4 > 3 * box[2]) | (abs(x) * 4 > 3 * box[3]))
    fill(image, box, mask, colour)


def draw_person(image: numpy.ndarray, box: Box, kind: str) -> None:
    """A figure: head, body in its kind's colour, arms and legs; a woman has a skirt, a child is small."""
    top, left, height, width = box
    head = max(height // 4, 2)
    middle = left + width // 2
    fill(image, (top, middle - head // 2 - 1, head, head + 1), shape_mask("disc", head, head + 1), SKIN)
    trunk = height * 2 // 5
    fill(image, (top + head, left, 2, width), numpy.ones((2, width), dtype=bool), SKIN)
    clothes = "triangle" if kind == "woman" else "square"
    broad = max(width - 2, 3) if kind == "woman" else max(width // 2, 2)
    fill(image, (top + head, middle - broad // 2, trunk, broad), shape_mask(clothes, trunk, broad), PEOPLE[kind][2])
    legs = height - head - trunk
    for place in (middle - max(width // 4, 1), middle + max(width // 4, 1) - 1):
        fill(image, (top + head + trunk, place, legs, 1), numpy.ones((legs, 1), dtype=bool), (50, 50, 60))


def clutter(image: numpy.ndarray, random: numpy.random.RandomState, count: int) -> None:
    """So many patches of any shape, size and colour, anywhere."""
    side = len(image)
    # One draw for all of them, taken apart by remainders: a call of randint for each number takes most of the time.
    spans = numpy.array([6, 6, side, side, len(SHAPES), 216, 216, 216])
    drawn = random.randint(0, 2**30, (count, len(spans))) % spans + (3, 3, -2, -2, 0, 20, 20, 20)
    for height, width, top, left, shape, *colour in drawn.tolist():
        fill(image, (top, left, height, width), shape_mask(SHAPES[shape], height, width), colour)


def tinted(image: numpy.ndarray, random: numpy.random.RandomState, spread: int) -> numpy.ndarray:
    """Another palette, int64 as the image: each channel's gain is moved by up to spread/256, its offset by up to spread/8."""
    gain = 256 + random.randint(-spread, spread + 1, 3)
    return (image * gain >> 8) + random.randint(-spread // 8, spread // 8 + 1, 3)


def encode(image: numpy.ndarray, quality: int = 88) -> bytes:
    """A JPEG file of int64 or uint8 [H, W, 3] with full colour resolution."""
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(numpy.clip(image, 0, 255).astype(numpy.uint8)).save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()
