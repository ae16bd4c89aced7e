"""What FedPU is compared with: positives only, pseudo-labels, PU learning with one negative class, full supervision."""

from torch import Tensor
from torch.nn import functional

from stages.papers.fedpu.clients import Known
from stages.papers.fedpu.risk import Batch, labelled_cross_entropy
from stages.papers.fedpu.settings import Risk


def positives_only(batch: Batch, known: Known, options: Risk) -> Tensor:
    """Cross-entropy of the labelled images; as many steps as the others, since batches are the same. The official code's
    MPULoss_INDEX as shipped is this too.
    """
    return labelled_cross_entropy(batch)


def pseudo_label(batch: Batch, known: Known, options: Risk) -> Tensor:
    """Besides, cross-entropy of confident unlabelled images against the net's own answer, over all unlabelled ones."""
    confidence, answer = functional.softmax(batch.logits.detach(), 1).max(1)
    taken = (confidence >= options.threshold) & ~batch.labelled
    own = functional.cross_entropy(batch.logits, answer, reduction="none") * taken
    return labelled_cross_entropy(batch) + batch.mean(own, ~batch.labelled)


def one_negative(batch: Batch, known: Known, options: Risk) -> Tensor:
    """PU learning with a single negative class (Xu et al. 2017, with the clamp of nnPU): all classes without labels at this
    client are one, whose probability is their sum. With labels of every class there is none, and nothing is added.
    """
    if known.count == len(known.positive):
        return labelled_cross_entropy(batch)
    outside = ~known.positive
    scores = functional.log_softmax(batch.logits, 1)
    away = -scores.masked_fill(~outside, -float("inf")).logsumexp(1)  # -log of the joint probability of unknown classes
    weighted = known.priors * known.positive
    attract = (weighted * batch.class_means(batch.cross_entropies()[:, None])).sum()
    repel = away.mean() - (weighted * batch.class_means(away[:, None])).sum()
    return labelled_cross_entropy(batch) + options.weight * (attract + repel.clamp(min=0.0))


def supervised(batch: Batch, known: Known, options: Risk) -> Tensor:
    """Cross-entropy of all images with their hidden labels: the bound, and the only objective that looks at these."""
    return functional.cross_entropy(batch.logits, batch.target % batch.logits.shape[1])
