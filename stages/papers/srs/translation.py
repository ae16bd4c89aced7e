"""Training and measurement of translators: every arm and repetition side by side."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from stages.lib.runtime import derive_seed
from stages.lib.trainee import Trainee
from stages.papers.srs import grammar as language
from stages.papers.srs import layer
from stages.papers.srs.bleu import bleu
from stages.papers.srs.grammar import BEGIN, END, PAD
from stages.papers.srs.peers import SideBySide
from stages.papers.srs.transformer import Transformer, initialise

if TYPE_CHECKING:
    from stages.papers.srs.settings import Translation

BETAS, DECODED = (0.9, 0.98), 250  # Adam's of the Transformer paper; sentences that are decoded at once


class Translators(Trainee):
    """Transformers of all arms and repetitions with their Adam; losses of every epoch are noted."""

    losses: Tensor

    def __init__(self, params: "Translation", repetitions: Sequence[int]) -> None:
        self.params, self.repetitions = params, list(repetitions)
        count = len(params.arms) * len(repetitions)
        tokens, longest = language.vocabulary(params.grammar), params.grammar.longest + 2
        net = Transformer(
            count, tokens, longest, params.net, lambda: SideBySide(params.arms, len(repetitions), params.activation)
        )
        initialise(net, [torch.Generator().manual_seed(derive_seed(one, "init")) for one in repetitions], len(params.arms))
        self.steps = -(-params.grammar.train // params.batch)
        total = params.epochs * self.steps
        warm = max(1, math.ceil(params.warmup * total))
        super().__init__(
            net, [(list(net.parameters()), 0.0)], lambda step: params.lr * warmed(step, warm, total), params, self.repetitions,
            betas=BETAS,
        )  # fmt: skip
        self.register_buffer("losses", torch.zeros(params.epochs, count))
        drawn = [language.pairs(params.grammar, params.grammar.train, one, "train") for one in repetitions]
        for name in ("source", "target"):
            tensor = torch.stack([torch.from_numpy(getattr(one, name)) for one in drawn])
            self.register_buffer(name, tensor, persistent=False)

    def for_arms(self, each: Tensor) -> Tensor:
        """[K, ...] of [repetitions, ...]."""
        return each.repeat(len(self.params.arms), *[1] * (each.dim() - 1))

    def loss(self, positions: Tensor) -> Tensor:
        """Sum over the nets of their mean cross-entropy of tokens, with label smoothing."""
        source, target = self.for_arms(self.source[:, positions]), self.for_arms(self.target[:, positions])
        logits = self.net.decode(target[:, :, :-1], *self.net.encode(source)).flatten(1, 2)
        wanted = target[:, :, 1:].flatten(1)
        each = F.cross_entropy(
            logits.transpose(1, 2), wanted, ignore_index=PAD, label_smoothing=self.params.smoothing, reduction="none"
        )
        mean = each.sum(1) / (wanted != PAD).sum(1)
        self.losses[int(self.clock) // self.steps] += mean.detach() / self.steps
        return mean.sum()

    def after_step(self) -> None:
        """Adam's update; SRS stays feasible."""
        super().after_step()
        layer.project(self.net)

    def curves(self) -> Tensor:
        """Training losses [epochs, arms, repetitions]."""
        return self.losses.cpu().view(len(self.losses), len(self.params.arms), -1)

    @torch.no_grad()
    def measure(self, split: str) -> dict[tuple[str, int], dict[str, float]]:
        """Figures by arm and repetition on sentences of a split that no training saw."""
        self.eval()
        options, keys = self.params.grammar, [(arm, one) for arm in self.params.arms for one in self.repetitions]
        drawn = [language.pairs(options, options.test, one, split) for one in self.repetitions]
        source, target = (torch.stack([torch.from_numpy(getattr(one, name)) for one in drawn]) for name in ("source", "target"))
        found, forced = [], []
        for start in range(0, options.test, DECODED):
            part = slice(start, start + DECODED)
            some, wanted = (self.for_arms(one[:, part]).to(self.source.device) for one in (source, target))
            found.append(self.net.greedy(some, BEGIN, options.longest + 1).cpu())
            logits = self.net.decode(wanted[:, :, :-1], *self.net.encode(some))
            forced.append((logits.argmax(-1) == wanted[:, :, 1:]).cpu())
        found, forced, wanted = torch.cat(found, 1), torch.cat(forced, 1), self.for_arms(target)
        self.train()
        values = {}
        for i, key in enumerate(keys):
            own, reference = [sentence(one) for one in found[i].tolist()], [sentence(one[1:]) for one in wanted[i].tolist()]
            kept = wanted[i, :, 1:] != PAD
            values[key] = {
                "bleu": bleu(own, reference),
                "exact": sum(a == b for a, b in zip(own, reference, strict=True)) / len(own),
                "token_accuracy": int((forced[i] & kept).sum()) / int(kept.sum()),
                "first_loss": float(self.curves()[0].flatten()[i]),
            }
        return values


def warmed(step: int, warm: int, total: int) -> float:
    """Share of the greatest rate: rising linearly for `warm` steps, then falling by cosine."""
    return min((step + 1) / warm, 0.5 + 0.5 * math.cos(math.pi * max(0, step - warm) / max(1, total - warm)))


def sentence(tokens: list[int]) -> list[int]:
    """The tokens before END; a sentence without END is whole."""
    return tokens[: tokens.index(END)] if END in tokens else tokens
