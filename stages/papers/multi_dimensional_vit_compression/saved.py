"""What the search stage left: policies with the units that stay, checked before they are used."""

from typing import TYPE_CHECKING, Any

import torch

from stages.lib import artifacts, files
from stages.lib.data import Split
from stages.lib.errors import StageError
from stages.lib.vit.net import VisionTransformer
from stages.papers.multi_dimensional_vit_compression import experiment
from stages.papers.multi_dimensional_vit_compression.arms import ARMS

if TYPE_CHECKING:
    from stages.papers.multi_dimensional_vit_compression.settings import SearchConfig


def policies(scale: str, dataset: str, seed: int, repeats: int) -> list[dict[str, Any]]:
    """Records of all arms, for each repetition of a matrix seed. Raises StageError for damaged or other files."""
    folder = experiment.folder_of("search", scale, dataset, seed)
    artifacts.verify_manifest(folder / "manifest.json")
    path, wanted = folder / "policies.json", files.repetitions(seed, repeats)
    listed = artifacts.read_json(path)["repetitions"]
    if [one["seed"] for one in listed] != wanted or any(one["arms"].keys() != ARMS.keys() for one in listed):
        raise StageError(f"{path}: expected a policy of each arm for the repetitions {wanted}; run the search stage again")
    return [{name: one["arms"][name] for name in ARMS} for one in listed]


def dense(cfg: "SearchConfig", split: Split, device: torch.device) -> list[VisionTransformer]:
    """The dense net of each repetition. Raises StageError for damaged or other files."""
    folder = experiment.folder_of("dense", cfg.scale, cfg.dataset, cfg.seed)
    artifacts.verify_manifest(folder / "manifest.json")
    paths = [files.weights(folder, "dense", one, cfg.repeats) for one in files.repetitions(cfg.seed, cfg.repeats)]
    return [experiment.load_dense(path, cfg.train, split, device) for path in paths]


def places(cfg: "SearchConfig") -> list[torch.Tensor]:
    """Scores of the tokens' places of each repetition."""
    path = experiment.folder_of("search", cfg.scale, cfg.dataset, cfg.seed) / "places.npz"
    names = [f"places_{one}" for one in files.repetitions(cfg.seed, cfg.repeats)]
    return [torch.from_numpy(array) for array in artifacts.read_npz(path, *names)]


def layer_rows(dataset: str, arm: str, repetition: int, found: dict[str, Any], record: dict[str, Any]) -> list[dict]:
    """One row for each block's heads and one for its neurons, beside those of the dense net's record."""
    sites = [
        {"site": f"block{i}.{what}", "channels": record[key], "kept": kept}
        for what, key in (("heads", "heads"), ("neurons", "hidden"))
        for i, kept in enumerate(found["kept"][what], 1)
    ]
    return files.layer_rows(dataset, arm, repetition, sites)
