"""Kaplan's exponent against a fitted surface: the policy through our own optimum, and the draws that give it a band."""

from __future__ import annotations

import math

import numpy as np

from algoprog.scaling.allocation import AllocationGain, Policy
from algoprog.scaling.intervals.bootstrap import percentiles
from algoprog.scaling.laws import FloatArray
from algoprog.scaling.published.optimal_size import kaplan_exponent
from algoprog.scaling.surface.law import Surface
from algoprog.scaling.surface.study import SurfaceAnalysis


def our_policy(surface: Surface, low: float, high: float) -> Policy:
    """Kaplan's exponent through our optimum in the middle, in ln C, of ``low`` to ``high`` FLOPs."""
    centre = math.sqrt(low * high)
    return Policy.through(surface.optimal(centre)[0], centre, kaplan_exponent())


def drawn_surfaces(found: SurfaceAnalysis) -> list[Surface]:
    """The surface of every bootstrap draw that has one."""
    values = found.boot.values
    rows = np.column_stack([values[name] for name in ("E", "A", "B", "alpha", "beta")])
    rows = rows[np.isfinite(rows).all(axis=1) & (rows[:, 1:] > 0).all(axis=1) & (rows[:, 0] >= 0)]
    k = found.fit.points.flops_per_param_token
    return [Surface(e, a, b, alpha, beta, k) for e, a, b, alpha, beta in rows.tolist()]


def waste_band(found: SurfaceAnalysis, policy: Policy, grid: FloatArray) -> tuple[FloatArray, FloatArray] | None:
    """Pointwise interval of the factor of compute that ``policy`` wastes, at ``grid`` FLOPs spent under it, (n,) each.

    Over the draws of the surface; the policy is a choice and stays. None without a draw.
    """
    drawn = [AllocationGain(surface, policy).log_old(np.log(grid)) for surface in drawn_surfaces(found)]
    if not drawn:
        return None
    ends = [percentiles(column, found.boot.level) for column in np.exp(np.array(drawn)).T]
    lows, highs = zip(*(end for end in ends if end is not None), strict=True)
    return np.array(lows), np.array(highs)
