"""Instance discriminant analysis: how much class separability is lost when a point is deleted (section 3.5).

    DI = tr((S + rho I)^-1 S_B),   S = sum_i (z_i - mu)(z_i - mu)',   S_B = sum_c n_c (mu_c - mu)(mu_c - mu)'

of points z projected on principal components, with pseudo-labels. Scatter sums, not averages. The score of a point is
(DI - DI without it) / (N - 1): the more is lost, the more credible the point. The official code divides by the number of
classes present, which changes when a class's only point goes; here N is the task's number of classes.

Deleting z of class y changes S by -a d d' and S_B by a rank-two term, where d = z - mu, e = z - mu_y, a = n / (n - 1) and
b = n_y / (n_y - 1) (0 for a class's only point). With A = S + rho I,  q = d'A^-1 d,  g = d'A^-1 S_B A^-1 d,
h = e'A^-1 e  and  m = e'A^-1 d, DI without z is DI + (a g - a q) / (1 - a q) + b (h + a m^2 / (1 - a q)): no matrix is
inverted twice. `stages.lib.dependence` has the scatters as averages over the points, and so rho / n and A / n. All in float64,
for T tasks side by side.
"""

import torch
from torch import Tensor

from stages.lib import dependence
from stages.lib.errors import StageError


def principal(features: Tensor, components: int) -> Tensor:
    """Centred features (T, n, d) projected on their `components` largest principal axes, (T, n, k) in float64.

    By the smaller of the Gram and the covariance matrix. StageError for more components than n - 1 or d.
    """
    count, width = features.shape[1:]
    if components > min(count - 1, width):
        raise StageError(
            f"rounds.components={components}: {count} points of {width} features give at most {min(count - 1, width)}"
        )
    shifted = features.double()
    shifted = shifted - shifted.mean(1, keepdim=True)
    if count <= width:
        values, vectors = torch.linalg.eigh(shifted @ shifted.transpose(1, 2))  # ascending
        return vectors[..., -components:].flip(2) * values[:, None, -components:].flip(2).clamp_min(0).sqrt()
    _, vectors = torch.linalg.eigh(shifted.transpose(1, 2) @ shifted)
    return shifted @ vectors[..., -components:].flip(2)


def separability(points: Tensor, labels: Tensor, ways: int, rho: float) -> Tensor:
    """Unnormalised DI (T,) of points (T, n, k) in float64 and labels (T, n)."""
    return dependence.information(points, [_balanced(_hot(labels, ways))], rho / points.shape[1])[0]


def scores(points: Tensor, labels: Tensor, ways: int, rho: float) -> Tensor:
    """(DI - DI without point i) / (N - 1), (T, n), by the closed form."""
    count, hot = points.shape[1], _hot(labels, ways)
    between = dependence.between(points, _balanced(hot))
    factor = dependence.ridge_factor(dependence.scatter(points), rho / count)
    sizes = hot.sum(1)  # (T, N)
    means = (hot.transpose(1, 2) @ points) / sizes.clamp_min(1).unsqueeze(2)
    d = points - points.mean(1, keepdim=True)
    e = points - torch.gather(means, 1, labels.unsqueeze(2).expand_as(points))
    own = torch.gather(sizes, 1, labels)
    a, b = count / (count - 1), torch.where(own > 1, own / (own - 1).clamp_min(1), 0.0)
    solved, within = (torch.cholesky_solve(part.transpose(1, 2), factor).transpose(1, 2) / count for part in (d, e))
    q, g = (d * solved).sum(2), count * ((solved @ between) * solved).sum(2)
    h, m = (e * within).sum(2), (e * solved).sum(2)
    rest = 1 - a * q
    return -((a * g - a * q) / rest + b * (h + a * m.square() / rest)) / (ways - 1)


def _hot(labels: Tensor, ways: int) -> Tensor:
    return torch.nn.functional.one_hot(labels, ways).double()


def _balanced(hot: Tensor) -> Tensor:
    """Balanced labels (T, n, N); a class without points is a column of zeros and adds nothing. Points are centred anyway."""
    return hot / hot.sum(1, keepdim=True).clamp_min(1).sqrt()
