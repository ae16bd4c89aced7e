"""Reading the architecture for a budget from a trained sampler: no accuracy is measured."""

import torch

from stages.papers.focusformer import cost
from stages.papers.focusformer.cost import Canvas
from stages.papers.focusformer.sampler import Sampler
from stages.papers.focusformer.space import Architecture


@torch.no_grad()
def deploy(sampler: Sampler, canvas: Canvas, budget: float, draws: int) -> Architecture | None:
    """The greedy decode for a budget; if that exceeds it, the most probable feasible one of `draws` samples.

    Where no sample is feasible either, the same with the next lower anchors in turn. None where all fail. Samples come from
    torch's global generator. Raises StageError for a budget outside the anchors.
    """
    lower = [anchor for anchor in sampler.anchors.tolist() if anchor < budget]
    for asked in [float(budget), *reversed(lower)]:
        found = _within(sampler, canvas, asked, budget, draws)
        if found is not None:
            return found
    return None


def _within(sampler: Sampler, canvas: Canvas, asked: float, budget: float, draws: int) -> Architecture | None:
    """The greedy decode for `asked` if it meets the budget, else the most probable of the samples that do."""
    one = sampler.draw(torch.tensor([asked]), greedy=True)[0]
    if cost.macs(one, canvas) <= budget:
        return one
    many = sampler.draw(torch.full((draws,), asked))
    fitting = [found for found in dict.fromkeys(many) if cost.macs(found, canvas) <= budget]
    if not fitting:
        return None
    scores = sampler.log_prob(fitting, torch.full((len(fitting),), asked))
    return fitting[int(scores.argmax())]
