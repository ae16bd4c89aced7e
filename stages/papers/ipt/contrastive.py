"""The contrastive term: tokens of one image are to be alike, tokens of different images are not.

Two forms. The code form is SupCon without labels (Khosla et al. 2020), as the authors' training code has it: the
denominator holds all other tokens, those of the same image too. The paper form leaves the same image out of it.
"""

import torch
from torch import Tensor

from stages.lib.errors import StageError

LEAST = 1e-8  # inside the logarithm of the code form, as there


def contrastive(tokens: Tensor, form: str, tau: float, most: int, generator: torch.Generator | None = None) -> Tensor:
    """L_con of tokens [B, N, d], by either form; `tau` belongs to the code form. StageError for one image in the paper form.

    Memory grows with the square of B N. Where `most` > 0, that many tokens of an image are used, drawn by the CPU
    generator, the same places for all images.
    """
    if 0 < most < tokens.shape[1]:
        places = torch.randperm(tokens.shape[1], generator=generator)[:most].to(tokens.device)
        tokens = tokens[:, places]
    return code_form(tokens, tau) if form == "code" else paper_form(tokens)


def code_form(tokens: Tensor, tau: float) -> Tensor:
    """Mean over anchors of - mean over positives p of log(exp(s_p) / (sum over all others of exp(s) + 1e-8)).

    s = cosine similarity / tau, less the maximum of its row; positives are the other tokens of the same image. One image
    is enough; one token an image is not.
    """
    images, count, _ = tokens.shape
    flat = torch.nn.functional.normalize(tokens, dim=2).flatten(0, 1)
    logits = flat @ flat.T / tau
    logits = logits - logits.max(1, keepdim=True).values.detach()
    others = 1.0 - torch.eye(images * count, dtype=flat.dtype, device=flat.device)
    log_sum = ((logits.exp() * others).sum(1) + LEAST).log()
    owner = torch.arange(images, device=flat.device).repeat_interleave(count)
    positives = (owner[:, None] == owner) * others
    return (log_sum - (logits * positives).sum(1) / (count - 1)).mean()


def paper_form(tokens: Tensor) -> Tensor:
    """1 / (B N^2) sum over i, k, j of - log(exp d(f_ij, f_kj) / sum over m != j and k of exp d(f_ij, f_km)), d = cosine.

    As printed: i = k is among the terms, where it adds a constant to the numerator's part. StageError for one image.
    """
    images, count, _ = tokens.shape
    if images < 2:
        raise StageError("contrastive.form=paper: its denominator is empty in a batch of one image; expected batch=2 or more")
    flat = torch.nn.functional.normalize(tokens, dim=2).flatten(0, 1)
    alike = flat @ flat.T
    owner = torch.arange(images, device=flat.device).repeat_interleave(count)
    same = owner[:, None] == owner
    log_sum = alike.masked_fill(same, -torch.inf).logsumexp(1)
    return (log_sum - (alike * same).sum(1) / count).mean()
