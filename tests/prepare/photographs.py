"""What the tests of the photograph sets share: small files in the publishers' layouts, and running a stage."""

from __future__ import annotations

import io
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy
import pytest
from PIL import Image

from stages.lib import artifacts

ROOT = Path(__file__).parents[2]
SHARED = ROOT / "../shared/data"


def project(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root with params, as the working folder."""
    shutil.copytree(ROOT / "params/dataset", folder / "params/dataset")
    shutil.copy(ROOT / "params/config.yaml", folder / "params/config.yaml")
    monkeypatch.chdir(folder)
    return folder


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def photo(seed: int, height: int = 100, width: int = 120, mode: str = "RGB") -> bytes:
    """A PNG file of smooth noise."""
    pixels = numpy.random.RandomState(seed).randint(0, 256, (5, 5, 3)).astype(numpy.uint8)
    return encoded(Image.fromarray(pixels).resize((width, height)).convert(mode))


def encoded(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def decoded(content: bytes) -> numpy.ndarray:
    return numpy.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def see_through(alpha: int) -> bytes:
    """A PNG file with an alpha channel of one value."""
    image = Image.open(io.BytesIO(photo(1, mode="RGBA")))
    image.putalpha(alpha)
    return encoded(image)


def deep(colour: int = 2) -> bytes:
    """A PNG file of 16 bits a channel, in colour (2) or grey (0), which Pillow does not write."""
    height, width = 100, 120
    line = b"\0" + bytes(width * (6 if colour == 2 else 2))
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)), (b"IDAT", zlib.compress(line * height)),
             (b"IEND", b"")]  # fmt: skip
    body = b"".join(struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in parts)
    return b"\x89PNG\r\n\x1a\n" + body


def fails(stage: Any, dataset: str, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a stage that must end with one line on stderr and no manifest; returns the line."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        stage.main(list(arguments))
    err = capsys.readouterr().err
    assert end.value.code == 1
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert not Path(f"runs/prepare/{dataset}/manifest.json").exists()
    return err


def manifest(dataset: str) -> dict[str, Any]:
    return artifacts.verify_manifest(f"runs/prepare/{dataset}/manifest.json")


def contents(folder: str | Path) -> dict[str, bytes]:
    return {item.name: item.read_bytes() for item in Path(folder).iterdir()}
