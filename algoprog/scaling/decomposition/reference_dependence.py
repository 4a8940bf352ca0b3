"""The same progress against different references: the gain over the years, and how fast it grows.

Three references for one recipe at the frontier: an older architecture's law, the same architecture under an older policy of
dividing compute, or the recipe's own law. A rate of progress without a reference means nothing: under power laws the growth
against a law of exponent alpha_ref is ``(alpha/alpha_ref - 1) d ln C/dt``, which is 0 against the recipe's own law.

*Study*: invariant gain times the factor at the same C, an allocation factor old-anchored. *Composed*: the invariant gain m
turns C into m C first, an allocation factor is new-anchored, because it is the recipe's side that spends C.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from algoprog.scaling.ceg import log_gain_new
from algoprog.scaling.decomposition.estimate import Estimate, estimate, estimate_exp
from algoprog.scaling.decomposition.plan import AllocationStage, Plan, Reference, ReferencePlan
from algoprog.scaling.gain_theory import log_slope_new
from algoprog.scaling.growth import GrowthRate
from algoprog.scaling.laws import FloatArray, LogLaw


@dataclass(frozen=True)
class YearGain:
    """At one year, by one arithmetic: the gain, and its growth as a log rate per year."""

    gain: Estimate
    log_rate: Estimate

    @property
    def annual(self) -> float:
        """Relative growth per year, ``e^x - 1``."""
        return GrowthRate(self.log_rate.value).annual


@dataclass(frozen=True)
class AgainstReference:
    """One row: FLOPs at the frontier in ``year``, by the study's arithmetic and composed."""

    year: float
    flops: float
    study: YearGain
    composed: YearGain


@dataclass(frozen=True)
class ReferenceDependence:
    """Per reference one row per year. ``recipe``: the law at the frontier, ``gain`` the invariant gain on top of it."""

    recipe: str
    gain: float
    rows: Mapping[str, tuple[AgainstReference, ...]]


def reference_dependence(
    plan: Plan, wanted: ReferencePlan, laws: Mapping[str, LogLaw], level: float
) -> ReferenceDependence:
    """Gains and growth against every reference in every year. ``laws``: point and draws, by name."""
    stages = {stage.name: stage for stage in plan.stages if isinstance(stage, AllocationStage)}
    rows = {}
    for reference in wanted.references:
        rows[reference.name] = tuple(_row(plan, wanted, reference, laws, stages, year, level) for year in wanted.years)
    return ReferenceDependence(wanted.law, wanted.gain, rows)


def _row(
    plan: Plan,
    wanted: ReferencePlan,
    reference: Reference,
    laws: Mapping[str, LogLaw],
    stages: Mapping[str, AllocationStage],
    year: float,
    level: float,
) -> AgainstReference:
    log_c, log_m = plan.trend.log_flops(year), math.log(wanted.gain)
    recipe = laws[wanted.law]
    if reference.law is not None:
        old = laws[reference.law]
        study = log_gain_new(old, recipe, log_c), log_slope_new(old, recipe, log_c)
        composed = log_gain_new(old, recipe, log_c + log_m), log_slope_new(old, recipe, log_c + log_m)
    else:
        stage, flat = stages[str(reference.allocation)], np.zeros_like(recipe.alpha)
        printed = stage.rounded or stage.change
        study = flat + printed.log_old(log_c), flat + printed.slope_old(log_c)
        composed = flat + stage.change.log_new(log_c + log_m), flat + stage.change.slope_new(log_c + log_m)
    return AgainstReference(
        year=year,
        flops=float(np.exp(log_c)),
        study=_year_gain(log_m, study, plan.trend.log_rate, level),
        composed=_year_gain(log_m, composed, plan.trend.log_rate, level),
    )


def _year_gain(log_m: float, curve: tuple[FloatArray, FloatArray], log_rate: float, level: float) -> YearGain:
    log_gain, slope = curve
    return YearGain(estimate_exp(log_m + log_gain, level), estimate(slope * log_rate, level))
