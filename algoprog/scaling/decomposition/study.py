"""A decomposition by multiplying factors at one compute, as Gundlach et al. (2025, arXiv 2511.21622) do.

Every factor is evaluated at the compute C of the last year: the gain between two laws with the new one spending C, an
allocation factor with the *old* policy spending C. The first stage under an old policy is divided by that factor, so the factor
cancels from the total: all that depends on scale is the one pair of laws. The anchors are mixed and the factors do not multiply
to the gain between the ends; :mod:`algoprog.scaling.decomposition.composed` does it consistently.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from algoprog.scaling.ceg import log_gain_new
from algoprog.scaling.decomposition.estimate import (
    Estimate,
    estimate,
    estimate_exp,
    estimates,
    estimates_exp,
    shares_of,
)
from algoprog.scaling.decomposition.plan import AllocationStage, InvariantStage, LawStage, Plan
from algoprog.scaling.decomposition.stages import Recipes
from algoprog.scaling.growth import GrowthRate, mean_growth
from algoprog.scaling.laws import FloatArray, LogLaw


@dataclass(frozen=True)
class StudyArithmetic:
    """``total`` is the product of ``factors``; ``shares`` are ln factor/ln total.

    ``scale_dependent``: product of all factors that are not invariant, and its share, which counts level and slope alike.
    ``parts``: what each part of the invariant stages counts with. ``per_year``: the steady growth that makes the total;
    None if it is infinite. ``gap``: the plan's target over the total.
    """

    total: Estimate
    factors: Mapping[str, Estimate]
    shares: Mapping[str, Estimate]
    scale_dependent: Estimate
    scale_dependent_share: Estimate
    parts: Mapping[str, float]
    per_year: GrowthRate | None
    gap: float | None


def study_arithmetic(plan: Plan, recipes: Recipes, span: tuple[float, float], level: float) -> StudyArithmetic:
    """The study's arithmetic for one span. ``recipes``: the stages that it contains."""
    logs = _log_factors(plan.start, recipes, float(plan.trend.log_flops(span[1])))
    counted = {name: logs[name] for name in recipes.names}
    invariant = [s for s in recipes.stages if isinstance(s, InvariantStage) and s.name in counted]
    log_total = np.sum(list(counted.values()), axis=0)
    log_invariant = sum(math.log(stage.gain) for stage in invariant)
    split = shares_of({"scale": log_total - log_invariant, "invariant": np.full_like(log_total, log_invariant)})
    total = estimate_exp(log_total, level)
    return StudyArithmetic(
        total=total,
        factors=estimates_exp(counted, level),
        shares=estimates(shares_of(counted), level),
        scale_dependent=estimate_exp(log_total - log_invariant, level),
        scale_dependent_share=estimate(split["scale"], level),
        parts={part.name: part.gain for stage in invariant for part in stage.parts},
        per_year=mean_growth(total.value, span[1] - span[0]) if 0 < total.value < math.inf else None,
        gap=None if plan.target is None else plan.target / total.value,
    )


def _log_factors(start: str, recipes: Recipes, log_flops: float) -> dict[str, FloatArray]:
    """``ln`` of the factor of every stage at one compute."""
    flat = np.zeros_like(recipes.laws[start].alpha)
    found: dict[str, FloatArray] = {}
    previous: LogLaw = recipes.laws[start]
    for stage in recipes.stages:
        if isinstance(stage, LawStage):
            law = recipes.laws[stage.law]
            found[stage.name] = log_gain_new(previous, law, np.asarray(log_flops))
            previous = law
        elif isinstance(stage, InvariantStage):
            found[stage.name] = flat + math.log(stage.gain)
        elif isinstance(stage, AllocationStage):
            factor = (stage.rounded or stage.change).log_old(np.asarray(log_flops))
            found[stage.name] = flat + factor
            earlier = [name for name in found if name in stage.after]
            if earlier:
                found[earlier[-1]] = found[earlier[-1]] - factor
    return found
