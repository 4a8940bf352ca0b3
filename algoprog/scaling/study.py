"""The whole analysis in one call: finished runs -> frontier -> laws -> gains, with intervals, flags and warnings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from algoprog.scaling.ceg import Gain, gain_at_flops, law_gain, laws_of
from algoprog.scaling.errors import InputError
from algoprog.scaling.fit import FrontierFit, Irreducible, Objective, fit_frontiers
from algoprog.scaling.frontier import BUDGET_TOLERANCE, check_points, final_frontier
from algoprog.scaling.intervals import Bootstrap, Method, bootstrap, percentiles
from algoprog.scaling.laws import PowerLaw
from algoprog.scaling.runs import excluded_runs, final_points
from algoprog.scaling.search import SMALLEST_TERM, Status

Interval = tuple[float, float] | None


@dataclass(frozen=True)
class LawRow:
    """The law of one architecture with its intervals (None: no draw could be fitted); ``A`` is for C0 = 1 FLOP.

    ``n_points`` on the frontier, ``n_runs`` it was chosen from, ``flops_range`` in FLOPs, ``method`` of the
    intervals.
    """

    arch: str
    law: PowerLaw
    E: Interval
    a: Interval
    A: Interval
    alpha: Interval
    n_points: int
    n_runs: int
    flops_range: tuple[float, float]
    method: str


@dataclass(frozen=True)
class PairGains:
    """The gains of new ``b`` over old ``a``, new-anchored, at two computes; None where there is no such compute.

    ``at_largest``: the largest compute at which both sides are in range. ``at_centre``: the geometric centre of the
    overlap of the two fitted ranges (the old side may leave its range there: see ``in_range``).
    """

    a: str
    b: str
    at_largest: Gain | None
    at_centre: Gain | None


@dataclass(frozen=True, eq=False)
class Analysis:
    """What :func:`analyse` found. ``excluded`` counts runs left out, by reason; ``warnings`` are sentences."""

    points: pd.DataFrame
    excluded: dict[str, int]
    frontier: pd.DataFrame
    fit: FrontierFit
    boot: Bootstrap
    laws: tuple[LawRow, ...]
    gains: tuple[PairGains, ...]
    warnings: tuple[str, ...]


def analyse(
    points: pd.DataFrame,
    irreducible: Irreducible = "shared",
    draws: int = 1000,
    seed: int = 0,
    *,
    pairs: Sequence[tuple[str, str]] | None = None,
    min_flops: float = 0.0,
    max_flops: float = math.inf,
    tolerance: float = BUDGET_TOLERANCE,
    loss: Objective = "auto",
    method: Method = "auto",
) -> Analysis:
    """Fit laws to the frontier of the finished runs in ``points`` and compare architectures.

    ``points``: as from ``load_runs``, or any frame with ``arch, flops, loss``; where ``step`` or ``state`` are there,
    the last step of each ``done`` run counts. ``irreducible``, ``loss`` as in ``fit_frontiers``; ``draws``, ``seed``,
    ``method`` as in ``bootstrap``; ``tolerance``: relative width of a budget. ``pairs``: (old, new) to compare,
    default all, ordered so that the gain at the centre of the overlap is above 1. ``min_flops``, ``max_flops``: runs
    outside are left out and counted.

    Raises InputError for malformed points or arguments and for a table without a finished run.
    """
    final, excluded = _usable(points, min_flops, max_flops)
    frontier = final_frontier(final, tolerance)
    fit = fit_frontiers(frontier, irreducible, loss=loss)
    for a, b in pairs or ():
        laws_of(fit, a, b)
    boot = bootstrap(final, irreducible, draws, seed, tolerance=tolerance, loss=loss, method=method, fit=fit)
    rows = tuple(_law_row(fit, boot, arch) for arch in fit.archs)
    chosen = default_pairs(fit) if pairs is None else tuple(pairs)
    gains = tuple(_pair_gains(fit, boot, a, b) for a, b in chosen)
    warnings = tuple(_warnings(excluded, fit, boot, gains))
    return Analysis(final, excluded, frontier, fit, boot, rows, gains, warnings)


def _usable(points: pd.DataFrame, min_flops: float, max_flops: float) -> tuple[pd.DataFrame, dict[str, int]]:
    """Final points inside the cuts on C, and what was left out."""
    excluded = excluded_runs(points)
    final = final_points(points)
    if final.empty:
        got = ", ".join(f"{count} {state}" for state, count in excluded.items()) or "no rows"
        raise InputError("no finished run to analyse", got=got, expected="runs whose state is done")
    check_points(final)
    inside = final["flops"].between(min_flops, max_flops)
    if not inside.all():
        excluded["outside the cuts on flops"] = int((~inside).sum())
        final = final[inside].reset_index(drop=True)
    if final.empty:
        raise InputError("no run inside the cuts on flops", got=f"min {min_flops:g}, max {max_flops:g}")
    return final, excluded


def overlap_centre(fit: FrontierFit, a: str, b: str) -> tuple[float, bool]:
    """Geometric centre (FLOPs) of the overlap of two fitted ranges, or of the gap between; True if they overlap."""
    low = max(fit.flops_range[arch][0] for arch in (a, b))
    high = min(fit.flops_range[arch][1] for arch in (a, b))
    return math.sqrt(low) * math.sqrt(high), low <= high


def largest_in_range(fit: FrontierFit, a: str, b: str) -> float | None:
    """The largest C of new ``b`` that is in range together with the old compute for the same loss, or None."""
    old, new = fit.laws[a], fit.laws[b]
    limit = new.compute(old.loss(fit.flops_range[a][1]))
    flops = min(fit.flops_range[b][1], limit)
    # C_A rises with C, so if the largest candidate is out of range at the lower end, so is every other one.
    return flops if math.isfinite(flops) and flops > 0 and gain_at_flops(fit, a, b, flops).in_range else None


def default_pairs(fit: FrontierFit) -> tuple[tuple[str, str], ...]:
    """All pairs of architectures with a law, (old, new) such that new gains at the centre of the overlap."""
    pairs = []
    for a, b in combinations(fit.archs, 2):
        centre, _ = overlap_centre(fit, a, b)
        pairs.append((a, b) if law_gain(fit.laws[a], fit.laws[b], centre) >= 1 else (b, a))
    return tuple(pairs)


def _pair_gains(fit: FrontierFit, boot: Bootstrap, a: str, b: str) -> PairGains:
    largest = largest_in_range(fit, a, b)
    centre, overlap = overlap_centre(fit, a, b)
    return PairGains(
        a,
        b,
        at_largest=None if largest is None else gain_at_flops(fit, a, b, largest, boot=boot),
        at_centre=gain_at_flops(fit, a, b, centre, boot=boot) if overlap else None,
    )


def _law_row(fit: FrontierFit, boot: Bootstrap, arch: str) -> LawRow:
    draws = boot.law(arch)
    log_a = percentiles(draws.log_a, boot.level)
    log_full = percentiles(draws.log_a + draws.alpha * draws.log_c0, boot.level)
    return LawRow(
        arch=arch,
        law=fit.laws[arch],
        E=percentiles(draws.E, boot.level) if isinstance(fit.irreducible, str) else (fit.E, fit.E),
        a=_exp_both(log_a),
        A=_exp_both(log_full),
        alpha=percentiles(draws.alpha, boot.level),
        n_points=fit.n_points[arch],
        n_runs=fit.n_runs[arch],
        flops_range=fit.flops_range[arch],
        method=boot.describe(arch),
    )


def _exp_both(ends: Interval) -> Interval:
    with np.errstate(over="ignore"):
        return None if ends is None else (float(np.exp(ends[0])), float(np.exp(ends[1])))


def _warnings(excluded: dict[str, int], fit: FrontierFit, boot: Bootstrap, gains: Sequence[PairGains]) -> list[str]:
    found = []
    for reason, count in excluded.items():
        found.append(f"{count} {reason} run{'s' if count > 1 else ''} excluded.")
    found += _fit_warnings(fit)
    if not fit.laws:
        return found
    if boot.failed:
        found.append(f"{boot.failed} of {boot.draws} bootstrap draws had too few points for a fit.")
    if boot.unstable:
        found.append(
            f"The intervals are unstable: {boot.not_converged} of {boot.draws} bootstrap draws did not converge "
            f"({', '.join(f'{count} {name}' for name, count in boot.status_counts.items() if name != 'converged')})."
        )
    spans = ", ".join(
        f"{arch} {math.log10(high / low):.1f} ({low:.2g} to {high:.2g} FLOPs)"
        for arch, (low, high) in ((arch, fit.flops_range[arch]) for arch in fit.archs)
    )
    found.append(f"Decades of compute covered: {spans}. A gain outside is extrapolation that no test here licenses.")
    for pair in gains:
        if pair.at_largest is None:
            found.append(f"No gain of {pair.b} over {pair.a} is in range: their fitted points share no loss.")
        if pair.at_centre is None:
            found.append(f"The fitted compute ranges of {pair.a} and {pair.b} do not overlap.")
    return found


def _fit_warnings(fit: FrontierFit) -> list[str]:
    found = []
    if not fit.laws:
        found.append(f"No law could be fitted ({fit.reason}).")
    for arch in fit.left_out if fit.laws else ():
        found.append(f"{arch} has no law: its frontier has a single point.")
    if fit.status is Status.TOO_FEW and fit.laws:
        points = sum(fit.n_points[arch] for arch in fit.archs)
        found.append(
            f"Too few points: {points} on the frontier for {fit.n_parameters} parameters "
            f"({', '.join(f'{arch} {fit.n_points[arch]}' for arch in fit.archs)})."
        )
    elif fit.status is not Status.CONVERGED and fit.laws:
        found.append(f"The fit did not converge cleanly: {fit.status.value}.")
    lowest = min((law.loss(fit.flops_range[arch][1]) for arch, law in fit.laws.items()), default=math.nan)
    if isinstance(fit.irreducible, str) and fit.E < SMALLEST_TERM * lowest:
        found.append("The irreducible loss E sits at its bound 0: these points do not determine it.")
    return found
