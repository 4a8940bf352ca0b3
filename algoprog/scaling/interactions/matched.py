"""The gain of one recipe over another from repeated runs at one budget.

A gain by the laws of both recipes carries the uncertainty of both. Where both were run at the same budget, their losses
are compared there directly, and one law alone turns the difference into compute: that of the new recipe. This is the
factorial experiment of :func:`algoprog.scaling.interactions.analysis.factorial` with the recipe as its only factor, so
noise, intervals and searches of learning rates are treated as there. The gain is how many times more compute the old
recipe spent than the new one needs for the loss of the old: anchored at the old recipe, where a gain by laws is
anchored at the new one. The two agree where the gain does not change over the compute between.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from algoprog.scaling.errors import InputError
from algoprog.scaling.fit import FrontierFit
from algoprog.scaling.frontier import BUDGET_TOLERANCE, budget_groups, check_points
from algoprog.scaling.interactions.analysis import factorial
from algoprog.scaling.interactions.gain import by_law
from algoprog.scaling.interactions.result import RateSearches
from algoprog.scaling.interactions.table import DESIGN
from algoprog.scaling.intervals.bootstrap import Bootstrap
from algoprog.scaling.laws import FloatArray
from algoprog.scaling.runs.load import final_points, require_arch
from algoprog.scaling.tuning.searches import without_search

FEWEST_REPEATS = 2


@dataclass(frozen=True)
class MatchedGain:
    """The gain of new ``b`` over old ``a`` at one budget; without one ``gain`` is None and ``reason`` says why.

    ``interval`` (``level``, by ``method``): noise of the repeats, pooled over both recipes, and draws of the law of ``b``.
    ``flops``: the largest budget that both ran, geometric mean over the runs used, None without a common one. ``repeats``:
    runs used there of ``a`` and ``b``, of a search of learning rates those at its chosen rate. ``decades_beyond``: how far
    outside the FLOPs that the law of ``b`` was fitted on the compute lies at which it has the loss of ``a`` (mean of its
    runs, in decades; 0 inside). ``rates``: what searches of learning rates left on the table, None without any.
    """

    a: str
    b: str
    gain: float | None
    interval: tuple[float, float] | None
    flops: float | None
    repeats: tuple[int, int]
    decades_beyond: float
    rates: RateSearches | None
    method: str
    level: float
    reason: str

    @property
    def in_range(self) -> bool:
        """False where the law of the new recipe is extrapolated to the loss of the old by more than the width of a budget."""
        return self.decades_beyond <= math.log10(1.0 + BUDGET_TOLERANCE)

    @property
    def at_optimal(self) -> float | None:
        """The gain with every loss lowered by what its search left on the table, by nothing where that is not known.

        None without a search or a number; ``rates`` says of how many searches it is known.
        """
        log_gain = None if self.rates is None else self.rates.at_optimal.get("arch")
        return None if log_gain is None else math.exp(log_gain)


def matched_gain(
    points: pd.DataFrame,
    a: str,
    b: str,
    fit: FrontierFit,
    boot: Bootstrap,
    *,
    tolerance: float = BUDGET_TOLERANCE,
    seed: int = 0,
) -> MatchedGain:
    """The gain of new ``b`` over old ``a`` from repeats at the largest budget that both ran.

    ``points``: as from ``load_runs``, or any frame with ``arch, flops, loss`` (FLOPs, nats per token); finished runs count.
    ``fit``, ``boot``: the laws and their draws, which may lack ``a`` but not ``b``. ``tolerance``: relative width of a
    budget. Intervals have the level of ``boot``. Two repeats of each recipe are required: that the noise of one is that
    of the other is assumed, but not that of a recipe that was never repeated. Deterministic, whatever the order of rows.

    Raises InputError for malformed points or tolerance, ``a`` equal to ``b``, one of them without a finished run, and
    ``b`` without a law.
    """
    if a == b:
        raise InputError("old and new are the same architecture", got=a)
    if not (np.isfinite(tolerance) and tolerance >= 0):
        raise InputError("bad budget tolerance", got=tolerance, expected="a finite number >= 0")
    require_arch(b, fit.laws)
    final = final_points(points)
    check_points(final)
    for arch in (a, b):
        require_arch(arch, map(str, final["arch"].unique()))
    none = MatchedGain(a, b, None, None, None, (0, 0), 0.0, None, "", boot.level, "")
    runs = _largest_common(final[final["arch"].isin((a, b))], a, b, tolerance)
    if runs is None:
        return replace(none, reason=f"{a} and {b} share no budget")
    used = without_search(runs)
    found = replace(none, flops=_geometric_mean(used), repeats=_repeats(used, a, b))
    reason = _not_comparable(used, found)
    log_compute = by_law(used, fit.laws[b].parameters) + np.log(used["flops"].to_numpy(dtype=np.float64))
    if not reason and not np.isfinite(log_compute).all():
        reason = f"a loss lies at or below the irreducible loss of the law of {b}"
    if reason:
        return replace(found, reason=reason)
    drawn = boot.law(b)
    analysis = factorial(
        runs, {"arch": (a, b)}, law=fit.laws[b], law_draws=drawn if drawn.E.size else None, law_range=fit.flops_range[b],
        level=boot.level, seed=seed,
    )  # fmt: skip
    effect = analysis.effects[0]
    beyond = _decades_beyond(log_compute[(used["arch"] == a).to_numpy()], fit.flops_range[b])
    return replace(
        found, gain=effect.gain, interval=effect.gain_interval, decades_beyond=beyond, rates=analysis.rates,
        method=analysis.method,
    )  # fmt: skip


def _largest_common(runs: pd.DataFrame, a: str, b: str, tolerance: float) -> pd.DataFrame | None:
    """The runs of the largest budget with runs of both, or None."""
    ordered = runs.sort_values("flops", kind="stable").reset_index(drop=True)
    groups = budget_groups(ordered["flops"].to_numpy(dtype=np.float64), tolerance)
    archs = ordered["arch"].to_numpy()
    common = set(groups[archs == a]) & set(groups[archs == b])
    return ordered[groups == max(common)].reset_index(drop=True) if common else None


def _geometric_mean(runs: pd.DataFrame) -> float:
    return float(np.exp(np.log(runs["flops"].to_numpy(dtype=np.float64)).mean()))


def _repeats(runs: pd.DataFrame, a: str, b: str) -> tuple[int, int]:
    return int((runs["arch"] == a).sum()), int((runs["arch"] == b).sum())


def _not_comparable(runs: pd.DataFrame, found: MatchedGain) -> str:
    """Why the runs of one budget are no repeats of two recipes; empty if they are."""
    for arch, count in zip((found.a, found.b), found.repeats, strict=True):
        own = runs[runs["arch"] == arch]
        # Spread over sizes or rates is not noise, and taken for it would hide or inflate any difference.
        varied = [name for name in DESIGN if name in own and own[name].nunique(dropna=False) > 1]
        if varied:
            return f"runs of {arch} at this budget differ in {', '.join(varied)} and are no repeats"
        if count < FEWEST_REPEATS:
            return f"{count} run of {arch} at this budget, {FEWEST_REPEATS} repeats are needed"
    return ""


def _decades_beyond(log_compute: FloatArray, flops_range: tuple[float, float]) -> float:
    """How far the mean of ``log_compute`` (ln FLOPs, shape (runs,)) lies outside the range, in decades."""
    mean = float(log_compute.mean())
    low, high = (math.log(end) for end in flops_range)
    return max(low - mean, mean - high, 0.0) / math.log(10.0)
