"""From pre-trained students to the figures of every arm."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stages.lib import artifacts
from stages.lib.data import Split
from stages.lib.runtime import derive_seed, seed_everything
from stages.papers.milan import cost, localisation, sampling, tower, transfer
from stages.papers.milan.arms import ARMS
from stages.papers.milan.encoder import restored
from stages.papers.milan.scenes import NAMES, Scenes, compose, foreground
from stages.papers.milan.tower import Tower

if TYPE_CHECKING:
    from stages.papers.milan.settings import Scenes as Images
    from stages.papers.milan.settings import Student, Transfer


@dataclasses.dataclass(frozen=True)
class Bench:
    """What the students of a repetition are measured on, the same for all arms."""

    labelled: Scenes
    tested: Scenes
    boxes: tuple[Tensor, Tensor]  # which patches lie in the digit's box, bool [N, patches], of both
    importance: Tensor  # [N, patches], of the tested scenes
    teacher: tuple[Tensor, Tensor]  # the language teacher's features [N, T, joint] of both
    student: "Student"
    params: "Transfer"
    repetition: int
    device: torch.device


def bench(
    labelled: Split, tested: Split, teacher: Tower, images: "Images", student: "Student", params: "Transfer", repetition: int,
    device: torch.device,
) -> Bench:  # fmt: skip
    """Compose a repetition's labelled and tested scenes. Raises StageError for too few labels."""
    sets = (
        compose(labelled, params.labels, images, repetition, "labels"),
        compose(tested, params.tested, images, repetition, "tested"),
    )
    transfer.check_labels(sets[0])
    cost.tiles(sets[0].x.shape[1:], student.net.patch)
    boxes = tuple(foreground(one.boxes, images.digit, images.canvas, student.net.patch) for one in sets)
    looks = [teacher.to(device).targets(one.x.to(device), student.average_targets) for one in sets]
    features = tuple(part.cpu() for part, _ in looks)
    return Bench(*sets, boxes, tower.importance(looks[1][1].cpu()), features, student, params, repetition, device)


def measure_teacher(on: Bench) -> dict[str, float]:
    """Figures of the language teacher's own features, and how concentrated its attention is."""
    return {**probes(on, *on.teacher), "attention_entropy": tower.entropy(on.importance)}


def measure(name: str, weights: Path, on: Bench, state: Path) -> dict[str, float]:
    """Figures of an arm's student. Raises StageError where the file holds another encoder."""
    tensors, record = artifacts.load_tensors(weights)
    shape, net = on.tested.x.shape[1:], on.student.net
    encoder = restored(tensors, record, net, shape, str(weights))
    values = probes(on, *(transfer.features(encoder, one.x, on.device) for one in (on.labelled, on.tested)))
    encoder = restored(tensors, record, net, shape, str(weights), on.params.drop_path).train()
    label = f"fine-tune {name} {on.repetition}"
    tuned = transfer.fine_tune(encoder, on.params, on.labelled.labelled(), len(NAMES), on.repetition, on.device, state, label)
    values["fine_tuned"] = transfer.accuracy(tuned, on.tested, on.device)
    if ARMS[name].target not in ("labels", "none"):
        values |= reconstruction(name, on)
    return values


def probes(on: Bench, seen: Tensor, asked: Tensor) -> dict[str, float]:
    """Accuracies of linear probes of the class token and of the mean patch token, and foreground IoU, from tokens [N, T, D]."""
    labels, answers, c = on.labelled.y, on.tested.y, on.params.probe_c
    return {
        "probe_class": transfer.probe(seen[:, 0], labels, asked[:, 0], answers, c),
        "probe_mean": transfer.probe(seen[:, 1:].mean(1), labels, asked[:, 1:].mean(1), answers, c),
        "foreground_iou": localisation.foreground_iou(seen[:, 1:], on.boxes[0], asked[:, 1:], on.boxes[1], on.params),
    }


def reconstruction(name: str, on: Bench) -> dict[str, float]:
    """MACs of an arm's decoder blocks for one image, and the share of the digit's patches that its masks leave visible."""
    arm, student, patches = ARMS[name], on.student, on.importance.shape[1]
    seen = sampling.visible(patches, student.mask_ratio)
    parts = cost.decoder(student.decoder, student.net.width, patches, seen, 1, arm.decoder == "prompting")
    seed_everything(derive_seed(on.repetition, "division"))
    weights = on.importance if arm.sampling == "semantic" else None
    division = sampling.draw(len(on.tested), patches, student.mask_ratio, weights)
    return {
        "decoder_macs": float(cost.block_macs(parts)),
        "visible_foreground": localisation.visible_foreground(division, on.boxes[1]),
    }
