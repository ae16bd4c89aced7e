"""Training the arms on maps of the shared backbone: the same steps, the same order of annotated regions."""

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from stages.lib import artifacts, parallel, resume
from stages.lib.adamw import AdamW
from stages.lib.data import Split
from stages.lib.runtime import derive_seed, seed_everything
from stages.papers.hcvrd import metric
from stages.papers.hcvrd.arms import ARMS, Arm
from stages.papers.hcvrd.nets import Net
from stages.papers.hcvrd.relations import Labels

if TYPE_CHECKING:
    from stages.papers.hcvrd.settings import Params


@dataclasses.dataclass(frozen=True)
class Learning:
    """What arms learn from, on their device: maps [V, R, D, h, w] and geometry [V, R, 7] of V versions of R training
    relations, their labels [R]; maps of web images [L, M, D, h, w] and which show their label [L, M]; vectors of words.
    """

    maps: Tensor
    geometry: Tensor
    label: Tensor
    web: Tensor
    good: Tensor
    labels: Labels
    words: tuple[Tensor, Tensor]  # [S, E] of subjects, [O, E] of objects


@dataclasses.dataclass(frozen=True)
class Batch:
    """Annotated regions of a step, two draws of each label: maps, geometry [n, ...] of both; label [n]."""

    maps: Tensor
    geometry: Tensor
    other_maps: Tensor
    other_geometry: Tensor
    label: Tensor


class Draws:
    """Batches and bags of a repetition; arms of a repetition meet the same regions in the same order."""

    def __init__(self, given: Learning, params: "Params", repetition: int) -> None:
        self.given, self.params = given, params
        self.regions = torch.Generator().manual_seed(derive_seed(repetition, "batches"))
        self.bags = torch.Generator().manual_seed(derive_seed(repetition, "bags"))
        label = given.label.cpu()
        self.order, self.counts = label.argsort(stable=True), label.bincount(minlength=int(given.labels.seen.sum()))
        self.starts = self.counts.cumsum(0) - self.counts

    def batch(self) -> Batch:
        """Labels drawn evenly, then an instance and a version of it, twice."""
        count = self.params.descent.batch
        labels = torch.randint(len(self.counts), (count,), generator=self.regions)
        draws = torch.rand(2, count, generator=self.regions)
        versions = torch.randint(len(self.given.maps), (2, count), generator=self.regions)
        chosen = self.order[self.starts[labels] + (draws * self.counts[labels]).long()]
        place = [(versions[i].to(self.device), chosen[i].to(self.device)) for i in (0, 1)]
        one, other = ((self.given.maps[at], self.given.geometry[at]) for at in place)
        return Batch(*one, *other, labels.to(self.device))

    @property
    def device(self) -> torch.device:
        """Where the maps are."""
        return self.given.maps.device

    def bag_labels(self, wanted: Tensor, count: int) -> Tensor:
        """Labels of a step's bags [count]: those of the batch, filled up with others drawn evenly from all."""
        first = wanted.unique().cpu()
        order = torch.randperm(len(self.given.good), generator=self.bags)
        rest = order[~torch.isin(order, first)]
        return torch.cat([first, rest])[: max(count, len(first))]

    def bag(self, labels: Tensor, size: int, clean: bool) -> Tensor:
        """Maps [b, size, D, h, w] of that many different web images of each label."""
        allowed = self.given.good.cpu()[labels] if clean else torch.ones(len(labels), self.given.good.shape[1])
        keys = torch.rand(allowed.shape, generator=self.bags) + allowed  # those allowed come first
        chosen = keys.argsort(1, descending=True)[:, :size]
        return self.given.web[labels.to(self.device).unsqueeze(1), chosen.to(self.device)]


