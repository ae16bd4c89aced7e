"""Few-shot tasks: fitted side by side with written-out gradients, against a loop over tasks with automatic differentiation."""

from __future__ import annotations

import dataclasses
import statistics

import numpy
import torch
from torch import Tensor
from torch.nn import functional

from stages.lib import hsic, runtime
from stages.papers.dependency_maximization_fsl import classifier, experiment
from stages.papers.dependency_maximization_fsl import tasks as stage
from stages.papers.dependency_maximization_fsl.arms import find_arm
from stages.papers.dependency_maximization_fsl.selftraining import Batch, Solver
from stages.papers.dependency_maximization_fsl.settings import Tasks
from tests.bench.search import seconds
from tests.bench.table import Row

WIDTH, PAIRS = 128, 5


def loop(batch: Batch, params: Tasks, temperature: float) -> Tensor:
    """Query classes (T, n_q) of the arm dm, one task after another, as it reads in the paper."""
    fit, answers = params.fit, []
    for support, labels, query in zip(batch.support, batch.labels, batch.query, strict=True):
        means = torch.stack([support[labels == label].mean(0) for label in range(params.ways)])
        weight, bias = (item.clone().requires_grad_() for item in classifier.initial(means[None], temperature))
        optimiser = torch.optim.Adam([weight, bias], lr=fit.lr)
        kernel = hsic.centred(hsic.gaussian_kernel(query, [fit.sigma_x]))
        for _ in range(fit.steps):
            optimiser.zero_grad()
            predictions = (query @ weight[0].T + bias[0]).softmax(1)
            dependence = (kernel * hsic.gaussian_kernel(predictions, [fit.sigma_y])).sum()
            (functional.cross_entropy(support @ weight[0].T + bias[0], labels) - fit.dm * dependence).backward()
            optimiser.step()
        answers.append((query @ weight[0].T + bias[0]).argmax(1))
    return torch.stack(answers)


def tasks_batch() -> tuple[Batch, Tasks, float]:
    """As many tasks as the small scale fits side by side, of random features, and the settings."""
    params = stage.main.configure(["scale=small", "dataset=glyphs", "seed=0"]).params
    setting = dataclasses.replace(params.settings["one_shot"], arms=["dm"])
    labels = numpy.repeat(numpy.arange(20), 100)
    features = torch.randn(len(labels), WIDTH, generator=torch.Generator().manual_seed(0))
    drawn = experiment.draw(setting, params, labels, 0, "one_shot")
    return experiment.batch(features, drawn, slice(0, params.at_once), setting, params, 0), params, setting.temperature


def rows() -> list[Row]:
    """Medians of interleaved pairs, CPU seconds of one thread."""
    runtime.prepare(1, "cpu", 0)
    batch, params, temperature = tasks_batch()
    loop(
        batch, dataclasses.replace(params, fit=dataclasses.replace(params.fit, steps=1)), temperature
    )  # torch.optim's start-up
    times: dict[str, list[float]] = {"together": [], "loop": []}
    for _ in range(PAIRS):
        times["together"].append(seconds(lambda: Solver(batch, params, temperature, True).run(find_arm("dm"))))
        times["loop"].append(seconds(lambda: loop(batch, params, temperature)))
    ours, other = (statistics.median(times[name]) for name in ("together", "loop"))
    ratio = statistics.median(b / a for a, b in zip(times["together"], times["loop"], strict=True))
    name = (
        f"{len(batch.support)} one-shot tasks, {WIDTH} features, dependency maximisation: side by side against a loop, speed-up"
    )
    return [Row(name, f"{ours:.3f} s", f"{other:.3f} s", ratio, ">= 5")]
