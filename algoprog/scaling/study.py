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
from algoprog.scaling.frontier import BUDGET_TOLERANCE, check_points, final_frontier, frontier_by_rule
from algoprog.scaling.intervals.bootstrap import Bootstrap, Method, bootstrap, percentiles
from algoprog.scaling.intervals.correlation import with_matches
from algoprog.scaling.intervals.likelihood import Likelihood, likelihood
from algoprog.scaling.intervals.rules import bootstrap_rule
from algoprog.scaling.laws import PowerLaw
from algoprog.scaling.runs.design_warnings import design_warnings
from algoprog.scaling.runs.load import excluded_runs, final_points
from algoprog.scaling.sensitivity import Choice, Sources, choices_of
from algoprog.scaling.study_sources import study_sources
from algoprog.scaling.study_warnings import study_warnings
from algoprog.scaling.tuning.searches import without_search

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
    """What :func:`analyse` found. ``excluded`` counts runs left out, by reason; ``warnings`` are sentences.

    ``rule``: the frontier rule; ``biases``: what it is known to get wrong. ``profile``: the profile likelihood, None
    without degrees of freedom or where the rows of the frontier are not one run each. ``choices``: the laws under every
    other E of the strip, rule and lower cut; ``sources``: what spread each exponent, gap and gain has from where.
    """

    points: pd.DataFrame
    excluded: dict[str, int]
    frontier: pd.DataFrame
    fit: FrontierFit
    boot: Bootstrap
    laws: tuple[LawRow, ...]
    gains: tuple[PairGains, ...]
    warnings: tuple[str, ...]
    rule: str = "final"
    biases: tuple[str, ...] = ()
    profile: Likelihood | None = None
    choices: tuple[Choice, ...] = ()
    sources: tuple[Sources, ...] = ()


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
    rule: str = "final",
    prior: tuple[float, float] | None = None,
) -> Analysis:
    """Fit laws to the frontier of the finished runs in ``points`` and compare architectures.

    ``points``: as from ``load_runs``, or any frame with ``arch, flops, loss``; where ``step`` or ``state`` are there,
    the last step of each ``done`` run counts. ``irreducible``, ``loss`` as in ``fit_frontiers``; ``draws``, ``seed``,
    ``method`` as in ``bootstrap``; ``tolerance``: relative width of a budget. ``pairs``: (old, new) to compare,
    default all, ordered so that the gain at the centre of the overlap is above 1. ``min_flops``, ``max_flops``: runs
    outside are left out and counted. ``rule``: as in ``frontier_by_rule``; under a rule other than ``final`` draws
    resample whole runs and apply it anew. ``prior``: a normal prior (mean, sd) on E as in ``fit_frontiers``, never
    unasked.

    Raises InputError for malformed points or arguments and for a table without a finished run.
    """
    final, excluded = _usable(points, min_flops, max_flops)
    final = with_matches(final, tolerance)
    tuned = without_search(final, tolerance)
    logged = _logged(points, min_flops, max_flops)
    chosen_rule = None if rule == "final" else frontier_by_rule(logged, rule, tolerance=tolerance)
    frontier = final_frontier(tuned, tolerance) if chosen_rule is None else chosen_rule.rows
    fit = fit_frontiers(frontier, irreducible, loss=loss, prior=prior)
    for a, b in pairs or ():
        laws_of(fit, a, b)
    if chosen_rule is None:
        boot = bootstrap(tuned, irreducible, draws, seed, tolerance=tolerance, loss=loss, method=method, fit=fit)
    else:
        boot = bootstrap_rule(logged, rule, fit, draws, seed, tolerance=tolerance)
    rows = tuple(_law_row(fit, boot, arch) for arch in fit.archs)
    chosen = default_pairs(fit) if pairs is None else tuple(pairs)
    gains = tuple(_pair_gains(fit, boot, a, b) for a, b in chosen)
    # Points of an envelope share runs, and those of a surface lie on it exactly: their residuals are no likelihood.
    profile = likelihood(frontier, fit, boot.level) if rule in ("final", "slices") else None
    choices = choices_of(logged, frontier, fit, rule, tolerance, loss)
    sources = study_sources(fit, boot, profile, choices, gains)
    biases = () if chosen_rule is None else chosen_rule.biases
    told = [f"Rule {rule}: {bias}" for bias in biases]
    if chosen_rule is None and len(tuned) < len(final):
        told.append(
            f"{len(final) - len(tuned)} runs at rates that a search did not choose are neither on a frontier nor in its noise."
        )
    warnings = (*study_warnings(excluded, fit, boot, gains, sources), *design_warnings(final), *told)
    return Analysis(
        final, excluded, frontier, fit, boot, rows, gains, warnings, rule, biases, profile, choices, sources
    )


def _logged(points: pd.DataFrame, min_flops: float, max_flops: float) -> pd.DataFrame:
    """Every logged row of the finished runs whose last point lies inside the cuts: what a frontier rule chooses from."""
    if "run" not in points:
        points = points.assign(run=[f"row {i + 1}" for i in range(len(points))])
    last = final_points(points)
    inside = set(last.loc[last["flops"].between(min_flops, max_flops), "run"])
    kept: pd.DataFrame = points[points["run"].isin(inside) & points["loss"].notna() & points["flops"].notna()]
    return kept.reset_index(drop=True)


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
