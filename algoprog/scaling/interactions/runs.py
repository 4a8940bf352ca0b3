"""The runs of a factorial ablation: which level of every factor, and which budget, each belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from algoprog.scaling.errors import InputError
from algoprog.scaling.frontier import budget_groups, check_points
from algoprog.scaling.interactions.design import Design
from algoprog.scaling.runs.load import excluded_runs, final_points, nearest
from algoprog.scaling.tuning.searches import REASON, Tuned, tuned_runs

Factors = Mapping[str, tuple[str, str]]
"""Name of a factor -> (old level, new level), as text."""


@dataclass(frozen=True, eq=False)
class FactorRuns:
    """``final``: one row per run used, in an order that does not depend on the file's. ``design``: its signs and budgets.

    ``budgets``: FLOPs per budget, geometric means, ascending; ``excluded``: runs left out, by reason. ``tuned``: what the
    learning-rate searches say of the runs used.
    """

    final: pd.DataFrame
    design: Design
    budgets: tuple[float, ...]
    excluded: Mapping[str, int]
    tuned: Tuned

    def of_budget(self, number: int) -> tuple[FactorRuns, NDArray[np.bool_]]:
        """The runs of one budget alone, and which of ours they are, shape (runs,)."""
        rows = self.design.block == number
        design = Design(self.design.signs[rows], np.zeros(int(rows.sum()), dtype=np.intp))
        part = self.final[rows].reset_index(drop=True)
        return FactorRuns(part, design, (self.budgets[number],), {}, self.tuned.of(rows)), rows


def factor_runs(points: pd.DataFrame, factors: Factors, tolerance: float) -> FactorRuns:
    """The finished runs at the levels of ``factors``; of a learning-rate search those at its chosen rate alone.

    ``tolerance``: relative width of one budget. Raises InputError, with what is there, for a missing column, a level that no
    run has, and no run at all.
    """
    for name, (old, new) in factors.items():
        _check_levels(points, name, old, new)
    final = final_points(points)
    excluded = excluded_runs(points)
    levels = {name: _labels(final[name]) for name in factors}
    known = np.ones(len(final), dtype=bool)
    for name, pair in factors.items():
        known &= levels[name].isin(pair).to_numpy()
    if not known.all():
        excluded["at another level"] = int((~known).sum())
    if not known.any():
        told = ", ".join(f"{name} {old} or {new}" for name, (old, new) in factors.items())
        raise InputError("no finished run at these levels", expected=told)
    order = np.flatnonzero(known)
    check_points(final.iloc[order].assign(arch="all"))
    # One canonical order, so that sums and random draws do not depend on the order of rows.
    keys = pd.DataFrame({"flops": final["flops"], "loss": final["loss"]} | levels).iloc[order]
    order = order[np.asarray(keys.reset_index(drop=True).sort_values(list(keys.columns), kind="stable").index)]
    final = final.iloc[order].reset_index(drop=True)
    signs = np.column_stack([
        np.where(levels[name].iloc[order].to_numpy() == new, 1, -1) for name, (_, new) in factors.items()
    ]).astype(np.intp)  # fmt: skip
    flops = final["flops"].to_numpy(dtype=np.float64)
    design = Design(signs, budget_groups(flops, tolerance))
    tuned = tuned_runs(final, design.group)
    if not tuned.keep.all():
        excluded[REASON] = int((~tuned.keep).sum())
    kept = tuned.keep
    block = design.block[kept]
    budgets = tuple(float(np.exp(np.log(flops[kept][block == b]).mean())) for b in np.unique(block))
    used = final[kept].reset_index(drop=True)
    return FactorRuns(used, Design(signs[kept], block), budgets, excluded, tuned.of(kept))


def _check_levels(points: pd.DataFrame, name: str, old: str, new: str) -> None:
    where = f"factor {name}={old},{new}"
    if name not in points:
        near = nearest(name, map(str, points.columns))
        found = f"columns {', '.join(map(str, points.columns))}"
        raise InputError("no such column", where=where, got=found, remedy=f"did you mean {near}?" if near else None)
    if old == new:
        raise InputError("old and new are the same level", where=where)
    seen = sorted(set(_labels(points[name])) - {"", "nan"})
    for level in (old, new):
        if level not in seen:
            near = nearest(level, seen)
            remedy = f"did you mean {near}?" if near else None
            raise InputError(f"no run with {name} {level}", where=where, got=f"levels {', '.join(seen)}", remedy=remedy)


def _labels(column: pd.Series) -> pd.Series[str]:
    """Levels as text: 64 for a number 64.0, whatever the column holds."""
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return column.map(lambda value: f"{value:.12g}")
    return column.astype(str).str.strip()
