"""A Gaussian process of the scores of policies, and expected improvement (Mockus; Jones et al. 1998)."""

import math
import warnings

import numpy
from numpy.typing import NDArray

from stages.papers.multi_dimensional_vit_compression.settings import Search

DIGITS = 9  # of expected improvements that are compared: further ones are the linear algebra's rounding


def expected_improvement(mean: NDArray, deviation: NDArray, best: float) -> NDArray:
    """E max(f - best, 0) for normal f: (mean - best) Phi(z) + deviation phi(z), z = (mean - best) / deviation.

    0 where the deviation is 0. The official code's guard of that case does nothing, and one of its two maximisers
    minimises this.
    """
    from scipy.special import ndtr  # scipy.stats takes as long to import as torch

    gain, uncertain = mean - best, deviation > 0.0
    z = numpy.divide(gain, deviation, out=numpy.zeros_like(gain), where=uncertain)
    density = numpy.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return numpy.where(uncertain, numpy.maximum(gain * ndtr(z) + deviation * density, 0.0), 0.0)


def acquisition(points: NDArray, scores: NDArray, pool: NDArray, settings: Search, seed: int) -> NDArray:
    """[C] expected improvement over the best score of candidates [C, D], from points [P, D] in [0, 1] and scores [P].

    Kernel: Matern with nu 1.5 and one length scale, fitted by maximum likelihood.
    """
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import Matern
    from threadpoolctl import threadpool_limits

    model = GaussianProcessRegressor(
        Matern(nu=1.5), alpha=settings.jitter, n_restarts_optimizer=settings.restarts, normalize_y=settings.normalise,
        random_state=seed % 2**32,
    )  # fmt: skip
    # Threads add in another order; a length scale at its bound is no failure.
    with threadpool_limits(1, "blas"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(points, scores)
        mean, deviation = model.predict(pool, return_std=True)
    return expected_improvement(mean, deviation, float(scores.max())).round(DIGITS)
