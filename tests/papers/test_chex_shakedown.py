"""The paper's own settings: they compose, agree with the paper, and run for a few steps; detectors with CHEX's masks."""

import dataclasses
from pathlib import Path

import pytest
import torch

from stages.lib import runtime
from stages.lib.errors import StageError
from stages.papers.chex import detectors, explore, prunable, shakedown
from stages.papers.chex.settings import Net

ROOT = Path(__file__).parents[2]


@pytest.fixture
def config(monkeypatch):
    monkeypatch.chdir(ROOT)
    return shakedown.main.configure(["threads=1", "device=cpu"])


def test_paper_scale_composes_and_has_the_papers_values(monkeypatch):
    monkeypatch.chdir(ROOT)
    found = explore.main.configure(["scale=paper", "dataset=imagenet", "seed=0", "arm=chex"]).params
    assert (found.sgd.lr, found.sgd.batch, found.sgd.epochs, found.sgd.weight_decay) == (1.024, 1024, 250, 2.0**-15)
    steps = found.exploration
    assert (steps.interval, steps.last, steps.delta, steps.sparsity, steps.macs) == (2, 180, 0.3, 0.7, 0.0)


def test_ssd_milestones_are_the_papers_epochs(config):
    sgd = config.coco_ssd.sgd
    assert [round(share * sgd.epochs) for share in sgd.milestones] == [430, 540]
    assert (config.coco_ssd.exploration.last, config.coco_ssd.exploration.sparsity) == (470, 0.5)


def test_shortening_changes_amounts_only(config):
    sgd, exploration = shakedown.shortened(config.imagenet.sgd, config.imagenet.exploration, config.params)
    for key in ("lr", "momentum", "weight_decay", "decay_norms", "smoothing", "mixup"):
        assert getattr(sgd, key) == getattr(config.imagenet.sgd, key)
    for key in ("sparsity", "delta", "regrow_rule", "mask_momentum", "macs"):
        assert getattr(exploration, key) == getattr(config.imagenet.exploration, key)
    assert exploration.last < sgd.epochs


def test_a_small_classifier_goes_through_every_step(config, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    trial = shakedown.Trial(Net("preresnet_cifar", {"depth": 8}, 0.5), sparsity=0.5)
    facts = shakedown.shake_classifier(trial, config.imagenet, config.params, runtime.prepare(1, "cpu", 0))
    assert facts["prunable_layers"] == 3 and facts["macs"][1] < facts["macs"][0]
    assert facts["channels"][1] < facts["ever"] <= facts["channels"][0] == 112
    assert not list(tmp_path.rglob("*"))


def test_ssd_has_the_maps_and_boxes_of_the_paper():
    net = detectors.detector("ssd300_resnet50", 81, 300).eval()
    assert len(prunable.prunable_layers(net)) == 26  # conv1 and conv2 of 3 + 4 + 6 bottlenecks
    with torch.no_grad():
        maps = net.backbone(torch.zeros(1, 3, 300, 300))
    assert [tuple(h.shape[1:]) for h in maps.values()] == [
        (1024, 38, 38), (512, 19, 19), (512, 10, 10), (256, 5, 5), (256, 3, 3), (256, 1, 1)
    ]  # fmt: skip
    boxes = sum(h.shape[-1] ** 2 * n for h, n in zip(maps.values(), net.anchor_generator.num_anchors_per_location()))
    assert boxes == 8732


def test_detectors_that_do_not_exist():
    with pytest.raises(StageError, match="expected one of"):
        detectors.detector("yolo", 81, 300)
    with pytest.raises(StageError, match="side 300"):
        detectors.detector("ssd300_resnet50", 81, 512)


def test_a_scene_has_boxes_on_their_masks():
    image, target = detectors.scene(5, 100, torch.Generator().manual_seed(0))
    assert image.shape == (3, 100, 100) and target["masks"].sum((1, 2)).tolist() == [50 * 40, 50 * 65]
    assert target["labels"].min() >= 1


@pytest.mark.slow
@pytest.mark.parametrize("section", ["coco_ssd", pytest.param("coco_mask", marks=pytest.mark.exhaustive)])
def test_detectors_are_stepped_explored_and_cut(config, section):
    small = dataclasses.replace(config.params, batch=2, sides={"maskrcnn_resnet50_fpn": 128})
    facts = shakedown.shake_detector(getattr(config, section), small, runtime.prepare(1, "cpu", 0))
    assert facts["backbone_macs"][1] < facts["backbone_macs"][0]
    assert facts["channels"][1] < facts["ever"] <= facts["channels"][0]
    assert facts["prunable_layers"] == {"coco_ssd": 26, "coco_mask": 32}[section]
    assert ("loss_mask" in facts["losses"]) == (section == "coco_mask")
