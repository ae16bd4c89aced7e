"""The forms of the official code, modules/loss.py of littleSunlxy/FedPU-torch (specification 3.2 and 3.3), quirks kept.

U is the unlabelled images alone, and priors are shares within them.
"""

import torch
from torch import Tensor
from torch.nn import functional

from stages.papers.fedpu.clients import Known
from stages.papers.fedpu.risk import Batch, labelled_cross_entropy, negative_loss
from stages.papers.fedpu.settings import Risk


def parts(batch: Batch, known: Known, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """(mean over U of l-(p_j) for every class [C], L_PN before the prior and the number of classes, L_cor)."""
    negative = negative_loss(functional.softmax(batch.logits, 1), eps)
    from_unlabelled = batch.mean(negative, ~batch.labelled)
    from_labelled = batch.mean(negative @ (~known.positive).to(negative.dtype), batch.labelled)
    correction = -batch.mean((batch.onehot * known.priors_unlabelled * negative).sum(1), batch.labelled)
    return from_unlabelled, from_labelled, correction


def code_v1(batch: Batch, known: Known, options: Risk) -> Tensor:
    """The readable version: all terms, the prior of the first positive class for L_PN, L_U divided by C_k."""
    from_unlabelled, from_labelled, correction = parts(batch, known, options.eps)
    count, classes = known.count, len(known.positive)
    total = (from_unlabelled * known.positive).sum() / count + correction
    if count < classes:
        first = int(torch.nonzero(known.positive)[0])
        total = total + known.priors_unlabelled[first] / (classes - count) * from_labelled
    return options.weight * total + labelled_cross_entropy(batch)


def code_v2(batch: Batch, known: Known, options: Risk) -> Tensor:
    """What the shipped training uses: the length of a multi-hot vector is taken for C_k, so L_U is divided by C and L_PN is
    never computed; eps is its own.
    """
    from_unlabelled, _, correction = parts(batch, known, options.eps_shipped)
    total = (from_unlabelled * known.positive).sum() / len(known.positive) + correction
    return options.weight * total + labelled_cross_entropy(batch)