def web_loss(net: Net, arm: Arm, draws: Draws, batch: Batch) -> Tensor:
    """L_rel + w1 L_web + w2 L_metric of a step (4.3): bags of the batch's labels and of others, two of zero-shot ones."""
    settings, labels = draws.params.metric, draws.given.labels
    size = settings.bag if arm.grouped else 1
    names = draws.bag_labels(batch.label, settings.bags * settings.bag // size)
    u = net.web.evidence(draws.bag(names, size, arm.clean))
    own = names.to(u.device)
    place = torch.full((len(labels.kind),), -1, device=u.device)
    place[own] = torch.arange(len(own), device=u.device)
    f = net.region(batch.maps, batch.geometry)
    anchors, targets = [F.normalize(f, dim=1)], [place[batch.label]]
    unseen = names[~labels.seen[names]]
    if len(unseen):
        anchors.append(net.web(net.web.evidence(draws.bag(unseen, size, arm.clean))))
        targets.append(place[unseen.to(u.device)])
    d = metric.distances(torch.cat(anchors), net.web(u))
    target = torch.cat(targets)
    return (
        F.cross_entropy(net.head(f), batch.label)
        + settings.web_weight * F.cross_entropy(net.classifier(u), own)
        + settings.metric_weight * metric.loss(d, target, settings.loss, settings.temperature, settings.margin)
    )


def annotated_loss(net: Net, draws: Draws, batch: Batch) -> Tensor:
    """The same without web images: another annotated instance of the label is its prototype of the step.

    All seen labels compete, by running prototypes: far better here, while arms with web bags were better without.
    """
    settings = draws.params.metric
    f, other = net.region(batch.maps, batch.geometry), net.region(batch.other_maps, batch.other_geometry)
    names, place = batch.label.unique(return_inverse=True)
    means = metric.class_means(F.normalize(other, dim=1), place, len(names))
    d = metric.distances(F.normalize(f, dim=1), metric.remembered(net.memory, names, means))
    term = metric.loss(d, batch.label, settings.loss, settings.temperature, settings.margin)
    return F.cross_entropy(net.head(f), batch.label) + settings.metric_weight * term


def pooled_loss(net: Net, arm: Arm, draws: Draws, batch: Batch) -> Tensor:
    """Cross entropy over all labels of pooled web bags; of the mixture also of annotated regions."""
    settings = draws.params.metric
    size = settings.bag if arm.grouped else 1
    names = draws.bag_labels(batch.label, settings.bags * settings.bag // size)
    maps = draws.bag(names, size, arm.clean)
    u = net.attention(maps.flatten(0, 1)).unflatten(0, maps.shape[:2]).mean(1)
    loss = F.cross_entropy(net.classifier(u), names.to(u.device))
    if arm.kind == "mixture":
        loss = loss + F.cross_entropy(net.classifier(net.attention(batch.maps)), batch.label)
    return loss


def loss_of(net: Net, arm: Arm, draws: Draws) -> Tensor:
    """The loss of an arm's step."""
    batch, given = draws.batch(), draws.given
    parts = given.labels.triplets.to(batch.label.device)[batch.label]
    if arm.kind == "metric":
        return web_loss(net, arm, draws, batch)
    if arm.kind == "annotated":
        return annotated_loss(net, draws, batch)
    if arm.kind in ("web", "mixture"):
        return pooled_loss(net, arm, draws, batch)
    if arm.kind == "classifier":
        return F.cross_entropy(net.region(batch.maps, batch.geometry), batch.label)
    if arm.kind == "factorised":
        return F.cross_entropy(net.region(batch.maps, batch.geometry), parts[:, 1])
    if arm.kind == "context":
        words = torch.cat([given.words[0][parts[:, 0]], given.words[1][parts[:, 2]]], 1)
        return F.cross_entropy(net.context(batch.maps, words), parts[:, 1])
    sizes = [len(words) for words in given.labels.words]
    words = torch.cat([F.one_hot(parts[:, 0], sizes[0]), F.one_hot(parts[:, 2], sizes[2])], 1).float()
    return F.cross_entropy(net.words(words), parts[:, 1])


def mark(name: str, net: Net, given: Learning, params: "Params", repetition: int) -> str:
    """What a finished net belongs to: settings, first weights, annotated and web features, code."""
    means = torch.cat([given.maps[0].mean((2, 3)), given.web.mean((1, 3, 4))])
    told = Split(means, given.label, (), (), (), "", "")
    return resume.fingerprint(net, told, (name, repetition, dataclasses.asdict(params)))


def train(name: str, given: Learning, params: "Params", repetition: int, state: Path | None) -> Net:
    """An arm's net. A finished one is kept at `state` until the stage has ended, so that a retry does not train it again."""
    arm = ARMS[name]
    seed_everything(derive_seed(repetition, "arm"))  # arms with the same parts begin alike
    net = Net(arm, given.maps.shape[2], given.labels, params.metric, params.context).to(given.maps.device)
    if arm.kind == "frequency":
        return net
    started = "" if state is None else mark(name, net, given, params, repetition)
    finished = state is not None and state.is_file()
    parallel.barrier()  # all have looked before the first can have written
    if finished:
        tensors, record = artifacts.load_tensors(state)
        if record == started:
            net.load_state_dict(tensors)
            return net.eval()
    draws, total = Draws(given, params, repetition), params.descent.steps
    held = [one for one in net.parameters() if one.requires_grad]
    optimiser = AdamW([([p for p in held if p.ndim > 1], params.descent.weight_decay), ([p for p in held if p.ndim == 1], 0.0)])
    for step in range(total):
        loss = loss_of(net, arm, draws)
        loss.backward()
        optimiser.step(params.descent.lr * 0.5 * (1 + math.cos(math.pi * step / total)))
    if state is not None:
        artifacts.save_tensors(state, net.state_dict(), started)
    return net.eval()
