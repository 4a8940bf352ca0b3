"""The frontier as it would be if every run on it had been made at the optimal learning rate of its search."""

from __future__ import annotations

import numpy as np
import pandas as pd

from algoprog.scaling.tuning.optimum import find_optima

NEEDED = ("arch", "width", "flops", "loss", "lr")


def at_optimal_rates(points: pd.DataFrame, frontier: pd.DataFrame, tolerance: float) -> pd.DataFrame | None:
    """``frontier`` with every loss lowered by what its search left on the table; None where no search found an optimum.

    ``points``: all finished runs; a row of the frontier belongs to the search of its architecture and width whose budget
    holds its FLOPs within ``tolerance``.
    """
    if not all(name in points and name in frontier for name in NEEDED):
        return None
    known = points[np.isfinite(points[["width", "lr"]].to_numpy(dtype=np.float64)).all(axis=1)]
    if known.empty:
        return None
    optima = [one for one in find_optima(known, tolerance) if one.left is not None]
    moved = frontier.copy()
    for one in optima:
        flops = moved["flops"]
        here = (moved["arch"] == one.arch) & (moved["width"] == one.width)
        here &= (flops >= one.flops) & (flops <= one.flops * (1 + tolerance))
        moved["loss"] = moved["loss"] - here * (one.left or 0.0)
    return moved if optima else None
