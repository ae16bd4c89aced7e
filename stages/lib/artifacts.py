"""Files that stages write and read: atomic, the same bytes for the same content, no pickles.

Every write goes to a temporary name in the same folder, is flushed to disk and then renamed, so that a
reader sees the old file or the new one. The manifest is written last and holds the SHA-256 of the rest.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.lib import parallel
from stages.lib.errors import StageError, one_line

if TYPE_CHECKING:
    import numpy
    import pandas
    import torch

ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can hold


@contextmanager
def atomic(path: str | Path, durable: bool = True) -> Iterator[Path]:
    """Give a temporary path; rename it to `path` if the block ends well, remove it otherwise.

    durable=False leaves out the flush to disk (scratch files). Of several processes (stages/lib/parallel.py) the first one's
    file is kept, and none goes on before it is there, scratch files apart. Raises StageError if the disk refuses.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{parallel.rank()}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if parallel.rank() == 0:
            _keep(temporary, path, durable)
        if durable:
            parallel.barrier()
    except OSError as error:
        reason = error.strerror or error
        raise StageError(f"{path}: cannot be written: {reason}; nothing half-written was kept") from error
    finally:
        with suppress(OSError):  # mostly it is gone by now; failing to remove it must not hide the first error
            temporary.unlink()


def _keep(temporary: Path, path: Path, durable: bool) -> None:
    if durable:
        _flush(temporary)
    os.replace(temporary, path)
    if durable:
        _flush(path.parent)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(path: str | Path, content: bytes, durable: bool = True) -> None:
    """Write bytes atomically."""
    with atomic(path, durable) as temporary:
        temporary.write_bytes(content)


def read_bytes(path: str | Path) -> bytes:
    """All bytes of a file. Raises StageError if it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise StageError(f"{path}: cannot be read: {error.strerror}; run the stage that makes it") from error


def sha256(path: str | Path) -> str:
    """Hex SHA-256 of a file, read in blocks."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as handle:
            while block := handle.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise StageError(f"{path}: cannot be read: {error.strerror}; run the stage that makes it") from error
    return digest.hexdigest()


# --- JSON and tables ------------------------------------------------------------------------------


