"""How different the tokens of a layer are (sections 2 and 3 of the paper), and the inequalities behind its theory."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

GELU_SLOPE = 1.13  # greatest slope of GELU is 1.1290, at sqrt(2)


def residual(z: Tensor) -> Tensor:
    """r(Z) = min_z ||Z - 1 z^T||_F [B] of tokens [B, N, d]: the distance to tokens that are all alike.

    In Frobenius norm the nearest such matrix has the tokens' mean in every row.
    """
    return (z - z.mean(1, keepdim=True)).norm(dim=(1, 2))


def relative(z: Tensor) -> Tensor:
    """r(Z) / ||Z||_F [B], between 0 (all tokens alike) and 1; r itself grows with the residual stream's norm."""
    return residual(z) / z.norm(dim=(1, 2)).clamp_min(torch.finfo(z.dtype).tiny)


def cosine(z: Tensor) -> Tensor:
    """Mean cosine [B] between two different tokens of [B, N, d]."""
    tokens = z.shape[1]
    total = F.normalize(z, dim=-1).sum(1).square().sum(-1)
    return (total - tokens) / (tokens * (tokens - 1))


MEASURES = {"residual": residual, "relative": relative, "cosine": cosine}


@torch.no_grad()
def profile(net: nn.Module, x: Tensor) -> Tensor:
    """Each measure of Z_0 ... Z_L, averaged over images x [B, C, H, W]: float64 [measures, L + 1], in eval mode."""
    mode = net.training
    features = net.eval().features(x)
    net.train(mode)
    return torch.tensor([[float(measure(z.double()).mean()) for z in features] for measure in MEASURES.values()])


@torch.no_grad()
def path_ratio(net: nn.Module, x: Tensor) -> float:
    """Mean of relative(paths(Z)) / relative(Z) over all modules, for images x; 1 for a net without paths.

    Below 1 the paths' answers have more in common than the tokens that they are answers to.
    """
    found: list[float] = []

    def note(_module: nn.Module, inputs: tuple[Tensor], answers: Tensor) -> None:
        found.append(float((relative(answers.double()) / relative(inputs[0].double())).mean()))

    paths = [part for block in net.blocks for part in (block.paths1, block.paths2) if part is not None]
    hooks = [part.register_forward_hook(note) for part in paths]
    mode = net.training
    net.eval().features(x)
    net.train(mode)
    for hook in hooks:
        hook.remove()
    return sum(found) / len(found) if found else 1.0


# --- bounds ---------------------------------------------------------------------------------------


def mixing(weights: Tensor) -> Tensor:
    """lambda [...] of row-stochastic attention [..., N, N]: the largest eigenvalue of A^T P A, P = I - 11^T / N.

    r(A Z) <= sqrt(lambda) r(Z).
    """
    centred = weights - weights.mean(-2, keepdim=True)
    return torch.linalg.matrix_norm(centred, ord=2).square()


def head_norms(value: Tensor, out: Tensor, heads: int) -> Tensor:
    """Largest singular values s_h [H] of the heads' maps W_h = W^v_h W^o_h, of weights as nn.Linear holds them [d, d]."""
    values = value.view(heads, -1, value.shape[1])
    outs = out.view(out.shape[0], heads, -1).permute(1, 0, 2)
    return torch.linalg.matrix_norm(outs @ values, ord=2)


def attention_factor(weights: Tensor, norms: Tensor) -> Tensor:
    """f [B] with r(MSA(Z)) <= f r(Z): sqrt(max_h lambda_h) sum_h s_h, of attention [B, H, N, N] and `head_norms`."""
    return mixing(weights).amax(-1).sqrt() * norms.sum()


def shortcut_floor(factor: Tensor) -> Tensor:
    """g with r(Z + MSA(Z)) >= g r(Z): 1 - f, where that is positive; the shortcut prevents the collapse."""
    return (1.0 - factor).clamp_min(0.0)


def augmented_ceiling(factor: Tensor, path_norms: Tensor, slope: float = GELU_SLOPE) -> Tensor:
    """g with r(Z + MSA(Z) + sum_i T_i(Z)) <= g r(Z): 1 + f + sum_i L s(Theta_i)."""
    return 1.0 + factor + slope * path_norms.sum()
