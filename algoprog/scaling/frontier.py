"""The frontier of final points: per architecture, the runs that no other run beats on both compute and loss.

Two rules in order:

1. *One value per budget.* Runs stop at whole optimiser steps, so one nominal budget comes out as 0.98e12, 0.99e12,
   1e12 FLOPs. Without grouping, the loser that happens to stop a step earlier survives as a frontier point with too
   high a loss. Runs of one architecture whose FLOPs lie within ``tolerance`` above the cheapest run of the group are
   one budget, and only the lowest loss of a budget stays (at its own FLOPs; of equal losses the cheaper run).
2. *Lower-left.* A point is dropped if a single other point has C' <= C and L' <= L, one of them strictly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from algoprog.scaling.errors import InputError
from algoprog.scaling.laws import FloatArray

BUDGET_TOLERANCE = 0.05
"""Default relative width of one budget: wider than the rounding to whole steps, far below the usual factor of 1.4."""


def check_points(points: pd.DataFrame, where: str = "points") -> None:
    """Raise InputError unless ``points`` has rows, and ``arch, flops, loss`` with finite positive numbers."""
    missing = [name for name in ("arch", "flops", "loss") if name not in points.columns]
    if missing:
        found = ", ".join(map(str, points.columns))
        raise InputError(f"missing column {', '.join(missing)}", where=where, got=f"columns {found}")
    if points.empty:
        raise InputError("no points", where=where, expected="at least one finished run")
    for name in ("flops", "loss"):
        values = pd.to_numeric(points[name], errors="coerce").to_numpy(dtype=np.float64)
        bad = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
        if bad.size:
            got = points[name].iloc[int(bad[0])]
            raise InputError(
                f"bad {name}", where=f"{where} row {bad[0] + 1}", got=str(got), expected="a finite number > 0"
            )


def budget_groups(flops: FloatArray, tolerance: float = BUDGET_TOLERANCE) -> NDArray[np.intp]:
    """Number the budgets of one architecture: ``flops`` ascending, shape (n,) -> group numbers 0, 1, ..., shape (n,).

    A group starts at its cheapest run and holds every run up to ``1 + tolerance`` times that. Anchored at the start
    rather than chained from neighbour to neighbour, so a dense sweep does not melt into one budget.
    """
    groups = np.zeros(flops.size, dtype=np.intp)
    start, number = -np.inf, -1
    for i, value in enumerate(flops):
        if value > start * (1.0 + tolerance):
            start, number = value, number + 1
        groups[i] = number
    return groups


def select_frontier(loss: FloatArray, groups: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """The frontier of one architecture in each of B draws; both rules of this module, for all draws at once.

    ``loss`` has shape (B, n), columns ascending in flops, ``inf`` where a draw lacks a run; ``groups`` has shape
    (n,). Returns two arrays of shape (B, budgets): the column of each budget's winner, and whether it is on the
    frontier.
    """
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    ends = np.append(starts[1:], groups.size)
    winners = np.stack([a + np.argmin(loss[:, a:b], axis=1) for a, b in zip(starts, ends, strict=True)], axis=1)
    best = np.take_along_axis(loss, winners, axis=1)
    # Budgets ascend in flops, so a winner is beaten exactly if some cheaper budget already reached its loss.
    before = np.minimum.accumulate(np.hstack([np.full((loss.shape[0], 1), np.inf), best[:, :-1]]), axis=1)
    return winners, best < before


def sort_points(points: pd.DataFrame) -> pd.DataFrame:
    """The points in one canonical order (arch, flops, loss, run), so that nothing depends on the order of rows."""
    keys = [name for name in ("arch", "flops", "loss", "run") if name in points.columns]
    ordered: pd.DataFrame = points.sort_values(keys, kind="stable")
    return ordered.reset_index(drop=True)


def final_frontier(points: pd.DataFrame, tolerance: float = BUDGET_TOLERANCE) -> pd.DataFrame:
    """The frontier of each architecture, sorted by architecture and flops.

    ``points``: one row per finished run with ``arch``, ``flops`` (FLOPs) and ``loss`` (nats per token). ``tolerance``
    is the relative width of one budget; 0 groups exactly equal FLOPs only. Returns the surviving rows with all their
    columns and two more: ``budget_runs``, the runs that shared the row's budget, and ``arch_runs``, the runs of the
    architecture that the frontier was chosen from. Raises InputError for missing columns, no rows, or non-positive
    numbers.
    """
    check_points(points)
    if not (np.isfinite(tolerance) and tolerance >= 0):
        raise InputError("bad budget tolerance", got=tolerance, expected="a finite number >= 0")
    kept: list[pd.DataFrame] = []
    for _, rows in sort_points(points).groupby("arch", sort=True):
        groups = budget_groups(rows["flops"].to_numpy(dtype=np.float64), tolerance)
        winners, on_frontier = select_frontier(rows["loss"].to_numpy(dtype=np.float64)[None, :], groups)
        chosen = winners[0][on_frontier[0]]
        sizes = np.bincount(groups)[groups[chosen]]
        kept.append(rows.iloc[chosen].assign(budget_runs=sizes, arch_runs=len(rows)))
    frontier: pd.DataFrame = pd.concat(kept, ignore_index=True)
    return frontier


@dataclass(frozen=True, eq=False)
class RuleFrontier:
    """A frontier by one rule: ``rows`` with at least ``arch, flops, loss`` (and ``run`` where a row is one run).

    ``biases``: sentences on what the rule is known to get wrong. ``runs`` and ``points`` that the frontier was chosen
    from, per architecture.
    """

    rows: pd.DataFrame
    rule: str
    biases: tuple[str, ...]
    runs: Mapping[str, int]
    points: Mapping[str, int]


def frontier_by_rule(points: pd.DataFrame, rule: str, *, tolerance: float = BUDGET_TOLERANCE) -> RuleFrontier:
    """The frontier of every architecture in ``points`` (as from ``load_runs``: all rows, all steps) by one of ``RULES``.

    ``final``: lower-left set of the finished runs' last points. ``envelope``: running minimum over all logged points.
    ``slices``: the fitted minimum of every budget. ``surface``: the compute-optimal curve of the fitted L(N, D) at every
    budget; these rows lie exactly on a power law, so their residuals say nothing.

    Raises InputError for an unknown rule, malformed points, or points that the rule cannot use: ``envelope`` needs
    several rows per run, ``slices`` and ``surface`` need params and tokens.
    """
    # Imported here because these rules are built on this module.
    from algoprog.scaling.frontier_rules import RULES

    if rule not in RULES:
        raise InputError("unknown frontier rule", where="--points", got=rule, expected=", ".join(RULES))
    return RULES[rule](points, tolerance)
