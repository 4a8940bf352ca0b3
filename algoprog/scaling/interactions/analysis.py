"""Do the gains of single changes multiply? Factorial analysis of an ablation, on ln gain in compute.

A study that measures every change alone predicts the gain of all together as the product of the single ones. A
factorial experiment measures every combination, so that main effects, all interactions, and prediction against
measurement come with intervals from the same runs at the same budget. On ln gain a multiplicative world has no
interactions.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import numpy as np
import pandas as pd

from algoprog.scaling.errors import InputError
from algoprog.scaling.interactions.error import ErrorMethod
from algoprog.scaling.interactions.gain import by_curves, by_law, check_curves, common_loss
from algoprog.scaling.interactions.result import FactorialAnalysis, RateSearches
from algoprog.scaling.interactions.runs import FactorRuns, Factors, factor_runs
from algoprog.scaling.interactions.table import Settings, analyse_table
from algoprog.scaling.laws import FloatArray, LogLaw, PowerLaw

Reference = Literal["new", "old"]
BUDGET_SPREAD = 0.5
"""Runs up to this factor above the cheapest share a budget: at equal tokens a wider block costs a fifth more FLOPs."""
MOST_FACTORS = 8


def factorial(
    points: pd.DataFrame,
    factors: Factors,
    *,
    law: PowerLaw | None = None,
    law_draws: LogLaw | None = None,
    law_range: tuple[float, float] | None = None,
    at_loss: float | Literal["common"] | None = None,
    reference: Reference = "new",
    order: int | None = None,
    method: ErrorMethod = "auto",
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
    tolerance: float = BUDGET_SPREAD,
) -> FactorialAnalysis:
    """Effects, interactions and product against joint gain of a factorial ablation.

    ``points``: as from ``load_runs(..., keep=factors)``, one column of levels per factor. ``factors``: name -> (old
    level, new level); runs at other levels are left out and counted. How a loss becomes a gain, exactly one of:
    ``law``, the scaling law of the reference architecture, with ``law_draws`` for its uncertainty and ``law_range`` for
    the FLOPs it was fitted on; or ``at_loss``, a loss in nats per token at which training curves are cut, ``common``
    for the lowest one that all runs of a budget reach. ``reference``: single changes start from all new (undone one at
    a time) or from all old. ``order``: highest interaction in the model, default all. ``tolerance``: relative width of
    a budget; several budgets are blocks. Of a learning-rate search only the runs at its chosen rate count, see
    :mod:`algoprog.scaling.tuning.searches`. Intervals: :mod:`algoprog.scaling.interactions.error`.

    Deterministic, and independent of the order of rows. Raises InputError for columns or levels that are not there,
    no usable run, and bad arguments; what the data lack is told by statuses and warnings.
    """
    _check(factors, law, at_loss, reference, order, level, draws)
    runs = factor_runs(points, factors, tolerance)
    y, law_draws_y, conversion = _responses(points, runs, law, law_draws, at_loss)
    settings = Settings(factors, reference, order or len(factors), method, level, draws, seed, conversion)
    warnings = [] if law is None or law_range is None else _outside(runs, law, y, law_range)
    parts: list[FactorialAnalysis] = []
    if len(runs.budgets) > 1:
        for number in range(len(runs.budgets)):
            part, rows = runs.of_budget(number)
            if np.isfinite(y[rows]).any() and np.unique(part.design.cell).size > 1:
                of_part = None if law_draws_y is None else law_draws_y[:, rows]
                parts.append(analyse_table(part, y[rows], of_part, settings))
    found = analyse_table(runs, y, law_draws_y, settings, tuple(parts), warnings)
    return found if runs.tuned.searches == 0 else _with_rates(found, runs, law, settings)


def _with_rates(
    found: FactorialAnalysis, runs: FactorRuns, law: PowerLaw | None, settings: Settings
) -> FactorialAnalysis:
    """``found`` with what its learning-rate searches left on the table, and a warning for those without an optimum."""
    tuned = runs.tuned
    moved: dict[str, float | None] = {}
    if law is not None:
        lowered = runs.final.assign(loss=runs.final["loss"].to_numpy(dtype=np.float64) - tuned.left)
        y = by_law(lowered, law.parameters)
        if np.isfinite(y).any():
            best = analyse_table(runs, y, None, settings)
            product = (best.product.predicted, best.product.measured, best.product.excess)
            moved = {one.name: one.log_gain for one in (*best.effects, *product)}
    rates = RateSearches(tuned.searches, tuned.without_optimum, float(tuned.left.max()), moved)
    told = found.warnings
    if tuned.without_optimum:
        lost = f"In {tuned.without_optimum} of {tuned.searches} learning-rate searches no optimum is established"
        told = (
            *told,
            f"{lost} (the best rate ends the grid, or noise hides the minimum): what they left is not known.",
        )
    return replace(found, rates=rates, warnings=told)


def _responses(
    points: pd.DataFrame,
    runs: FactorRuns,
    law: PowerLaw | None,
    law_draws: LogLaw | None,
    at_loss: float | Literal["common"] | None,
) -> tuple[FloatArray, FloatArray | None, str]:
    """ln gain of every run up to a constant, shape (runs,), its draws under the law, and the way in words."""
    if law is not None:
        spread = None if law_draws is None else by_law(runs.final, law_draws)
        told = f"final losses read on a reference law with E {law.E:.4g} and exponent {law.alpha:.4g}"
        return by_law(runs.final, law.parameters), spread, told
    check_curves(points)
    y, losses = np.full(len(runs.final), np.nan), []
    for number in range(len(runs.budgets)):
        part, rows = runs.of_budget(number)
        loss = common_loss(points, part.final) if at_loss == "common" else float(at_loss or math.nan)
        y[rows] = by_curves(points, part.final, loss)
        losses.append(f"{loss:.4g}")
    told = f"training curves cut at loss {', '.join(dict.fromkeys(losses))}, before the end of their schedules"
    return y, None, told


def _outside(runs: FactorRuns, law: PowerLaw, y: FloatArray, law_range: tuple[float, float]) -> list[str]:
    """A sentence if losses lie outside the compute that the reference law was fitted on."""
    finite = np.isfinite(y)
    if not finite.any():
        return []
    log_flops = y[finite] + np.log(runs.final["flops"].to_numpy(dtype=np.float64)[finite])
    low, high = (math.log(end) for end in law_range)
    beyond = max(low - float(log_flops.min()), float(log_flops.max()) - high)
    if beyond <= 1e-9:
        return []
    decades = beyond / math.log(10.0)
    return [f"The reference law is extrapolated by {decades:.1f} decades of compute to reach these losses."]


def _check(
    factors: Factors,
    law: PowerLaw | None,
    at_loss: float | Literal["common"] | None,
    reference: str,
    order: int | None,
    level: float,
    draws: int,
) -> None:
    if not 1 <= len(factors) <= MOST_FACTORS:
        raise InputError("bad number of factors", got=len(factors), expected=f"1 to {MOST_FACTORS}")
    if (law is None) == (at_loss is None):
        got = "neither" if law is None else "both"
        raise InputError(
            "say how a loss becomes a gain", got=got, expected="a reference law, or a loss to cut curves at"
        )
    if at_loss is not None and at_loss != "common" and not (math.isfinite(at_loss) and at_loss > 0):
        raise InputError("bad loss", got=at_loss, expected="common, or a finite number > 0 in nats per token")
    if reference not in ("new", "old"):
        raise InputError("unknown reference", got=reference, expected="new or old")
    if order is not None and not 1 <= order <= len(factors):
        raise InputError("bad order", got=order, expected=f"1 to {len(factors)}, the number of factors")
    if draws < 100 or not 0 < level < 1:
        got = f"draws {draws}, level {level}"
        raise InputError("bad interval", got=got, expected="draws >= 100 and 0 < level < 1")
