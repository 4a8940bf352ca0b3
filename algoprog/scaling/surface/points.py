"""The points of a surface fit: checked rows as centred logarithms, with what was left out and why."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from algoprog.scaling.errors import InputError
from algoprog.scaling.frontier import BUDGET_TOLERANCE, budget_groups
from algoprog.scaling.laws import FloatArray

NEEDED = ("params", "tokens", "loss")


@dataclass(frozen=True, eq=False)
class SurfacePoints:
    """Arrays of equal length n: ``params``, ``tokens``, ``loss`` (nats per token), ``flops``; ``run`` numbers the runs
    0, 1, ... in order of first appearance. ``excluded`` counts rows that were left out, by reason."""

    params: FloatArray
    tokens: FloatArray
    loss: FloatArray
    flops: FloatArray
    run: NDArray[np.intp]
    excluded: Mapping[str, int]
    flops_per_param_token: float

    @property
    def n0(self) -> float:
        """Mean of ln N."""
        return float(np.log(self.params).mean())

    @property
    def d0(self) -> float:
        """Mean of ln D."""
        return float(np.log(self.tokens).mean())

    @property
    def u(self) -> FloatArray:
        """``ln N - n0``."""
        return np.asarray(np.log(self.params) - self.n0)

    @property
    def v(self) -> FloatArray:
        """``ln D - d0``."""
        return np.asarray(np.log(self.tokens) - self.d0)

    @property
    def n_runs(self) -> int:
        """Distinct runs."""
        return int(self.run.max()) + 1

    @property
    def sizes(self) -> int:
        """Distinct N."""
        return int(np.unique(self.params).size)

    @property
    def token_counts(self) -> int:
        """Distinct D."""
        return int(np.unique(self.tokens).size)

    @property
    def budgets(self) -> int:
        """Distinct C, up to the tolerance of one budget."""
        return int(budget_groups(np.sort(self.flops), BUDGET_TOLERANCE)[-1]) + 1

    @property
    def params_range(self) -> tuple[float, float]:
        """Lowest and highest N."""
        return float(self.params.min()), float(self.params.max())

    @property
    def tokens_range(self) -> tuple[float, float]:
        """Lowest and highest D."""
        return float(self.tokens.min()), float(self.tokens.max())

    @property
    def flops_range(self) -> tuple[float, float]:
        """Lowest and highest C in FLOPs."""
        return float(self.flops.min()), float(self.flops.max())

    def run_correlation(self, z: FloatArray) -> float:
        """Correlation of the residuals ``z`` (n,) of one run: the one-way analysis-of-variance estimate (Fisher 1925).

        NaN where every run has one point or the residuals have no spread.
        """
        size = np.bincount(self.run).astype(np.float64)
        n, k = z.size, size.size
        if not 1 < k < n:
            return math.nan
        mean = np.bincount(self.run, weights=z) / size
        between = float(size @ (mean - z.mean()) ** 2) / (k - 1)
        within = float(((z - mean[self.run]) ** 2).sum()) / (n - k)
        typical = (n - float((size**2).sum()) / n) / (k - 1)
        total = between + (typical - 1.0) * within
        return (between - within) / total if total > 0 else math.nan


def surface_points(
    points: pd.DataFrame, min_flops: float, max_flops: float, flops_per_param_token: float
) -> SurfacePoints:
    """Check ``points`` and keep what a surface can use. Raises InputError as ``fit_surface`` says."""
    missing = [name for name in NEEDED if name not in points.columns]
    if missing:
        found = ", ".join(map(str, points.columns))
        remedy = "a surface needs parameters, tokens and losses"
        what = f"missing column{'s' if len(missing) > 1 else ''} {', '.join(missing)}"
        raise InputError(what, where="points", got=f"columns {found}", remedy=remedy)
    if points.empty:
        raise InputError("no points", where="points", expected="at least one finished run")
    if "arch" in points and points["arch"].nunique() > 1:
        got = ", ".join(sorted(set(points["arch"])))
        raise InputError("more than one architecture in one surface", got=got, expected="one surface per architecture")
    if not (math.isfinite(flops_per_param_token) and flops_per_param_token > 0):
        raise InputError("bad FLOPs per parameter and token", got=flops_per_param_token, expected="a finite number > 0")
    excluded: dict[str, int] = {}
    rows = points.reset_index(drop=True)
    known = rows["params"].notna() & rows["tokens"].notna()
    rows = _keep(rows, known, "without params or tokens", excluded)
    for name in NEEDED:
        _check_positive(rows[name], name)
    if "flops" in rows and rows["flops"].notna().all():
        _check_positive(rows["flops"], "flops")
    else:
        rows = rows.assign(flops=flops_per_param_token * rows["params"] * rows["tokens"])
    rows = _keep(rows, rows["flops"].between(min_flops, max_flops), "outside the cuts on flops", excluded)
    names = rows["run"] if "run" in rows else pd.Series(np.arange(len(rows)))
    n, d, loss, flops = (rows[name].to_numpy(dtype=np.float64) for name in ("params", "tokens", "loss", "flops"))
    return SurfacePoints(n, d, loss, flops, pd.factorize(names)[0].astype(np.intp), excluded, flops_per_param_token)


def _keep(rows: pd.DataFrame, good: pd.Series[bool], reason: str, excluded: dict[str, int]) -> pd.DataFrame:
    if not good.all():
        excluded[reason] = int((~good).sum())
    kept = rows[good].reset_index(drop=True)
    if kept.empty:
        raise InputError("no point is left", got=f"{len(rows)} {reason}", expected="rows with params, tokens and loss")
    return kept


def _check_positive(values: pd.Series[float], name: str) -> None:
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64)
    bad = np.flatnonzero(~(np.isfinite(numbers) & (numbers > 0)))
    if bad.size:
        got = str(values.iloc[int(bad[0])])
        raise InputError(f"bad {name}", where=f"points row {bad[0] + 1}", got=got, expected="a finite number > 0")
