"""BCa intervals: bootstrap percentiles corrected for bias and skewness, for comparison with the percentiles themselves."""

from __future__ import annotations

import numpy as np
import pandas as pd

from algoprog.scaling.fit import FrontierFit
from algoprog.scaling.frontier import BUDGET_TOLERANCE, sort_points
from algoprog.scaling.intervals.bootstrap import Bootstrap, refit_samples
from algoprog.scaling.intervals.resample import cluster_sample
from algoprog.scaling.laws import FloatArray


def leave_one_out(
    points: pd.DataFrame, fit: FrontierFit, *, tolerance: float = BUDGET_TOLERANCE, level: float = 0.95
) -> Bootstrap:
    """The refits without each run in turn, as a Bootstrap with one "draw" per run: what :func:`bca` needs."""
    parts = [sort_points(points[points["arch"] == arch]) for arch in fit.archs]
    total = sum(len(rows) for rows in parts)
    samples, first = [], 0
    for rows in parts:
        counts = np.ones((total, len(rows)))
        counts[first + np.arange(len(rows)), np.arange(len(rows))] = 0.0
        samples.append(cluster_sample(rows, tolerance, counts))
        first += len(rows)
    return refit_samples(fit, samples, {arch: "leave one run out" for arch in fit.archs}, total, 0, level)


def bca(values: FloatArray, estimate: float, jackknife: FloatArray, level: float = 0.95) -> tuple[float, float] | None:
    """Bias-corrected and accelerated percentiles (Efron 1987) of the draws ``values``, shape (n,).

    ``jackknife``: the quantity without each run. None without a draw, or where all draws lie on one side of
    ``estimate``, which leaves the bias undefined.
    """
    below = float(np.mean(values < estimate) + 0.5 * np.mean(values == estimate)) if values.size else 0.0
    if not 0.0 < below < 1.0:
        return None
    from scipy.special import ndtr, ndtri  # imported here: scipy is slow to import

    about = np.mean(jackknife) - jackknife
    size = float(np.sum(about**2))
    acceleration = float(np.sum(about**3)) / (6.0 * size**1.5) if size > 0 else 0.0
    bias, ends = float(ndtri(below)), []
    for tail in (0.5 * (1.0 - level), 0.5 * (1.0 + level)):
        z = bias + float(ndtri(tail))
        ends.append(float(ndtr(bias + z / (1.0 - acceleration * z))))
    low, high = np.quantile(values, ends)
    return float(low), float(high)
