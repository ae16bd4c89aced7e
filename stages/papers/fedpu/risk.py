"""The corrected multi-class PU risk (specification 3.1), with l+ the cross-entropy and l- = -log(1 - p + eps).

For a positive class i of the client, R_i = pi_i E_i[l+] + E_U[l-(p_i)] - pi_i E_i[l-(p_i)], where U has the client's full
marginal. A class without labels only gets the labelled images as its negatives; its labels lie with other clients, whose
risks join in the average of the models.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from stages.papers.fedpu.clients import Known
from stages.papers.fedpu.settings import Risk


def negative_loss(p: Tensor, eps: float) -> Tensor:
    """l-(p) = -log(1 - p + eps), at most -log(eps); rounding may put p a little above 1."""
    return -torch.log((1.0 - p).clamp(min=0.0) + eps)


@dataclass(frozen=True)
class Batch:
    """Logits [n, C] and targets [n] of a batch, with the labelled ones as one-hot rows (others are zero)."""

    logits: Tensor
    onehot: Tensor
    target: Tensor

    @staticmethod
    def of(logits: Tensor, target: Tensor) -> "Batch":
        """Hidden labels (target >= C) are not looked at: they are a mark."""
        classes = logits.shape[1]
        onehot = target[:, None] == torch.arange(classes, device=target.device)
        return Batch(logits, onehot.to(logits.dtype), target)

    @property
    def labelled(self) -> Tensor:
        """Which images are labelled, bool [n]."""
        return self.target < self.logits.shape[1]

    def mean(self, values: Tensor, mask: Tensor) -> Tensor:
        """Mean of values [n] or [n, C] over the masked images; 0 where there is none."""
        return mask.to(values.dtype) @ values / mask.sum().clamp(min=1)

    def class_means(self, values: Tensor) -> Tensor:
        """[C]: the mean of values [n, C] or [n, 1] over the labelled images of each class, in its column; 0 without images."""
        return (self.onehot * values).sum(0) / self.onehot.sum(0).clamp(min=1)

    def cross_entropies(self) -> Tensor:
        """[n]: the cross-entropy of labelled images, 0 of others."""
        return -(self.onehot * functional.log_softmax(self.logits, 1)).sum(1)


def labelled_cross_entropy(batch: Batch) -> Tensor:
    """L_CE: mean cross-entropy of the labelled images; 0 without any."""
    return batch.mean(batch.cross_entropies(), batch.labelled)


def pu_risk(batch: Batch, known: Known, options: Risk) -> Tensor:
    """The sum over the client's positive classes of R_i, and of what their images say as negatives of the other classes."""
    negative = negative_loss(functional.softmax(batch.logits, 1), options.eps)
    positive, outside = known.positive.to(negative.dtype), (~known.positive).to(negative.dtype)
    weighted = known.priors * positive
    attract = weighted * batch.class_means(batch.cross_entropies()[:, None])
    # U is every image of the client, labelled or not: its marginal is the one that the priors describe.
    repel = negative.mean(0) * positive - weighted * batch.class_means(negative)
    if options.nonnegative:
        repel = repel.clamp(min=0.0)
    others = weighted * batch.class_means((negative @ outside)[:, None])
    return (attract + repel + others).sum()


def risk(batch: Batch, known: Known, options: Risk) -> Tensor:
    """The risk alone; its weights are priors, so its gradients are small."""
    return pu_risk(batch, known, options)


def ce_risk(batch: Batch, known: Known, options: Risk) -> Tensor:
    """L_CE + w R: FedPU here."""
    return labelled_cross_entropy(batch) + options.weight * pu_risk(batch, known, options)
