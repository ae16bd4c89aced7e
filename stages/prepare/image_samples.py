"""The embedded samples of ImageNet and Tiny ImageNet: pieces of ten photographs, as JPEG files in the publishers' layouts.

The class is the photograph. Training and validation pieces come from disjoint cells of each. The wnids begin with n9,
which WordNet does not use.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy

from stages.lib import artifacts
from stages.lib.runtime import derive_seed
from stages.prepare.samples import Recipe, patches

Photographs = Mapping[str, numpy.ndarray]

SEED = 2009
GRID = (4, 6)  # cells of a photograph in imagenet, one image a cell; every third diagonal is validation
QUALITY = 75
# Files that are not what their name says, as the publisher's set has them: (photograph, number) of training images.
GREY = {("astronaut", 3), ("rocket", 0)}
CMYK = {("coffee", 5)}
PNG = {("chelsea", 2)}
# Tiny ImageNet: images a class; the last ones of train come from cells of their own, which become val
TINY = Recipe(seed=2015, train=96, val=24, test=30, patch=64, cell=72)


def make_all(root: Path, images: Photographs) -> dict[str, str]:
    """Write imagenet/ and tiny_imagenet/tiny-imagenet-200/ below root; returns one SHA-256 by folder.

    It is the SHA-256 over the sorted lines "<sha256>  <path>" of a folder's files.
    """
    files = {"imagenet": imagenet(images), "tiny_imagenet/tiny-imagenet-200": tiny_imagenet(images)}
    for folder, contents in files.items():
        for name, content in contents.items():
            artifacts.write_bytes(root / folder / name, content, durable=False)  # a thousand flushes take seconds
    return {folder: digest(contents) for folder, contents in files.items()}


def digest(contents: Mapping[str, bytes]) -> str:
    """One SHA-256 for files by path."""
    lines = (f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in contents.items())
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def wnids(images: Photographs) -> dict[str, str]:
    """Photograph to wnid, n90000001 onwards."""
    return {name: f"n9{number:07d}" for number, name in enumerate(sorted(images), 1)}


# --- ImageNet -------------------------------------------------------------------------------------


def imagenet(images: Photographs) -> dict[str, bytes]:
    """Contents by path: train/<wnid>/, a flat val/ and the development kit."""
    names, found, val = wnids(images), {}, []
    for photograph, wnid in names.items():
        number = 0
        for row, column, piece in pieces(images[photograph], derive_seed(SEED, photograph)):
            if (row + column) % 3 == 0:
                val.append((wnid, jpeg(piece)))
            else:
                found[f"train/{wnid}/{wnid}_{number}.JPEG"] = _encoded(piece, (photograph, number))
                number += 1
    ids = {wnid: len(names) - place for place, wnid in enumerate(names.values())}  # not in the order of the wnids
    order = numpy.random.RandomState(derive_seed(SEED, "val") % 2**32).permutation(len(val))
    truth = []
    for number, place in enumerate(order, 1):
        wnid, content = val[place]
        found[f"val/ILSVRC2012_val_{number:08d}.JPEG"] = content
        truth.append(f"{ids[wnid]}\n")
    kit = "ILSVRC2012_devkit_t12/data"
    train = {wnid: sum(path.startswith(f"train/{wnid}/") for path in found) for wnid in ids}
    found[f"{kit}/meta.mat"] = meta_mat(ids, {wnid: name for name, wnid in names.items()}, train)
    found[f"{kit}/ILSVRC2012_validation_ground_truth.txt"] = "".join(truth).encode()
    return found


def pieces(image: numpy.ndarray, seed: int) -> list[tuple[int, int, numpy.ndarray]]:
    """(row, column, piece uint8 [h, w, 3]) of every cell of GRID; a piece has 3/4 of the cell's sides or more."""
    random = numpy.random.RandomState(seed % 2**32)
    found = []
    for row in range(GRID[0]):
        for column in range(GRID[1]):
            spans = []
            for place, count, length in ((row, GRID[0], image.shape[0]), (column, GRID[1], image.shape[1])):
                cell = length // count
                size = random.randint(3 * cell // 4, cell + 1)
                start = place * cell + random.randint(0, cell - size + 1)
                spans.append(slice(start, start + size))
            found.append((row, column, image[spans[0], spans[1]]))
    return found


def _encoded(piece: numpy.ndarray, which: tuple[str, int]) -> bytes:
    if which in PNG:
        return png(piece)
    return jpeg(piece, "L" if which in GREY else "CMYK" if which in CMYK else "RGB")


def meta_mat(ids: Mapping[str, int], words: Mapping[str, str], train: Mapping[str, int]) -> bytes:
    """The development kit's meta.mat: the classes, then one synset that is their parent."""
    from scipy.io import savemat

    fields = ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children", "wordnet_height", "num_train_images")
    synsets = numpy.zeros((len(ids) + 1, 1), dtype=[(name, object) for name in fields])
    rows = [
        (float(number), wnid, words[wnid], f"the photograph {words[wnid]}", 0.0, numpy.zeros((1, 0)), 0.0, float(train[wnid]))
        for wnid, number in sorted(ids.items(), key=lambda item: item[1])
    ]
    children = numpy.array([sorted(float(number) for number in ids.values())])
    rows.append((float(len(ids) + 1), "n90000000", "photograph", "any photograph", float(len(ids)), children, 1.0, 0.0))
    for place, row in enumerate(rows):
        synsets[place, 0] = row
    buffer = io.BytesIO()
    savemat(buffer, {"synsets": synsets})
    return b"MATLAB 5.0 MAT-file".ljust(116) + buffer.getvalue()[116:]  # the header's text has the time in it


# --- Tiny ImageNet --------------------------------------------------------------------------------


def tiny_imagenet(images: Photographs) -> dict[str, bytes]:
    """Contents by path below tiny-imagenet-200: wnids.txt, words.txt, train/<wnid>/images/ and a flat val/."""
    names, found, val = wnids(images), {}, []
    for photograph, wnid in names.items():
        drawn = {
            split: patches(images[photograph], split, count, derive_seed(TINY.seed, split, photograph), TINY)
            for split, count in (("train", TINY.train), ("val", TINY.val), ("test", TINY.test))
        }
        for number, patch in enumerate(numpy.concatenate([drawn["train"], drawn["val"]]).transpose(0, 2, 3, 1)):
            mode = "L" if (photograph, number) in GREY else "RGB"
            found[f"train/{wnid}/images/{wnid}_{number}.JPEG"] = jpeg(patch, mode)
        val += [(wnid, jpeg(patch)) for patch in drawn["test"].transpose(0, 2, 3, 1)]
    order = numpy.random.RandomState(derive_seed(TINY.seed, "val") % 2**32).permutation(len(val))
    lines = []
    for number, place in enumerate(order):
        wnid, content = val[place]
        found[f"val/images/val_{number}.JPEG"] = content
        lines.append(f"val_{number}.JPEG\t{wnid}\t0\t0\t63\t63\n")
    found["val/val_annotations.txt"] = "".join(lines).encode()
    found["wnids.txt"] = "".join(f"{wnid}\n" for wnid in reversed(names.values())).encode()
    found["words.txt"] = "".join(f"{wnid}\t{name}\n" for name, wnid in names.items()).encode()
    return found


# --- encoding -------------------------------------------------------------------------------------


def jpeg(pixels: numpy.ndarray, mode: str = "RGB") -> bytes:
    """A JPEG file of uint8 [H, W, 3]; mode L averages to grey, CMYK has no black of its own."""
    from PIL import Image

    buffer = io.BytesIO()
    image = Image.fromarray(numpy.ascontiguousarray(pixels)).convert(mode)
    image.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def png(pixels: numpy.ndarray) -> bytes:
    """A PNG file of uint8 [H, W, 3] or [H, W], not compressed: the bytes of compressed ones depend on the zlib build."""
    height, width = pixels.shape[:2]
    lines = b"".join(b"\0" + line.tobytes() for line in numpy.ascontiguousarray(pixels))
    blocks = [lines[start : start + 65535] for start in range(0, len(lines), 65535)]
    stored = b"".join(
        struct.pack("<BHH", place == len(blocks) - 1, len(block), len(block) ^ 0xFFFF) + block
        for place, block in enumerate(blocks)
    )
    data = b"\x78\x01" + stored + struct.pack(">I", zlib.adler32(lines))
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if pixels.ndim == 3 else 0, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", data), (b"IEND", b"")]
    chunks = (struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
