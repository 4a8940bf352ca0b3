"""The profile of a surface's irreducible loss: refit everything else at each E and see how much the fit suffers.

The set at a level holds the E whose statistic does not exceed F(1, m - 5), m the number of runs:

* squares: ``(m - 5)(Q(E)/Q_min - 1)``;
* Huber: ``2 (Q(E) - Q_min) sum h'' / sum psi^2``, n - 5 points of freedom, divided by the points per run (Schrader &
  Hettmansperger 1980): the same statistic for squares, and right for errors that are not normal;
* absolute values: ``2 m ln(S(E)/S_min)`` against chi2(1), the likelihood ratio of Laplace errors.

Points of one run are not independent, so m counts runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from algoprog.scaling.errors import InputError
from algoprog.scaling.intervals.profile import level_set
from algoprog.scaling.laws import FloatArray
from algoprog.scaling.surface.fit import SurfaceFit, surface_of
from algoprog.scaling.surface.model import PARAMETERS, residuals
from algoprog.scaling.surface.search import EXTRA, solve_surface, start_grid

GRID = 41
ROUNDS = 3  # the grid is laid anew around the set, each time finer


@dataclass(frozen=True, eq=False)
class SurfaceProfile:
    """At each ``E`` (nats per token, ascending): ``objective`` Q of the refit, and ``alpha``, ``beta``, ``a_N``,
    ``gamma`` there; all (grid,). ``interval``: the set at ``level``, None without degrees of freedom; a lower end
    equal to the lowest E of the grid means that the set reaches the bound."""

    E: FloatArray
    objective: FloatArray
    alpha: FloatArray
    beta: FloatArray
    a_N: FloatArray
    gamma: FloatArray
    interval: tuple[float, float] | None
    level: float


def profile_surface(fit: SurfaceFit, *, grid: FloatArray | None = None, level: float = 0.95) -> SurfaceProfile:
    """Profile E with the objective of ``fit``.

    ``grid``: values in nats, 0 < E < lowest loss; default: 41 values, laid anew twice around the set at ``level``.
    Raises InputError for a fit without a surface or a grid outside its range.
    """
    lowest = float(fit.points.loss.min())
    if fit.surface is None:
        raise InputError("no profile", got=fit.reason, expected="a fitted surface")
    if grid is not None:
        if grid.size == 0 or not (np.all(grid > 0) and np.all(grid < lowest)):
            raise InputError("bad grid of E", expected=f"at least one value, all in 0 < E < {lowest:.6g}")
        return _profile(fit, np.unique(grid), level)
    low, high = 1e-3 * lowest, (1.0 - 1e-4) * lowest
    for _ in range(ROUNDS):
        profile = _profile(fit, np.unique(np.append(np.linspace(low, high, GRID), fit.surface.E)), level)
        if profile.interval is None:
            break
        # One old grid step of room on both sides, so that the ends stay inside.
        room = (high - low) / (GRID - 1)
        low, high = max(low, profile.interval[0] - room), min(high, profile.interval[1] + room)
    return profile


def _profile(fit: SurfaceFit, e: FloatArray, level: float) -> SurfaceProfile:
    problem = fit.problem.take(np.zeros(e.size, dtype=np.intp))
    starts = np.vstack([fit.p, start_grid(fit.problem.y)[list(EXTRA)]])
    best = solve_surface(problem, starts, warm=1, e=np.log(e))
    surfaces = [surface_of(p, fit.points) for p in best.p]
    alpha, beta, a_n, gamma = (
        np.array([getattr(surface, name) for surface in surfaces]) for name in ("alpha", "beta", "a_N", "gamma")
    )
    return SurfaceProfile(e, best.objective, alpha, beta, a_n, gamma, _level_set(fit, e, best.objective, level), level)


def _level_set(fit: SurfaceFit, e: FloatArray, q: FloatArray, level: float) -> tuple[float, float] | None:
    """Lowest and highest E of the set; None without degrees of freedom."""
    if fit.runs <= PARAMETERS:
        return None
    return level_set(e, q, _allowed(fit, float(q.min()), level))


def _allowed(fit: SurfaceFit, lowest: float, level: float) -> float:
    """The Q up to which an E belongs to the set."""
    # Imported here: scipy costs as much to import as the rest of this folder together.
    from scipy.special import chdtri, fdtri  # type: ignore[import-untyped, unused-ignore]

    if fit.loss in ("lad", "quantile"):
        return lowest * float(np.exp(chdtri(1.0, 1.0 - level) / (2.0 * fit.runs)))
    freedom = fit.runs - PARAMETERS
    critical = float(fdtri(1.0, float(freedom), level))
    if fit.delta is None:
        return lowest * (1.0 + critical / freedom)
    z = residuals(fit.p[None], fit.problem)[0]
    psi = np.clip(z, -fit.delta, fit.delta)
    straight = float(np.sum(np.abs(z) <= fit.delta))
    scale = float(psi @ psi) * fit.n / ((fit.n - PARAMETERS) * max(straight, 1.0))
    return lowest + 0.5 * critical * scale * fit.points_per_run
