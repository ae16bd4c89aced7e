"""From photographs to the figures of every arm: which net starts from what, its fine-tuning to each target, its scores."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from stages.lib import artifacts, files
from stages.lib.errors import StageError
from stages.lib.restoration import sets
from stages.lib.restoration.patches import PairedPatches
from stages.lib.runtime import derive_seed, seed_everything
from stages.papers.ipt import inference, photographs
from stages.papers.ipt.arms import Arm
from stages.papers.ipt.network import IPT, MultiTask, reduced
from stages.papers.ipt.pairs import Drawer, Paired, Synthesis
from stages.papers.ipt.peers import ConvolutionalPeer
from stages.papers.ipt.tasks import Task, task

if TYPE_CHECKING:
    from stages.papers.ipt.settings import Finetune, Measurement, Net, Peers, Pretrain, Recipe, Target

Images = list[tuple[str, Tensor, Tensor]]  # (name, corrupted, clean)


# --- nets -----------------------------------------------------------------------------------------


def build(arm: Arm, tasks: Sequence[str], net: "Net", peers: "Peers") -> MultiTask:
    """The transformer or EDSR with heads and tails for these tasks, at random weights."""
    if arm.net == "ipt":
        return IPT(tasks, net)
    # EDSR's head is one convolution; all other settings are the transformer's.
    return ConvolutionalPeer(tasks, dataclasses.replace(net, features=peers.features, head_blocks=0), peers.blocks)


def fresh(arm: Arm, tasks: Sequence[str], net: "Net", peers: "Peers", repetition: int) -> MultiTask:
    """The net of several tasks with the repetition's random weights, which arms from scratch start from too."""
    seed_everything(derive_seed(repetition, "init"))
    return build(arm, tasks, net, peers)


def one_task(
    arm: Arm, target: "Target", tensors: dict[str, Tensor], trained: Sequence[str], net: "Net", peers: "Peers"
) -> MultiTask:
    """The net of a target, cut out of the tensors of several tasks.

    Head, tail and query are those of `target.start` if it was trained. Otherwise head and query are those of the first
    task that was, and so is the tail if its scale fits.
    """
    start = target.start if target.start in trained else trained[0]
    tail = start if task(start).scale == task(target.task).scale else target.start
    found = build(arm, [target.task], net, peers)
    found.load_state_dict(reduced(tensors, target.task, start, tail))
    return found


def trained_tasks(arm: Arm, pretrain: "Pretrain") -> list[str]:
    """The tasks that an arm's pre-training trains."""
    return list(pretrain.tasks) if arm.tasks == "all" else [pretrain.single]


def rate(arm: Arm, recipe: "Recipe") -> float:
    """The learning rate of an arm's kind of net."""
    return recipe.lr if arm.net == "ipt" else recipe.lr_cnn


def pretrained_folder(scale: str, arm: str, seed: int) -> Path:
    """Where the pre-training stage leaves a net."""
    return files.RUNS / "ipt" / "pretrain" / scale / arm / str(seed)


def record(arm: Arm, tasks: Sequence[str], net: "Net", peers: "Peers") -> dict:
    """What a saved net is: kind, tasks and settings, as plain JSON values."""
    return {"kind": arm.net, "tasks": list(tasks), "net": dataclasses.asdict(net), "peers": dataclasses.asdict(peers)}


def load(path: Path, expected: dict) -> dict[str, Tensor]:
    """The tensors of a saved net. StageError where it is another one than the params file describes."""
    tensors, found = artifacts.load_tensors(path)
    if found != expected:
        raise StageError(f"{path}: holds another net than the params file describes; run its stage again")
    return tensors


# --- what they are trained on ---------------------------------------------------------------------


def check_disjoint(pretrain: "Pretrain", finetune: "Finetune") -> None:
    """StageError if a photograph or a layer of rain serves both trainings: the comparison would not be one of transfer.

    With ImageNet's photographs the rain is shared, as in the paper.
    """
    if pretrain.source == photographs.IMAGENET:
        return
    for name in ("photographs", "rain"):
        one, two = getattr(pretrain, name), getattr(finetune, name)
        shared = sorted(set(one) & set(two))
        if shared or not (one and two):
            told = f"{', '.join(shared)} in both" if shared else "all of them in one"
            raise StageError(f"pretrain.{name} and finetune.{name}: {told}; expected different ones")


