"""SRS and its derivatives in a form that never overflows.

The literal expression gives NaN gradients for large negative inputs: exp(-x / beta) overflows although the quotient tends to 0.
Numerator and denominator are therefore multiplied by exp(x / beta) where x is negative, so that only exp(-|x| / beta) occurs.
"""

import torch
from torch import Tensor


def parts(x: Tensor, alpha: Tensor, beta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(N, Q, E) with SRS = N / Q and E = exp(-|x| / beta), all finite; of the shape that x, alpha and beta broadcast to."""
    positive = x >= 0
    # Not abs(): its derivative at 0 is 0, and second derivatives there would be wrong.
    decay = torch.exp(torch.where(positive, -x, x) / beta)
    numerator = torch.where(positive, x, x * decay)
    return numerator, numerator / alpha + torch.where(positive, decay, torch.ones_like(decay)), decay


def composed(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """SRS as composed operations, whose gradients autograd finds; `srs` is the same with less memory."""
    numerator, denominator, _ = parts(x, alpha, beta)
    return numerator / denominator


def with_slope(x: Tensor, alpha: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """(SRS, d SRS / d x) as composed operations; the slope is (1 + x / beta) E / Q^2, the same form on both sides of 0."""
    numerator, denominator, decay = parts(x, alpha, beta)
    return numerator / denominator, (1 + x / beta) * decay / denominator.square()


class SoftRootSign(torch.autograd.Function):
    """SRS that keeps only x, alpha and beta for the backward pass, which has closed forms.

    With f = N / Q: df/dx = (1 + x/beta) E / Q^2, df/dalpha = (f / alpha)^2, df/dbeta = -x^2 E / (beta Q)^2. The backward pass
    consists of differentiable operations, so that second derivatives exist.
    """

    @staticmethod
    def forward(ctx, x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
        ctx.save_for_backward(x, alpha, beta)
        return composed(x, alpha, beta)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, alpha, beta = ctx.saved_tensors
        numerator, denominator, decay = parts(x, alpha, beta)
        by_x = by_alpha = by_beta = None
        if ctx.needs_input_grad[0] or ctx.needs_input_grad[2]:
            common = gradient * decay / denominator.square()
        if ctx.needs_input_grad[0]:
            by_x = ((1 + x / beta) * common).sum_to_size(x.shape)
        if ctx.needs_input_grad[1]:
            by_alpha = (gradient * (numerator / denominator).square()).sum_to_size(alpha.shape) / alpha.square()
        if ctx.needs_input_grad[2]:
            by_beta = -(x.square() * common).sum_to_size(beta.shape) / beta.square()
        return by_x, by_alpha, by_beta


def srs(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """SRS of x with alpha and beta that broadcast against it; half precision is computed in float32 and cast back.

    Needs 0 < alpha and 0 < beta < e alpha: elsewhere there is a pole. Nothing is checked here, for speed; `layer.SRS` keeps
    its parameters feasible. NaN gives NaN.
    """
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    return SoftRootSign.apply(wide, alpha.to(wide.dtype), beta.to(wide.dtype)).to(x.dtype)
