"""From prepared images to trained nets, and from those to the policy and the orders of every arm."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from stages.lib import artifacts, data, files, training
from stages.lib.data import Split
from stages.lib.errors import StageError
from stages.lib.runtime import derive_seed, seed_everything
from stages.lib.vit.net import VisionTransformer, vit
from stages.papers.multi_dimensional_vit_compression import images, ranking, searching
from stages.papers.multi_dimensional_vit_compression import space as spaces
from stages.papers.multi_dimensional_vit_compression.arms import ARMS, Arm
from stages.papers.multi_dimensional_vit_compression.cost import Shape
from stages.papers.multi_dimensional_vit_compression.gated import Gated, dense_shape
from stages.papers.multi_dimensional_vit_compression.ranking import Order
from stages.papers.multi_dimensional_vit_compression.searching import Trial
from stages.papers.multi_dimensional_vit_compression.space import Policy, Space

if TYPE_CHECKING:
    from stages.papers.multi_dimensional_vit_compression.settings import Compress, Search, Train

ROOT = files.RUNS / "multi_dimensional_vit_compression"
BATCH = 50  # images of a candidate's pass: attention maps of more leave the cache


def folder_of(what: str, scale: str, dataset: str, seed: int) -> Path:
    """Where a stage leaves its files: dense, search or finetune."""
    return ROOT / what / scale / dataset / str(seed)


def training_images(dataset: str, settings: "Train") -> tuple[Split, Split]:
    """(images to train on, held-out images for the search), on the canvas."""
    parts = images.divide(data.pixels(dataset, "train"), settings.images.held_out)
    return tuple(images.placed(part, settings.images, name) for part, name in zip(parts, ("train", "held_out"), strict=True))


def record_of(settings: "Train", split: Split) -> dict[str, Any]:
    """The checked record of the dense net for these images."""
    net = settings.net
    return vit(split.x.shape[1:], len(split.classes), patch=net.patch, embed=net.embed, depth=net.depth, heads=net.heads,
               hidden=net.hidden)  # fmt: skip


def fresh(settings: "Train", split: Split, repetition: int) -> VisionTransformer:
    """The dense net with the repetition's random weights."""
    record = record_of(settings, split)
    seed_everything(derive_seed(repetition, "init"))
    return VisionTransformer(record, settings.net.drop_path, settings.net.deviation)


def load_dense(path: Path, settings: "Train", split: Split, device: torch.device) -> VisionTransformer:
    """A trained dense net in eval mode. Raises StageError where the file belongs to another one."""
    tensors, record = artifacts.load_tensors(path)
    if record != record_of(settings, split):
        raise StageError(f"{path}: holds another net than the params file describes; run the training stage again")
    net = VisionTransformer(record)
    net.load_state_dict(tensors)
    return net.to(device).eval()


class Evaluator:
    """Scores a policy: accuracy on held-out training images of the gated net with the dense net's weights.

    A policy that another search has scored is not computed again; it counts as evaluated there too.
    """

    def __init__(self, gated: Gated, order: Order, held_out: Split, device: torch.device) -> None:
        self.gated, self.order, self.held_out, self.device = gated, order, held_out, device
        self.known: dict[Policy, float] = {}

    def __call__(self, found: Policy) -> float:
        """Share of the held-out images that are classified rightly."""
        if found not in self.known:
            self.gated.set(self.order.kept(found), found.sparsity)
            self.known[found] = training.evaluate(self.gated, self.held_out, self.device, BATCH)
        return self.known[found]


@dataclass(frozen=True)
class Found:
    """One arm's policy, the order of its heads and neurons, and the policies that were scored on the way."""

    policy: Policy
    order: Order
    trials: list[Trial]

    def record(self) -> dict[str, Any]:
        """As plain JSON values."""
        kept = self.order.kept(self.policy)
        return {
            "policy": self.policy.record(),
            "kept": {"heads": [list(one) for one in kept.heads], "neurons": [list(one) for one in kept.neurons]},
            "trials": [trial.record() for trial in self.trials],
        }


def find_all(
    net: VisionTransformer, ranked_on: Split, held_out: Split, settings: "Compress", repetition: int, device: torch.device
) -> dict[str, Found]:
    """Every arm's policy. `ranked_on` are the images of the ranking, `held_out` those that candidates are scored on."""
    options = settings.search
    shape = dense_shape(net.record(), options.reduce)
    seen = ranked_on.x[: settings.ranking.batch].to(device)
    orders = ranking.orders(net, seen, settings.ranking, repetition)
    gated, found = Gated(net, options.reduce), {}
    scores = {name: Evaluator(gated, order, held_out, device) for name, order in orders.items()}
    for name, arm in ARMS.items():
        trials = search_arm(arm, shape, options, scores[arm.criterion], repetition)
        policy = searching.best(trials).policy if trials else unsearched(arm, shape, options, found)
        found[name] = Found(policy, orders[arm.criterion], trials)
    return found


def space_of(arm: Arm, shape: Shape, options: "Search") -> Space:
    """The policies that an arm may choose from. Raises StageError where its budget is out of reach."""
    return spaces.make(shape, options, options.tight if arm.tight else options.budget, arm.dimensions)


def search_arm(arm: Arm, shape: Shape, options: "Search", score: Evaluator, repetition: int) -> list[Trial]:
    """The scored policies of an arm, none where it does not search. Arms of one space begin with the same ones."""
    if not arm.searched:
        return []
    seed = derive_seed(repetition, *arm.dimensions)
    return searching.search(space_of(arm, shape, options), score, options, seed, arm.choice == "guided")


def unsearched(arm: Arm, shape: Shape, options: "Search", found: dict[str, Found]) -> Policy:
    """The policy of an arm without a search of its own."""
    if arm.choice == "dense":
        return spaces.dense(shape)
    if arm.choice == "as_tight":
        return found["tight"].policy
    if arm.choice == "first":
        return found["joint"].trials[0].policy  # a random one of the budget's FLOPs
    space = space_of(arm, shape, options)
    return space.policy(spaces.uniform(space))


def label_places(net: VisionTransformer, ranked_on: Split, settings: "Compress", device: torch.device) -> torch.Tensor:
    """Dependence of the label on each place, for the token score hsic_x_attention."""
    part = ranked_on.to(device)
    return ranking.places(net, part.x, part.y, tuple(settings.search.reduce), settings.ranking).cpu()
