"""Does a surface describe its runs? Its misses of repeated runs' means against the differences between the repeats.

The classical test of lack of fit: with m cells of equal N and D, ``SS_pure`` the squares of n values of ln L about their
cell's mean and RSS those about the surface, ``F = [(RSS - SS_pure)/(m - 5)]/[SS_pure/(n - m)]`` on m - 5 and n - m degrees of
freedom (Draper & Smith 1998, Applied Regression Analysis, section 2.1). The surface is fitted by Huber's function and not by
least squares, whose RSS is a little smaller, so p is a little too small: in 200 simulations of 15 cells of two runs of a true
surface it was below .05 in 8.5 % and below .01 in 1.5 %.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from algoprog.scaling.surface.fit import SurfaceFit
from algoprog.scaling.surface.model import PARAMETERS


@dataclass(frozen=True)
class LackOfFit:
    """``misses``: root mean square distance of the means of the ``cells`` from the surface, over their ``runs``; ``repeats``:
    sd among repeats; both of ln L. ``f``: the statistic; ``p``: its tail probability where the surface holds.
    """

    misses: float
    repeats: float
    f: float
    p: float
    cells: int
    runs: int


def lack_of_fit(fit: SurfaceFit) -> LackOfFit | None:
    """The test for the points of ``fit``; None without a surface, without repeats that differ, or with fewer than 6 cells."""
    surface, data = fit.surface, fit.points
    if surface is None:
        return None
    # Imported here: scipy costs as much to import as the rest of this folder together.
    from scipy.special import fdtrc  # type: ignore[import-untyped, unused-ignore]

    log_loss = np.log(data.loss)
    _, cell = np.unique(np.column_stack([data.params, data.tokens]), axis=0, return_inverse=True)
    cell = cell.reshape(-1)
    size = np.bincount(cell)
    pure = float(np.sum((log_loss - (np.bincount(cell, weights=log_loss) / size)[cell]) ** 2))
    rss = float(np.sum((log_loss - np.log(surface.loss(data.params, data.tokens))) ** 2))
    above, below = size.size - PARAMETERS, log_loss.size - size.size
    if above <= 0 or below <= 0 or pure <= 0:
        return None
    missed, noise = max(rss - pure, 0.0), pure / below
    f = missed / above / noise
    p = float(fdtrc(float(above), float(below), f))
    runs = int(log_loss.size)
    return LackOfFit(math.sqrt(missed / runs), math.sqrt(noise), f, p, int(size.size), runs)
