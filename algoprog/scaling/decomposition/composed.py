"""A decomposition by composing gains: each stage is the ratio of old compute after it to old compute before it.

The unit is compute of the first architecture, and C is spent by the recipe with all stages done. The factors multiply to the
gain between the two ends; which stage gets how much still depends on the order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from algoprog.scaling.ceg import EDGE, log_gain_new
from algoprog.scaling.decomposition.estimate import (
    Estimate,
    estimate,
    estimate_exp,
    estimates,
    estimates_exp,
    shares_of,
)
from algoprog.scaling.decomposition.plan import AllocationStage
from algoprog.scaling.decomposition.shapley import admissible_orders, count_orders, marginal, shapley
from algoprog.scaling.decomposition.stages import Recipes
from algoprog.scaling.laws import FloatArray

ORDERS_SHOWN = 24
FlopsRanges = Mapping[str, tuple[float, float] | None]


@dataclass(frozen=True)
class OrderShares:
    """The shares of the stages in one admissible order."""

    order: tuple[str, ...]
    shares: Mapping[str, Estimate]


@dataclass(frozen=True)
class LevelSlope:
    """``ln G(C) = ln G(C0) + [ln G(C) - ln G(C0)]`` of the law ``new`` over ``old``: the split means nothing without C0."""

    old: str
    new: str
    C0: float
    level: Estimate
    slope: Estimate
    level_share: Estimate


@dataclass(frozen=True)
class PolicyRange:
    """Lowest and highest over the stated policies of one allocation stage: a range of choices, no confidence interval."""

    factor: tuple[float, float]
    share: tuple[float, float]
    total: tuple[float, float]


@dataclass(frozen=True)
class Composed:
    """The consistent composition of one span.

    ``total``: compute of the first architecture over C, for the loss of the last recipe at C. ``total_in_last``: C over
    compute of the last recipe, for the loss of the first architecture at C. ``status``: ``ok``, or why there are no
    shares. ``factors``, ``shares``: historical order. ``orders``: all admissible orders if ``n_orders`` is at most 24,
    else none. ``shapley_*``: mean over them. ``reference_free``: share of the fall of ln(L - E) at fixed C, None where the
    laws have different E. ``in_range``: both laws inside their data, None where the data are not known;
    ``decades_beyond``: by how much the worse of the two is outside.
    """

    total: Estimate
    total_in_last: Estimate
    status: str
    factors: Mapping[str, Estimate]
    shares: Mapping[str, Estimate]
    orders: tuple[OrderShares, ...]
    n_orders: int
    shapley_factors: Mapping[str, Estimate]
    shapley_shares: Mapping[str, Estimate]
    reference_free: Mapping[str, Estimate] | None
    level_slope: tuple[LevelSlope, ...]
    policy_range: Mapping[str, PolicyRange]
    in_range: bool | None
    decades_beyond: float | None


def composed(
    recipes: Recipes, log_flops: float, level: float, ranges: FlopsRanges, level_at: tuple[float, ...]
) -> Composed:
    """The composition where the last recipe spends ``e^log_flops``. ``ranges``: FLOPs of the data behind each law."""
    after = {name: recipes.after[name] for name in recipes.names}
    everything = frozenset(recipes.names)

    def value(done: frozenset[str]) -> FloatArray:
        return recipes.log_start_compute(done, log_flops)

    logs = marginal(recipes.names, value)
    log_total = value(everything) - value(frozenset())
    status = "ok" if np.isfinite(log_total[0]) else f"infinite: {recipes.start} never reaches this loss"
    mean = shapley(recipes.names, after, value)
    n_orders = count_orders(recipes.names, after)
    orders = admissible_orders(recipes.names, after) if n_orders <= ORDERS_SHOWN else ()
    beyond = _decades_beyond(recipes, log_flops, float(value(everything)[0]), ranges)
    return Composed(
        total=estimate_exp(log_total, level),
        total_in_last=estimate_exp(log_flops - recipes.log_last_compute(log_flops), level),
        status=status,
        factors=estimates_exp(logs, level),
        shares=estimates(shares_of(logs), level),
        orders=tuple(OrderShares(order, estimates(shares_of(marginal(order, value)), level)) for order in orders),
        n_orders=n_orders,
        shapley_factors=estimates_exp(mean, level),
        shapley_shares=estimates(shares_of(mean), level),
        reference_free=_reference_free(recipes, log_flops, level),
        level_slope=_level_slope(recipes, log_flops, level, ranges, level_at),
        policy_range=_policy_range(recipes, log_flops),
        in_range=None if beyond is None else beyond == 0,
        decades_beyond=beyond,
    )


def _reference_free(recipes: Recipes, log_flops: float, level: float) -> dict[str, Estimate] | None:
    """``w_k = Delta_k ln(L - E)/sum Delta ln(L - E)`` at fixed C, in historical order."""
    used = [recipes.laws[name] for name in recipes.law_names]
    if any(not np.array_equal(law.E, used[0].E) for law in used):
        return None
    falls = marginal(recipes.names, lambda done: -recipes.log_reducible(done, log_flops))
    return estimates(shares_of(falls), level)


def _level_slope(
    recipes: Recipes, log_flops: float, level: float, ranges: FlopsRanges, level_at: tuple[float, ...]
) -> tuple[LevelSlope, ...]:
    old, new = recipes.start, recipes.law_name(frozenset(recipes.names))
    if old == new:
        return ()
    whole = log_gain_new(recipes.laws[old], recipes.laws[new], np.asarray(log_flops))
    found = []
    for c0 in (*_centre(ranges.get(old), ranges.get(new)), *level_at):
        part = log_gain_new(recipes.laws[old], recipes.laws[new], np.asarray(math.log(c0)))
        shares = shares_of({"level": part, "slope": whole - part})
        sizes = estimate(part, level), estimate(whole - part, level)
        found.append(LevelSlope(old, new, c0, *sizes, estimate(shares["level"], level)))
    return tuple(found)


def _centre(old: tuple[float, float] | None, new: tuple[float, float] | None) -> tuple[float, ...]:
    """The geometric centre of the overlap of two ranges of FLOPs, or nothing if they do not overlap."""
    if old is None or new is None:
        return ()
    low, high = max(old[0], new[0]), min(old[1], new[1])
    return (math.sqrt(low) * math.sqrt(high),) if low <= high else ()


def _decades_beyond(recipes: Recipes, log_flops: float, log_start: float, ranges: FlopsRanges) -> float | None:
    """How far outside its data the first law, or the last one, is used; None where the data are not known."""
    done = frozenset(recipes.names)
    name = recipes.law_name(done)
    old, new = ranges.get(recipes.start), ranges.get(name)
    if old is None or new is None:
        return None
    seen = float(np.atleast_1d(recipes.effective(done, log_flops))[0])
    sides = [(seen, new)] if name == recipes.start else [(seen, new), (log_start, old)]
    outside = max(max(math.log(low) - x, x - math.log(high)) for x, (low, high) in sides)
    return 0.0 if outside <= EDGE else outside / math.log(10.0)


def _policy_range(recipes: Recipes, log_flops: float) -> dict[str, PolicyRange]:
    found = {}
    for stage in recipes.stages:
        if not isinstance(stage, AllocationStage) or stage.name not in recipes.names or not stage.policies:
            continue
        rows = []
        for policy in (stage.change.policy, *stage.policies):
            other = replace(stage, change=replace(stage.change, policy=policy))
            varied = replace(recipes, stages=tuple(other if s is stage else s for s in recipes.stages))
            logs = marginal(recipes.names, partial(varied.log_start_compute, log_flops=log_flops))
            share, log_total = shares_of(logs)[stage.name][0], sum(part[0] for part in logs.values())
            rows.append((float(np.exp(logs[stage.name][0])), float(share), float(np.exp(log_total))))
        ends = [(min(column), max(column)) for column in zip(*rows, strict=True)]
        found[stage.name] = PolicyRange(*ends)
    return found
