"""The file in which a search leaves its genotypes."""

from pathlib import Path
from typing import Any

from stages.lib import artifacts, files
from stages.lib.darts import Genotype, parse
from stages.lib.errors import StageError


def folder(scale: str, dataset: str, arm: str, seed: int) -> Path:
    """Where an arm's search writes."""
    return files.RUNS / "eoinas" / "search" / scale / dataset / arm / str(seed)


def entry(repetition: int, genotype: Genotype, spent: int, channels: int = 0, **more: Any) -> dict[str, Any]:
    """One repetition's result; `spent`: MACs of forward passes; `channels`: width of the net to train, 0 for the usual."""
    return {"seed": repetition, "genotype": genotype.record(), "spent": spent, "channels": channels, **more}


def write(place: Path, arm: str, entries: list[dict], config: Any, read: list[Path], more: list[Path] | None = None) -> None:
    """search.json and, last, the manifest."""
    artifacts.write_json(place / "search.json", {"arm": arm, "repetitions": entries})
    files.seal(place, [place / "search.json", *(more or [])], read, config)


def load(place: Path, repetitions: list[int]) -> list[dict[str, Any]]:
    """The entries of these repetitions, each with its genotype parsed. StageError for a file that is something else."""
    path = place / "search.json"
    content = artifacts.read_json(path)
    try:
        entries = {item["seed"]: {**item, "genotype": parse(item["genotype"])} for item in content["repetitions"]}
        chosen = [entries[repetition] for repetition in repetitions]
        if not all(isinstance(item[key], int) for item in chosen for key in ("spent", "channels")):
            raise TypeError("spent")
    except (KeyError, TypeError, AttributeError) as error:
        raise StageError(f"{path}: lacks the results of repetitions {repetitions}; run the search again") from error
    except StageError as error:
        raise StageError(f"{path}: {error}; run the search again") from error
    artifacts.verify_manifest(place / "manifest.json")
    return chosen
