"""What a factorial analysis says: effects on ln gain, cells, and the product of single changes against the joint one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from algoprog.scaling.interactions.error import Interval

MEASURED, MISSING, ALONE = "measured", "missing", "no reference cell"
NEVER, BELOW, BEFORE = "never reached", "below irreducible", "reached before the first point"


@dataclass(frozen=True)
class Effect:
    """One effect or difference on ln gain; ``gain`` and ``gain_interval`` are their exponentials.

    ``name``: factors joined by ``:``. ``log_gain`` and the rest are None where the runs cannot tell.
    """

    name: str
    factors: tuple[str, ...]
    log_gain: float | None
    interval: Interval
    gain: float | None
    gain_interval: Interval


@dataclass(frozen=True)
class Cell:
    """One combination of levels: its runs, and its ln gain over the reference cell (averaged over budgets).

    ``status``: ``measured``; ``missing``; ``no reference cell``; ``never reached`` (``log_gain`` -inf: a run of it never
    has the loss); ``below irreducible`` (``inf``: the reference law never gets there); ``reached before the first point``
    (its compute is unknown).
    """

    levels: Mapping[str, str]
    runs: int
    log_gain: float | None
    interval: Interval
    status: str


@dataclass(frozen=True)
class Product:
    """Multiplied single changes against the joint change, all new over all old.

    ``singles``: the gain of each factor with the others as in the reference cell. ``predicted``: their product,
    ``measured``: the joint gain, ``excess``: predicted over measured (above 1: sub-multiplicative). Entries without a
    number need a cell that is missing.
    """

    singles: tuple[Effect, ...]
    predicted: Effect
    measured: Effect
    excess: Effect


@dataclass(frozen=True)
class RateSearches:
    """Learning-rate searches among the runs, and how far what they left on the table moves the results.

    ``searches``: their number; ``without_optimum``: of how many the best rate is the lowest or highest tried, or no minimum
    stands out of the noise. ``left``: the most that a search with an optimum left, in nats per token. ``at_optimal``: ln gain
    by name of effect, and of ``predicted``, ``measured`` and ``excess``, with every loss lowered by what its search left: a
    second answer and no interval, None where the runs cannot tell. Empty for gains read off training curves.
    """

    searches: int
    without_optimum: int
    left: float
    at_optimal: Mapping[str, float | None]


@dataclass(frozen=True)
class FactorialAnalysis:
    """What :func:`factorial` found.

    ``effects``: main effects and interactions (mean at new minus mean at old, over all levels of the others), by order.
    ``assumed_zero``: interactions left out of the model, because cells are missing or ``order`` says so.
    ``method``: of the intervals; ``conversion``: from loss to gain; ``sigma``: sd of one run's ln gain (None: unknown)
    on ``degrees_of_freedom``. ``budgets``: FLOPs, geometric means; ``by_budget``: the analysis of each alone, where
    there are several. ``excluded`` counts runs by reason. ``rates``: of learning-rate searches, None without any.
    """

    factors: Mapping[str, tuple[str, str]]
    reference: str
    effects: tuple[Effect, ...]
    cells: tuple[Cell, ...]
    product: Product
    missing: tuple[Mapping[str, str], ...]
    assumed_zero: tuple[str, ...]
    method: str
    conversion: str
    sigma: float | None
    degrees_of_freedom: float
    level: float
    budgets: tuple[float, ...]
    by_budget: tuple[FactorialAnalysis, ...]
    excluded: Mapping[str, int]
    warnings: tuple[str, ...]
    rates: RateSearches | None = None


def effect(name: str, factors: tuple[str, ...], log_gain: float | None, interval: Interval) -> Effect:
    """An :class:`Effect` with its exponentials; a gain too large for a float is as good as infinite."""
    with np.errstate(over="ignore"):
        gain = None if log_gain is None else float(np.exp(log_gain))
        ends = None if interval is None else (float(np.exp(interval[0])), float(np.exp(interval[1])))
    return Effect(name, factors, log_gain, interval, gain, ends)


def infinite(log_gain: float) -> str | None:
    """The status of a cell whose ln gain is no number, or None for a finite one."""
    if math.isnan(log_gain):
        return BEFORE
    if math.isinf(log_gain):
        return BELOW if log_gain > 0 else NEVER
    return None