def pretraining_batches(pretrain: "Pretrain", tasks: Sequence[str], side: int, repetition: int) -> Drawer:
    """Batches that draw one of the tasks at each step."""
    pool = photographs.pretraining(pretrain.source, pretrain.photographs)
    streaks = photographs.named(sets.load(photographs.RAIN, "train"), pretrain.rain, sets.STREAKS)
    return Synthesis(pool, streaks, tasks, side, derive_seed(repetition, "pretrain"))


def finetuning_batches(finetune: "Finetune", name: str, side: int, repetition: int) -> Drawer:
    """Batches of one task from the target set's own pairs, or with noise made on the fly."""
    wanted, seed = task(name), derive_seed(repetition, "finetune", name)
    if wanted.kind == "derain":
        rain = sets.load(photographs.RAIN, "train")
        return Paired(PairedPatches(photographs.pairs_of(rain, rain.rainy_pairs(), finetune.rain), side), name, seed)
    clean = sets.load(photographs.PHOTOGRAPHS, "train")
    if wanted.kind == "denoise":
        return Synthesis(photographs.named(clean, finetune.photographs, sets.CLEAN), (), [name], side, seed)
    pairs = photographs.pairs_of(clean, clean.scaled_pairs(wanted.scale), finetune.photographs)
    return Paired(PairedPatches(pairs, side), name, seed)


def target_recipe(arm: Arm, pretrain: "Pretrain", finetune: "Finetune") -> "Recipe":
    """The recipe of an arm on each target: fine-tuning's, with the rates of training from scratch where it starts there.

    A long one has as many more steps as one target's share of a pre-training, so that totals are equal.
    """
    recipe = finetune.recipe
    if arm.tasks is None:
        recipe = dataclasses.replace(recipe, lr=finetune.scratch_lr, lr_cnn=finetune.scratch_lr_cnn)
    more = math.ceil(pretrain.recipe.steps * pretrain.recipe.batch / recipe.batch / len(finetune.targets))
    return dataclasses.replace(recipe, steps=recipe.steps + more) if arm.long else recipe


# --- measuring ------------------------------------------------------------------------------------


def test_images(name: str, split: str, options: "Measurement") -> Images:
    """Corrupted and clean images of a task: the benchmarks' (rain's) of the test split, or of the validation split."""
    wanted = task(name)
    if wanted.kind == "derain":
        return inference.opened(sets.load(photographs.RAIN, split).rainy_pairs(), options.crop)
    held = sets.load(photographs.BENCHMARKS if split == "test" else photographs.PHOTOGRAPHS, split)
    if wanted.kind == "denoise":
        return inference.corrupted_copies(held.photographs(), wanted, options.crop)
    return inference.opened(held.scaled_pairs(wanted.scale), options.crop)


def dataset_of(name: str) -> str:
    """The data set under which a task's figures are reported."""
    return photographs.RAIN if task(name).kind == "derain" else photographs.BENCHMARKS


def restored_images(net: nn.Module, images: Images, wanted: Task, options: "Measurement", device: torch.device) -> list[Tensor]:
    """Every image through the net, on the CPU."""
    return [inference.restore(net, corrupted.to(device), wanted, options).cpu() for _, corrupted, _ in images]


def scores(restored: Sequence[Tensor], images: Images, wanted: Task) -> dict[str, float]:
    """PSNR and SSIM of restored images."""
    return inference.score([(one, clean) for one, (_, _, clean) in zip(restored, images, strict=True)], wanted)


def inputs(images: Images, wanted: Task) -> list[Tensor]:
    """The corrupted images themselves, as large as the clean ones."""
    return [inference.as_input(corrupted, wanted) for _, corrupted, _ in images]
