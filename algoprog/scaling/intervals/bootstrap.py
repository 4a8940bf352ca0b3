"""Intervals: resample runs, redo all that was chosen by looking at the data, refit.

Per architecture, one of two ways (``resample.py`` says how a draw is made):

* *cluster*: where every run has its budget to itself and there are at least 8. Architectures whose runs match one to
  one (same budgets and seeds) are resampled in pairs: they saw the same data.
* *parametric* (else): new noise of the fitted scale on every run, near-ties compete again. Noise of matched runs is
  correlated as the frontier residuals are (``correlation.py``).

Budgets with several runs are resampled only on request. Different widths: resampling would exchange designs and not
noise. Repeats of one design: the lowest of three drawn from three has too little spread, and its intervals cover .89 to
.90. The parametric scale is that of a run, not of the lowest of several (``run_scale``): without that step near-ties are
counted twice, their noise shrinks twice, and intervals come out up to a third too narrow.

Intervals are percentiles of the draws, and these are the headline. Over two, three and four decades, with realistic noise,
they cover 93 to 97 % of simulated sweeps, the profile likelihood beside them 91 to 96 %. ``bca.py`` is there for
comparison: it corrects for a bias of the draws, of which little is left, and covers 90 to 95 %.
All of it is in ``docs/coverage.md``, made by ``benchmarks/coverage.py``.

Each draw redoes budgets, frontier and fit, with the objective (and knee) of the fit to all data. E is estimated anew in
every draw unless it is fixed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from algoprog.scaling.errors import InputError
from algoprog.scaling.fit import MIN_POINTS, FrontierFit, Irreducible, Objective, fit_frontiers, solve_problem
from algoprog.scaling.frontier import BUDGET_TOLERANCE, budget_groups, final_frontier, sort_points
from algoprog.scaling.intervals.correlation import MATCH, NO_KEY, shared_noise, with_matches
from algoprog.scaling.intervals.resample import (
    BUDGET_RUNS,
    Sample,
    cluster_sample,
    draw_counts,
    draw_sigma,
    parametric_sample,
)
from algoprog.scaling.laws import FloatArray, LogLaw
from algoprog.scaling.search import Status
from algoprog.scaling.solve import Prior, Problem

__all__ = ["BUDGET_RUNS", "UNSTABLE", "Bootstrap", "Method", "bootstrap", "percentiles", "refit_samples"]

Method = Literal["auto", "cluster", "parametric"]

CLUSTER_RUNS = 8  # fewer runs of an architecture: parametric
UNSTABLE = 0.05


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """Draws of the fit. Column k of ``log_a`` and ``alpha``, shape (draws, K), belongs to ``archs[k]``; ``E`` is
    (draws,).

    ``log_a`` refers to ``C0`` of the fit to all data, so draws compare. A failed draw (an architecture with fewer
    than 3 budgets on its frontier) is NaN throughout and ``too_few`` in ``status``. ``not_converged`` counts every
    status but ``converged``, failed draws included; beyond 5 % of the draws the intervals are ``unstable``. Draws
    that hit a bound stay in the intervals: leaving them out would narrow them. ``method`` says per architecture how
    draws were made.
    """

    archs: tuple[str, ...]
    log_c0: FloatArray
    E: FloatArray
    log_a: FloatArray
    alpha: FloatArray
    status: tuple[Status, ...]
    method: Mapping[str, str]
    draws: int
    seed: int
    level: float

    @property
    def status_counts(self) -> dict[str, int]:
        """Number of draws by status."""
        return {name.value: count for name, count in sorted(Counter(self.status).items())}

    @property
    def failed(self) -> int:
        """Draws without a fit."""
        return int(np.isnan(self.E).sum())

    @property
    def not_converged(self) -> int:
        """Draws, failed ones included, whose fit did not converge."""
        return sum(name is not Status.CONVERGED for name in self.status)

    @property
    def unstable(self) -> bool:
        """True if more than 5 % of the draws did not converge."""
        return self.not_converged > UNSTABLE * self.draws

    def law(self, arch: str) -> LogLaw:
        """The law of ``arch`` in every fitted draw, as vectors of equal length."""
        k, fitted = self.archs.index(arch), ~np.isnan(self.E)
        e = self.E[fitted]
        return LogLaw(e, self.log_a[fitted, k], self.alpha[fitted, k], np.full(e.size, self.log_c0[k]))

    def describe(self, *archs: str) -> str:
        """How the intervals were made, in words, for the architectures named."""
        how = " and ".join(sorted({self.method[arch] for arch in archs}))
        return f"{how}; {self.draws} draws, seed {self.seed}" + (", unstable" if self.unstable else "")


def percentiles(values: FloatArray, level: float = 0.95) -> tuple[float, float] | None:
    """The central ``level`` interval of ``values``, shape (n,); infinite values are allowed, None if there are none.

    Ends are values that occurred, the next one outwards: no interpolation between a number and infinity. NaN (a draw
    that says nothing) counts against both ends.
    """
    if values.size == 0:
        return None
    low = np.sort(np.where(np.isnan(values), -np.inf, values))
    high = np.sort(np.where(np.isnan(values), np.inf, values))
    tail = 0.5 * (1.0 - level) * (values.size - 1)
    return float(low[int(np.floor(tail))]), float(high[int(np.ceil(values.size - 1 - tail))])


def bootstrap(
    points: pd.DataFrame,
    irreducible: Irreducible = "shared",
    draws: int = 1000,
    seed: int = 0,
    *,
    level: float = 0.95,
    tolerance: float = BUDGET_TOLERANCE,
    loss: Objective = "auto",
    method: Method = "auto",
    fit: FrontierFit | None = None,
) -> Bootstrap:
    """Run-level bootstrap of frontier and fit.

    ``points``: one row per finished run with ``arch, flops, loss``, all of them, not only the frontier.
    ``irreducible``, ``loss`` and ``tolerance`` as in ``fit_frontiers`` and ``final_frontier``; ``fit``: the fit to all
    data, if at hand, made with the same arguments. ``method``: ``auto`` goes by the runs (module docstring),
    ``cluster`` or ``parametric`` holds for all architectures. Deterministic for a ``seed``, and independent of the
    order of rows.

    Raises InputError for malformed points or ``draws < 1``; what the data do is told by the statuses of the draws.
    """
    if draws < 1 or not 0 < level < 1:
        raise InputError("bad bootstrap", got=f"draws {draws}, level {level}", expected="draws >= 1 and 0 < level < 1")
    if method not in ("auto", "cluster", "parametric"):
        raise InputError("unknown bootstrap method", got=method, expected="auto, cluster or parametric")
    if fit is None:
        fit = fit_frontiers(final_frontier(points, tolerance), irreducible, loss=loss)
    table = with_matches(sort_points(points), tolerance)
    samples, how = _draw_samples(table, fit, method, tolerance, draws, np.random.default_rng(seed))
    return refit_samples(fit, samples, how, draws, seed, level)


def _draw_samples(
    table: pd.DataFrame, fit: FrontierFit, method: Method, tolerance: float, draws: int, rng: np.random.Generator
) -> tuple[list[Sample], dict[str, str]]:
    """The draws of every architecture with a law, and how they were made; ``table`` from :func:`with_matches`."""
    sigma = draw_sigma(fit, draws, rng)
    frontier = final_frontier(table, tolerance)
    rho = shared_noise(frontier[frontier["arch"].isin(fit.laws)], fit).rho if fit.laws else 0.0
    common = rng.standard_normal((draws, int(table[MATCH].max()) + 1)) if rho > 0 else np.zeros((draws, 0))
    samples: list[Sample] = []
    how: dict[str, str] = {}
    counts: dict[tuple[int, ...], FloatArray] = {}
    for arch in fit.archs:
        rows = sort_points(table[table["arch"] == arch])
        keys = rows[MATCH].to_numpy(dtype=np.intp)
        groups = budget_groups(rows["flops"].to_numpy(dtype=np.float64), tolerance)
        alone = np.unique(groups).size == groups.size
        if method == "cluster" or (method == "auto" and alone and len(rows) >= CLUSTER_RUNS):
            # Equal keys in equal order are drawn in pairs; without a seed every architecture by itself.
            pair = tuple(keys.tolist()) if alone and (keys >= 0).all() else (NO_KEY, len(samples))
            if pair not in counts:
                counts[pair] = draw_counts(groups, draws, rng)
            samples.append(cluster_sample(rows, tolerance, counts[pair]))
            how[arch] = "cluster bootstrap of runs" + ("" if alone else " within budgets")
        else:
            noise = rng.standard_normal((draws, len(rows)))
            if rho > 0:
                noise[:, keys >= 0] *= np.sqrt(1.0 - rho)
                noise[:, keys >= 0] += np.sqrt(rho) * common[:, keys[keys >= 0]]
            samples.append(parametric_sample(rows, fit, arch, tolerance, sigma, noise))
            how[arch] = f"parametric bootstrap ({len(rows)} runs of {arch})"
    return samples, how


def refit_samples(
    fit: FrontierFit, samples: list[Sample], method: Mapping[str, str], draws: int, seed: int, level: float
) -> Bootstrap:
    """Fit every draw that has at least 3 frontier points of every architecture."""
    k = len(samples)
    log_c0 = np.array([np.log(fit.laws[arch].C0) for arch in fit.archs])
    e, log_a, alpha = np.full(draws, np.nan), np.full((draws, k), np.nan), np.full((draws, k), np.nan)
    status = [Status.TOO_FEW] * draws
    good = np.ones(draws, dtype=bool) if samples else np.zeros(draws, dtype=bool)
    for sample in samples:
        good &= (sample.weight > 0).sum(axis=1) >= MIN_POINTS
    index = np.flatnonzero(good)
    if index.size:
        widths = [sample.weight.shape[1] for sample in samples]
        x = np.hstack([s.log_flops - c0 for s, c0 in zip(samples, log_c0, strict=True)])
        y, w = np.hstack([s.log_loss for s in samples]), np.hstack([s.weight for s in samples])
        problem = Problem(x, y, w, np.repeat(np.eye(k), widths, axis=0), fit.knee)
        if fit.prior is not None:
            # The prior is a measurement made elsewhere, and varies as one.
            means = fit.prior[0] + fit.prior[1] * np.random.default_rng([seed, 1]).standard_normal(draws)
            problem = replace(problem, prior=Prior(means, fit.prior_weight))
        problem = problem.take(index)
        fixed_e = None if isinstance(fit.irreducible, str) else float(fit.irreducible)
        best = solve_problem(problem, fixed_e)
        e[index], log_a[index], alpha[index] = best.laws.e, best.laws.rho, best.laws.alpha
        for i, name in zip(index, best.status, strict=True):
            status[i] = name
    return Bootstrap(fit.archs, log_c0, e, log_a, alpha, tuple(status), dict(method), draws, seed, level)