def json_text(obj: Any) -> str:
    """Sorted keys, floats by repr (17 digits decide them), one newline at the end. NaN is a StageError."""
    try:
        return json.dumps(obj, sort_keys=True, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    except (ValueError, TypeError) as error:
        raise StageError(f"a result cannot be written as JSON: {error}; NaN and infinity are refused") from error


def write_json(path: str | Path, obj: Any) -> None:
    """Write as JSON. Raises StageError for NaN, infinity or what JSON cannot hold."""
    write_bytes(path, json_text(obj).encode())


def read_json(path: str | Path) -> Any:
    """Read JSON. Raises StageError for a missing, truncated or foreign file."""
    try:
        return json.loads(read_bytes(path))
    except (ValueError, UnicodeDecodeError) as error:
        raise StageError(f"{path}: not JSON ({one_line(error)}); run the stage that makes it again") from error


def write_csv(path: str | Path, table: pandas.DataFrame | Sequence[Mapping[str, Any]]) -> None:
    """Write a data frame (without its index) or a list of rows with the same keys; floats by repr."""
    if hasattr(table, "to_csv"):
        text = table.to_csv(index=False, lineterminator="\n")
    else:
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, fieldnames=list(table[0]) if table else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
        text = buffer.getvalue()
    write_bytes(path, text.encode())


# --- arrays ---------------------------------------------------------------------------------------


def write_npz(path: str | Path, **arrays: numpy.ndarray) -> None:
    """Write arrays as an uncompressed npz with fixed times, so that equal arrays give equal bytes.

    Compression is left out because its bytes depend on the zlib build; sizes are known before an entry's header is written,
    which differs between Python's releases otherwise. Raises StageError for object arrays.
    """
    import numpy

    with atomic(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            array = numpy.ascontiguousarray(arrays[name])
            if array.dtype.hasobject:
                raise StageError(f"{path}: {name} holds Python objects; expected numbers")
            entry = zipfile.ZipInfo(f"{name}.npy", ZIP_EPOCH)
            entry.external_attr = 0o644 << 16
            content = io.BytesIO()
            numpy.lib.format.write_array(content, array, version=(1, 0), allow_pickle=False)
            archive.writestr(entry, content.getbuffer())


def read_npz(path: str | Path, *names: str) -> tuple[numpy.ndarray, ...]:
    """The named arrays of an npz. Raises StageError for a missing, truncated or foreign file."""
    import numpy

    try:
        with numpy.load(path, allow_pickle=False) as archive:
            return tuple(archive[name] for name in names)
    except KeyError as error:
        raise StageError(f"{path}: has no array {error}; run the stage that makes it again") from error
    except OSError as error:
        raise StageError(f"{path}: cannot be read: {error.strerror or error}; run the stage that makes it") from error
    except (ValueError, EOFError, zipfile.BadZipFile, zipfile.LargeZipFile) as error:
        raise StageError(f"{path}: not an intact npz file ({one_line(error)}); run its stage again") from error


# --- models ---------------------------------------------------------------------------------------


def save_tensors(path: str | Path, tensors: Mapping[str, torch.Tensor], architecture: Any) -> None:
    """Write tensors as safetensors; the JSON of `architecture` is the file's one metadata key.

    One key only: with several, safetensors writes them in an order that varies between runs.
    """
    from safetensors.torch import save

    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise StageError(f"{path}: {name} holds NaN or infinity; training has diverged, lower the learning rate")
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    record = json.dumps(architecture, sort_keys=True, allow_nan=False)
    write_bytes(path, save(plain, metadata={"architecture": record}))


def load_tensors(path: str | Path) -> tuple[dict[str, torch.Tensor], Any]:
    """(tensors by name, architecture) of a file of save_tensors. Raises StageError if it is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as archive:
            record = json.loads((archive.metadata() or {})["architecture"])
            tensors = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118  not a dict
    except OSError as error:
        raise StageError(f"{path}: cannot be read: {error.strerror or error}; run the stage that makes it") from error
    except KeyError as error:
        raise StageError(f"{path}: has no record of its architecture; expected a file that a stage wrote") from error
    except (SafetensorError, ValueError) as error:
        raise StageError(f"{path}: not an intact safetensors file ({one_line(error)}); run its stage again") from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise StageError(f"{path}: {name} holds NaN or infinity; run the stage that makes it again")
    return tensors, record


# --- manifests ------------------------------------------------------------------------------------


def write_manifest(
    path: str | Path,
    *,
    outputs: Sequence[str | Path],
    inputs: Sequence[str | Path] = (),
    config: Any = None,
    **more: Any,
) -> None:
    """Write what was made from what: SHA-256 by path, the Config, and further JSON-able keys.

    Outputs are named relative to the manifest's folder, inputs relative to the root. Write it last.
    """
    folder = Path(path).parent
    content = {
        **more,
        "config": dataclasses.asdict(config) if dataclasses.is_dataclass(config) else config,
        "inputs": {_relative(item, Path.cwd()): sha256(item) for item in inputs},
        "outputs": {_relative(item, folder): sha256(item) for item in outputs},
    }
    write_json(path, content)


def _relative(path: str | Path, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()


def verify_manifest(path: str | Path) -> dict[str, Any]:
    """Hash the outputs of a manifest again and return it. Raises StageError naming the first that differs."""
    manifest = read_json(path)
    if not isinstance(manifest, dict) or not isinstance(manifest.get("outputs"), dict):
        raise StageError(f"{path}: not a manifest; expected the key outputs")
    for name, expected in manifest["outputs"].items():
        found = sha256(Path(path).parent / name)
        if found != expected:
            raise StageError(
                f"{Path(path).parent / name}: SHA-256 {found[:12]}, expected {str(expected)[:12]}; run its stage again"
            )
    return manifest
