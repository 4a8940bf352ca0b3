"""Intervals of slices and of the allocation: resample runs, redo the surface's shape, the slices and the line.

Runs are drawn with replacement within their budget where it holds at least 3 of them, so that every draw has every
budget; runs that supply points to several budgets are drawn as wholes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from algoprog.scaling.errors import InputError
from algoprog.scaling.intervals.bootstrap import BUDGET_RUNS, UNSTABLE, percentiles
from algoprog.scaling.isoflop.checks import LEAST_SIZES
from algoprog.scaling.isoflop.slices import Isoflop, adjusted_loss
from algoprog.scaling.isoflop.vertex import find_vertices, weighted_line
from algoprog.scaling.laws import FloatArray
from algoprog.scaling.surface.intervals import refit
from algoprog.scaling.surface.model import ALPHA, BETA

Interval = tuple[float, float] | None


@dataclass(frozen=True, eq=False)
class IsoflopBootstrap:
    """Draws over the used slices in their order: ``log_params`` (ln N*) and ``loss`` (L*), (draws, slices), NaN where a
    draw has no usable minimum; ``a`` and ``log_coefficient`` of the allocation (draws,), NaN below two slices.

    ``intervals``: percentile intervals of ``a``, the exponent of N*, and ``b``, of D*. ``failed`` draws have no
    allocation; beyond 5 % the intervals are ``unstable``.
    """

    log_params: FloatArray
    loss: FloatArray
    a: FloatArray
    log_coefficient: FloatArray
    intervals: dict[str, Interval]
    method: str
    draws: int
    seed: int
    level: float

    @property
    def failed(self) -> int:
        """Draws without an allocation."""
        return int(np.isnan(self.a).sum())

    @property
    def unstable(self) -> bool:
        """True if more than 5 % of the draws have no allocation."""
        return self.failed > UNSTABLE * self.draws

    def params_interval(self, index: int) -> Interval:
        """Interval of N* of the used slice ``index``."""
        column = self.log_params[:, index]
        ends = percentiles(column[~np.isnan(column)], self.level)
        return None if ends is None else (float(np.exp(ends[0])), float(np.exp(ends[1])))


def bootstrap_isoflop(found: Isoflop, draws: int = 1000, seed: int = 0, *, level: float = 0.95) -> IsoflopBootstrap:
    """Resample the runs behind ``found``. Raises InputError for ``draws`` < 1 or a level outside (0, 1)."""
    if draws < 1 or not 0 < level < 1:
        raise InputError("bad bootstrap", got=f"draws {draws}, level {level:g}", expected="draws >= 1, 0 < level < 1")
    w, method = _weights(found, draws, np.random.default_rng(seed))
    shape = _shapes(found, w)
    log_params, losses = [], []
    data = found.points
    surface = None if found.surface is None else found.surface.surface
    moved = adjusted_loss(data, found.groups, surface) if found.method == "shape" and surface is not None else data.loss
    for g, one in enumerate(found.slices):
        if one.used:
            mine = found.groups == g
            at, low = _slice_draws(np.log(data.params[mine]), moved[mine], w[:, mine], shape)
            log_params.append(at)
            losses.append(low)
    used = found.used
    n_star = np.array(log_params).reshape(len(used), draws).T
    l_star = np.array(losses).reshape(len(used), draws).T
    errors = np.array([s.standard_error for s in used])
    weight = errors**-2.0 if np.isfinite(errors).all() and (errors > 0).all() else np.ones(len(used))
    there = ~np.isnan(n_star)
    slope, intercept = weighted_line(
        np.log([s.flops for s in used]), np.where(there, n_star, 0.0), np.where(there, weight, 0.0)
    )
    ends = percentiles(slope[~np.isnan(slope)], level)
    intervals: dict[str, Interval] = {"a": ends, "b": None if ends is None else (1.0 - ends[1], 1.0 - ends[0])}
    text = f"{method}; {draws} draws, seed {seed}"
    return IsoflopBootstrap(n_star, l_star, slope, intercept, intervals, text, draws, seed, level)


def _weights(found: Isoflop, draws: int, rng: np.random.Generator) -> tuple[FloatArray, str]:
    """Multiplicity of every point in every draw, (draws, n), and the way in words."""
    run, groups = found.points.run, found.groups
    runs = found.points.n_runs
    budgets = np.array([np.unique(groups[run == r]).size for r in range(runs)]) if runs < run.size else np.ones(runs)
    if budgets.max() > 1:
        times = rng.multinomial(runs, np.full(runs, 1.0 / runs), size=draws)
        return times[:, run].astype(np.float64), "bootstrap of runs"
    owner = np.empty(runs, dtype=np.intp)
    owner[run] = groups
    stratum = np.where(np.bincount(owner)[owner] >= BUDGET_RUNS, owner, -1)
    times = np.zeros((draws, runs), dtype=np.int64)
    for name in np.unique(stratum):
        members = np.flatnonzero(stratum == name)
        times[:, members] = rng.multinomial(members.size, np.full(members.size, 1.0 / members.size), size=draws)
    return times[:, run].astype(np.float64), "bootstrap of runs within budgets"


def _shapes(found: Isoflop, w: FloatArray) -> FloatArray | None:
    """alpha and beta of every draw, (draws, 2); None for the parabola."""
    if found.method == "parabola" or found.shape is None:
        return None
    if found.surface is None:  # the surface was given: its shape is not part of this sample
        return np.tile(found.shape, (w.shape[0], 1))
    p, _ = refit(found.surface, w)
    drawn = p[:, [ALPHA, BETA]]
    return np.where(np.isnan(drawn), np.array(found.shape), drawn)


def _slice_draws(
    x: FloatArray, loss: FloatArray, w: FloatArray, shape: FloatArray | None
) -> tuple[FloatArray, FloatArray]:
    """ln N* and L* of one slice in every draw, NaN without 3 sizes, a minimum, or a best run inside the range."""
    vertex = find_vertices(x, np.broadcast_to(loss, w.shape), w, shape)
    there = w > 0
    best = x[np.argmin(np.where(there, loss, np.inf), axis=1)]
    low = np.min(np.where(there, x, np.inf), axis=1)
    high = np.max(np.where(there, x, -np.inf), axis=1)
    sizes = sum((there[:, x == value].any(axis=1).astype(int) for value in np.unique(x)), np.zeros(w.shape[0], int))
    good = (sizes >= LEAST_SIZES) & (best > low) & (best < high)
    nan = np.where(good, 0.0, np.nan)
    return vertex.log_params + nan, vertex.loss + nan
