"""The profile of the irreducible loss: refit everything else at each E and see how much the fit suffers.

The 95 % set is that of ``likelihood.py``: for squares ``(n - p)(Q(E)/Q_min - 1) <= F(1, n - p; .95)``, n counts runs (a
frontier of final points has one run per point).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from algoprog.scaling.errors import InputError
from algoprog.scaling.fit import FrontierFit, fit_frontiers, frontier_problem
from algoprog.scaling.frontier import sort_points
from algoprog.scaling.intervals.likelihood import likelihood
from algoprog.scaling.laws import FloatArray
from algoprog.scaling.prior import with_prior
from algoprog.scaling.search import solve_fixed


@dataclass(frozen=True, eq=False)
class IrreducibleProfile:
    """``objective`` (Q of the refit) at each ``E`` (nats per token, ascending); ``alpha`` (grid, K) there.

    ``interval`` is the profile set at ``level``, its ends interpolated between grid values; None without degrees of
    freedom. A lower end of 0 means that the set reaches the bound E = 0. ``limit``: Q at the edge of the set.
    """

    E: FloatArray
    objective: FloatArray
    alpha: FloatArray
    archs: tuple[str, ...]
    interval: tuple[float, float] | None
    level: float = 0.95
    limit: float | None = None


def profile_irreducible(
    frontier: pd.DataFrame, fit: FrontierFit | None = None, *, grid: FloatArray | None = None, level: float = 0.95
) -> IrreducibleProfile:
    """Profile E with the objective of ``fit`` (default: the shared fit of ``frontier``).

    ``grid``: values of E in nats per token, 0 <= E < lowest loss; default 400 from 0 to just below the lowest loss,
    and the fitted E itself. Raises InputError for an empty fit or a grid outside its range.
    """
    fit = fit_frontiers(frontier, "shared") if fit is None else fit
    if not fit.laws or not isinstance(fit.irreducible, str):
        raise InputError(
            "no profile", got=fit.reason if not fit.laws else f"E fixed at {fit.E}", expected="a fit with E free"
        )
    rows = sort_points(frontier[frontier["arch"].isin(fit.laws)])
    lowest = float(rows["loss"].min())
    if grid is None:
        # Denser towards the ceiling, where the objective rises steeply.
        grid = lowest * (1.0 - (1.0 - np.linspace(0.0, 0.99, 400)) ** 1.5)
    if grid.size == 0 or not (np.all(grid >= 0) and np.all(grid < lowest)):
        raise InputError("bad grid of E", expected=f"at least one value, all in 0 <= E < {lowest:.6g}")
    values = np.unique(np.append(grid, fit.E))
    one, _ = frontier_problem(rows)
    one = with_prior(replace(one, knee=fit.knee), fit.prior, fit.prior_weight)
    problem = one.take(np.zeros(values.size, dtype=np.intp))
    best = solve_fixed(problem, values)
    found = likelihood(frontier, fit, level)
    limit = None
    if found is not None:
        first = fit.archs[0]
        limit = float(best.objective.min()) + found.allowed * found.factor(lambda laws: laws[first].E)
    interval = None if limit is None else level_set(values, best.objective, limit)
    return IrreducibleProfile(values, best.objective, best.laws.alpha, fit.archs, interval, level, limit)


def level_set(e: FloatArray, q: FloatArray, limit: float) -> tuple[float, float]:
    """Lowest and highest E with Q up to ``limit``; shapes (n,), E ascending.

    Q is interpolated between the last value outside and the first inside.
    """
    inside = np.flatnonzero(q <= limit)
    ends = []
    for edge, outside in ((int(inside[0]), int(inside[0]) - 1), (int(inside[-1]), int(inside[-1]) + 1)):
        if not 0 <= outside < e.size:
            ends.append(float(e[edge]))
            continue
        part = (limit - q[edge]) / (q[outside] - q[edge])
        ends.append(float(e[edge] + part * (e[outside] - e[edge])))
    return ends[0], ends[1]
