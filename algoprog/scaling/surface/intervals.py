"""Intervals of a surface: resample runs and refit; the profile of the irreducible loss beside it.

One draw: runs with replacement (a row is its own run where the table does not name runs), multiplicities become
weights, refit with the objective of the fit to all data from its optimum and two more starts. Percentile intervals
(Efron 1979). A and B are badly determined on their own, with heavy tails; what matters for an extrapolation (a_N,
gamma, the frontier) is determined far better.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from algoprog.scaling.errors import InputError
from algoprog.scaling.intervals.bootstrap import UNSTABLE, percentiles
from algoprog.scaling.laws import FloatArray
from algoprog.scaling.search import Status
from algoprog.scaling.surface.fit import SurfaceFit
from algoprog.scaling.surface.model import ALPHA, BETA, PARAMETERS, A, B, E
from algoprog.scaling.surface.profile import SurfaceProfile, profile_surface
from algoprog.scaling.surface.search import EXTRA, solve_surface, start_grid

Interval = tuple[float, float] | None
QUANTITIES = ("E", "A", "B", "alpha", "beta", "a_N", "b_D", "gamma")
WIDTHS_DIFFER = 1.5


@dataclass(frozen=True, eq=False)
class SurfaceBootstrap:
    """Draws of the fit: ``values`` by quantity (``QUANTITIES``), (draws,) each, NaN where a draw has no fit.

    ``intervals``: percentile interval by quantity, None without a fitted draw. Beyond 5 % of draws whose status is not
    ``converged`` the intervals are ``unstable``; those draws stay in, since leaving them out would narrow them.
    ``profile``: the profile of E, the one quantity for which both ways are computed. ``method`` in words;
    ``warnings`` are sentences.
    """

    values: Mapping[str, FloatArray]
    status: tuple[Status, ...]
    intervals: Mapping[str, Interval]
    profile: SurfaceProfile | None
    method: str
    draws: int
    seed: int
    level: float
    warnings: tuple[str, ...]

    @property
    def status_counts(self) -> dict[str, int]:
        """Number of draws by status."""
        return {name.value: count for name, count in sorted(Counter(self.status).items())}

    @property
    def not_converged(self) -> int:
        """Draws, failed ones included, whose fit did not converge."""
        return sum(name is not Status.CONVERGED for name in self.status)

    @property
    def unstable(self) -> bool:
        """True if more than 5 % of the draws did not converge."""
        return self.not_converged > UNSTABLE * self.draws

    def standard_errors(self) -> dict[str, float]:
        """Standard deviation over the fitted draws, by quantity."""
        return {name: float(np.nanstd(values, ddof=1)) for name, values in self.values.items()}


def bootstrap_surface(fit: SurfaceFit, draws: int = 1000, seed: int = 0, *, level: float = 0.95) -> SurfaceBootstrap:
    """Intervals for E, A, B, alpha, beta, a_N, b_D and gamma of ``fit`` by resampling runs, and the profile of E.

    Raises InputError for ``draws`` < 1 or a level outside (0, 1).
    """
    if draws < 1 or not 0 < level < 1:
        raise InputError("bad bootstrap", got=f"draws {draws}, level {level:g}", expected="draws >= 1, 0 < level < 1")
    times = np.random.default_rng(seed).multinomial(fit.runs, np.full(fit.runs, 1.0 / fit.runs), size=draws)
    p, status = refit(fit, times[:, fit.points.run].astype(np.float64))
    values = _quantities(fit, p)
    fitted = ~np.isnan(p[:, 0])
    intervals = {name: percentiles(column[fitted], level) for name, column in values.items()}
    profile = profile_surface(fit, level=level) if fit.surface is not None else None
    unit = "runs" if fit.n > fit.runs else "rows, each its own run"
    boot = SurfaceBootstrap(
        values, status, intervals, profile, f"bootstrap of {unit}; {draws} draws, seed {seed}", draws, seed, level, ()
    )
    return replace(boot, warnings=tuple(_warnings(boot)))


def refit(fit: SurfaceFit, w: FloatArray) -> tuple[FloatArray, tuple[Status, ...]]:
    """``fit`` with new weights of its points, ``w`` (draws, n): the solver's parameters (draws, 5) and statuses.

    NaN and ``too_few`` where a draw defines no surface.
    """
    draws = w.shape[0]
    p = np.full((draws, PARAMETERS), np.nan)
    status = [Status.TOO_FEW] * draws
    good = np.flatnonzero([fit.surface is not None and _defined(fit, row > 0) for row in w])
    if good.size:
        starts = np.vstack([fit.p, start_grid(fit.problem.y)[list(EXTRA)]])
        best = solve_surface(replace(fit.problem, w=w[good]), starts, warm=1)
        p[good] = best.p
        for i, name in zip(good, best.status, strict=True):
            status[i] = name
    return p, tuple(status)


def _defined(fit: SurfaceFit, there: FloatArray) -> bool:
    """True if the points ``there`` (n,) of a draw define a surface at all."""
    params, tokens = np.unique(fit.points.params[there]), np.unique(fit.points.tokens[there])
    return bool(there.sum() >= PARAMETERS and params.size >= 2 and tokens.size >= 2)


def _quantities(fit: SurfaceFit, p: FloatArray) -> dict[str, FloatArray]:
    alpha, beta = p[:, ALPHA], p[:, BETA]
    with np.errstate(over="ignore"):
        return {
            "E": np.exp(p[:, E]),
            "A": np.exp(p[:, A] + alpha * fit.points.n0),
            "B": np.exp(p[:, B] + beta * fit.points.d0),
            "alpha": alpha,
            "beta": beta,
            "a_N": beta / (alpha + beta),
            "b_D": alpha / (alpha + beta),
            "gamma": alpha * beta / (alpha + beta),
        }


def _warnings(boot: SurfaceBootstrap) -> list[str]:
    found = []
    failed = int(np.isnan(boot.values["E"]).sum())
    if failed:
        found.append(f"{failed} of {boot.draws} bootstrap draws had too few points for a fit.")
    if boot.unstable:
        bad = ", ".join(f"{count} {name}" for name, count in boot.status_counts.items() if name != "converged")
        found.append(
            f"The intervals are unstable: {boot.not_converged} of {boot.draws} bootstrap draws did not converge ({bad})."
        )
    drawn, profiled = boot.intervals["E"], boot.profile.interval if boot.profile else None
    if drawn and profiled:
        widths = (drawn[1] - drawn[0], profiled[1] - profiled[0])
        ratio = max(widths) / min(widths) if min(widths) > 0 else math.inf
        if ratio > WIDTHS_DIFFER:
            found.append(
                f"Bootstrap and profile disagree about E: intervals {drawn[0]:.4g} to {drawn[1]:.4g} and "
                f"{profiled[0]:.4g} to {profiled[1]:.4g} nats, widths apart by a factor of {ratio:.2g}."
            )
    return found
