"""Drawing persons, objects and clutter into small images: whole numbers only, so that every machine draws the same pixels.

An image is uint8 [H, W, 3]; a box is (y, x, h, w) in pixels, as the publisher of HCVRD writes boxes.
"""

from __future__ import annotations

import numpy

Box = tuple[int, int, int, int]

SKIN = (224, 188, 150)
# Height and width in pixels, and the colour of the clothes
PEOPLE = {"man": (17, 8, (40, 60, 150)), "woman": (15, 8, (170, 40, 110)), "child": (11, 6, (60, 150, 60))}
SHAPES = ("disc", "square", "triangle", "cross")
COLOURS = ((200, 50, 40), (230, 190, 40), (30, 150, 160), (120, 80, 40))
LOOKS = ("plain", "hollow", "striped", "spotted")


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


def shape_mask(shape: str, height: int, width: int) -> numpy.ndarray:
    """Pixels of a shape that fills its box, bool [h, w]."""
    y, x = grid(height, width)
    if shape == "disc":
        return (y * width) ** 2 + (x * height) ** 2 <= (height * width) ** 2
    if shape == "triangle":
        return abs(x) * 2 * height <= (y + height) * width
    if shape == "cross":
        return (abs(x) * 3 <= width) | (abs(y) * 3 <= height)
    return numpy.ones((height, width), dtype=bool)


def look_mask(look: str, mask: numpy.ndarray) -> numpy.ndarray:
    """What of a shape is painted light instead of in its colour, bool [h, w]."""
    y, x = grid(*mask.shape)
    if look == "hollow":
        return mask & (abs(y) * 2 < mask.shape[0]) & (abs(x) * 2 < mask.shape[1])
    if look == "striped":
        return mask & (numpy.arange(mask.shape[0]) % 4 < 2)[:, None]
    if look == "spotted":
        return mask & (numpy.add.outer(numpy.arange(mask.shape[0]) // 2, numpy.arange(mask.shape[1]) // 2) % 2 == 1)
    return numpy.zeros_like(mask)


def draw_object(image: numpy.ndarray, box: Box, number: int, look: str, frame: bool = False) -> None:
    """Draw an object class; a frame leaves its inside open."""
    shape, colour = object_style(number)
    mask = shape_mask(shape, box[2], box[3])
    if frame:
        y, x = grid(box[2], box[3])
        mask &= (abs(y) * 4 > 3 * box[2]) | (abs(x) * 4 > 3 * box[3])
    fill(image, box, mask, colour)
    fill(image, box, look_mask(look, mask), (240, 240, 235))


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
    for _ in range(count):
        height, width = random.randint(3, 9, 2)
        top, left = random.randint(-2, side - 2, 2)
        mask = shape_mask(SHAPES[random.randint(len(SHAPES))], int(height), int(width))
        fill(image, (int(top), int(left), int(height), int(width)), mask, random.randint(20, 236, 3))


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
