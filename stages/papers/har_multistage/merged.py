"""A merged net: extractors of several transformed spaces and a head over their features."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stages.papers.har_multistage.extractor import Extractor


class Merged(nn.Module):
    """Inputs, one per branch in the branches' order, to logits; `cached` features may stand for the first branches."""

    def __init__(self, branches: dict[str, Extractor], head: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleDict(branches)
        self.head = head

    @property
    def names(self) -> list[str]:
        """The transformed spaces, in order."""
        return list(self.branches)

    def features(self, inputs: Sequence[Tensor]) -> Tensor:
        """Features of all branches side by side [N, d m]."""
        pairs = zip(self.branches.values(), inputs, strict=True)
        return torch.cat([branch(x) for branch, x in pairs], dim=1)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Logits [N, K]."""
        return self.head(self.features(inputs))


class Newest(nn.Module):
    """A merged net of which only the newest branch and the head learn; the older branches' features are given."""

    def __init__(self, branch: Extractor, head: nn.Module) -> None:
        super().__init__()
        self.branch, self.head = branch, head

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Logits of (features of the older branches [N, d (t - 1)], the newest branch's input)."""
        older, x = inputs
        return self.head(torch.cat([older, self.branch(x)], dim=1))


class HeadOnly(nn.Module):
    """A head over given features."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Logits of (features,)."""
        return self.head(inputs[0])


@torch.no_grad()
def features_of(branch: nn.Module, x: Tensor, batch: int = 500) -> Tensor:
    """Features [N, d] of a branch in eval mode, as a frozen extractor gives them; its mode is put back."""
    mode = branch.training
    branch.eval()
    found = torch.cat([branch(part) for part in x.split(batch)])
    branch.train(mode)
    return found
