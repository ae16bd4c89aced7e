"""What few labels make of a pre-trained encoder: linear probes of frozen features, and fine-tuning."""

import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy
import torch
from torch import Tensor

from stages.lib import training
from stages.lib.data import Split
from stages.lib.errors import StageError
from stages.lib.runtime import derive_seed, seed_everything
from stages.lib.trainee import Trainee, fit
from stages.lib.vit import recipe as recipes
from stages.papers.milan.descent import LayerwiseAdamW
from stages.papers.milan.encoder import Classifier, Encoder
from stages.papers.milan.scenes import NAMES, Scenes

if TYPE_CHECKING:
    from stages.papers.milan.settings import Transfer

BATCH = 250
ITERATIONS = 2000  # of the probe's solver, far above what it takes


@torch.no_grad()
def features(net: torch.nn.Module, x: Tensor, device: torch.device) -> Tensor:
    """Tokens [N, T, D] of images [N, C, H, W] on the CPU, in eval mode."""
    net.to(device).eval()
    return torch.cat([net(part.to(device)).cpu() for part in x.split(BATCH)])


def check_labels(scenes: Scenes) -> None:
    """StageError unless each digit has a labelled scene."""
    absent = [name for digit, name in enumerate(NAMES) if not bool((scenes.y == digit).any())]
    if absent:
        raise StageError(f"params.labels={len(scenes)}: too few labelled scenes, none shows {', '.join(absent)}; raise it")


def classify(seen: Tensor, labels: Tensor, asked: Tensor, c: float) -> numpy.ndarray:
    """Labels [M] that logistic regression on standardised features [N, D] gives to others [M, D]; the same on every run."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    mean, deviation = seen.double().mean(0), seen.double().std(0).clamp_min(1e-6)
    first, second = (((part.double() - mean) / deviation).numpy() for part in (seen, asked))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            return LogisticRegression(C=c, max_iter=ITERATIONS).fit(first, labels.numpy()).predict(second)
        except ConvergenceWarning as error:
            raise StageError(f"a linear probe has not converged after {ITERATIONS} iterations; lower params.probe_c") from error


def probe(seen: Tensor, labels: Tensor, asked: Tensor, answers: Tensor, c: float) -> float:
    """Accuracy of a linear probe."""
    return float(numpy.mean(classify(seen, labels, asked, c) == answers.numpy()))


def fine_tune(
    encoder: Encoder, params: "Transfer", labelled: Split, classes: int, repetition: int, device: torch.device,
    state: Path | None, label: str,
) -> Classifier:  # fmt: skip
    """A classifier from the encoder, all weights trained on labelled images, with rates falling from layer to layer."""
    seed_everything(derive_seed(repetition, "head"))
    net, recipe = Classifier(encoder, classes).to(device), params.recipe
    steps = -(-len(labelled) // recipe.batch)
    about = (recipe, params.layer_decay, params.drop_path, steps)
    trainee = Trainee(net, [], partial(recipes.rate, recipe, steps), *about, clip=recipe.clip)
    trainee.optimiser = LayerwiseAdamW(net, recipe.weight_decay, params.layer_decay)
    fit(
        trainee.to(device), labelled, epochs=recipe.epochs, batch=recipe.batch, seed=derive_seed(repetition, "order"),
        device=device, augment=recipes.augmentation(recipe), loss=recipes.loss_of(recipe), state=state, label=label,
    )  # fmt: skip
    return net.cpu().eval()


def accuracy(net: Classifier, scenes: Scenes, device: torch.device) -> float:
    """Share of scenes that a classifier gets right."""
    return training.evaluate(net, scenes.labelled(), device, BATCH)
