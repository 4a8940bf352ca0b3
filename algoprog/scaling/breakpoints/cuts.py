"""Fit the points up to a cut and predict every later one: all cuts of many data sets at once.

Shapes: n points, B data sets that share their compute, K cuts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from algoprog.scaling.breakpoints.one_law import PARAMETERS, OneLawFits, fit_one_law, leverage
from algoprog.scaling.laws import FloatArray

FEWEST = PARAMETERS + 1  # points that a cut needs for a residual scale
COUNTING = PARAMETERS + 2  # points below which a law is too few to count, however narrow it happens to be
LEVEL = 0.95
SMALLEST_SCALE = 1e-12  # of ln L: noise below rounding


def cut_sizes(log_flops: FloatArray) -> list[int]:
    """Numbers of points, ascending, after which a cut is made: at least four, and never between equal FLOPs."""
    n = log_flops.size
    return [k for k in range(FEWEST, n) if log_flops[k] > log_flops[k - 1] and np.unique(log_flops[:k]).size >= FEWEST]


@dataclass(frozen=True)
class Walk:
    """K cuts of B data sets.

    ``error``, ``half_width`` (ln L), ``flagged`` and ``counted`` have shape (K, B, n) and are 0, ``inf`` or False up to
    the cut; ``fits`` holds one fit per cut. ``step`` (B, K): one-step errors over their standard deviation, sigma taken
    from the fit to all points, so that they are independent with unit variance under the law.
    """

    fits: tuple[OneLawFits, ...]
    error: FloatArray
    half_width: FloatArray
    flagged: NDArray[np.bool_]
    counted: NDArray[np.bool_]
    step: FloatArray

    @property
    def flags(self) -> NDArray[np.intp]:
        """Number of flags over all cuts, per data set (B,)."""
        return np.asarray(self.flagged.sum(axis=(0, 2)))


def walk_cuts(log_flops: FloatArray, log_loss: FloatArray, sizes: list[int], tolerance: float) -> Walk:
    """Walk the cuts after ``sizes`` points of every row of ``log_loss`` (B, n); ``tolerance`` of a counted half-width."""
    # Imported here: scipy costs as much to import as the rest of this folder together.
    from scipy.special import stdtrit

    batch, n = log_loss.shape
    shape = (len(sizes), batch, n)
    error, half_width = np.zeros(shape), np.full(shape, np.inf)
    scale = fit_one_law(log_flops, log_loss).sigma(n)
    fits, step = [], np.zeros((batch, len(sizes)))
    for i, k in enumerate(sizes):
        fit = fit_one_law(log_flops[:k], log_loss[:, :k])
        spread = np.sqrt(1.0 + leverage(fit, log_flops[:k], log_flops[k:]))
        error[i, :, k:] = log_loss[:, k:] - fit.predict(log_flops[k:])
        quantile = float(stdtrit(k - PARAMETERS, 0.5 * (1.0 + LEVEL)))
        # A fit through its points to rounding and an unknown direction give 0 times inf: nothing is known there.
        with np.errstate(invalid="ignore"):
            half_width[i, :, k:] = quantile * np.nan_to_num(fit.sigma(k)[:, None] * spread, nan=np.inf, posinf=np.inf)
        step[:, i] = error[i, :, k] / (np.maximum(scale, SMALLEST_SCALE) * spread[:, 0])
        fits.append(fit)
    later = np.arange(n) >= np.asarray(sizes)[:, None, None]
    enough = np.asarray(sizes)[:, None, None] >= COUNTING
    counted = np.logical_and.accumulate((half_width < tolerance) | ~later, axis=2) & later & enough
    return Walk(tuple(fits), error, half_width, np.abs(error) > half_width, counted, step)
