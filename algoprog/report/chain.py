"""Which step of a chain of architectures made which part of the gain, and what the gain is measured against."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from algoprog.scaling import Analysis, FrontierFit, InputError, gain_at_flops
from algoprog.scaling.decomposition.composed import Composed, composed
from algoprog.scaling.decomposition.estimate import Estimate, with_draws
from algoprog.scaling.decomposition.plan import LawStage
from algoprog.scaling.decomposition.result import Decomposition, SpanResult, decompose
from algoprog.scaling.decomposition.stages import Recipes
from algoprog.scaling.intervals.bootstrap import Bootstrap
from algoprog.scaling.study import largest_in_range

POINTS = 13  # computes at which references are compared
PER_DECADE = {"flops": 1.0, "year": 0.0, "growth": 10.0}
"""A trend whose clock is log10 of compute: growth a year becomes growth a decade of compute."""


@dataclass(frozen=True)
class Asked:
    """A chain as a sweep declares it: ``stages`` from old to new; ``years`` of each and ``trend`` of compute, or neither."""

    stages: tuple[str, ...]
    years: tuple[float, ...] | None = None
    trend: Mapping[str, float] | None = None


@dataclass(frozen=True, eq=False)
class Chain:
    """The decomposition of a chain. Without years the clock of ``found`` is log10 of the compute of the last stage.

    ``inside``: per reference and row of ``found.references``, whether the gain lies inside the data of both laws.
    """

    asked: Asked
    found: Decomposition
    inside: Mapping[str, tuple[bool, ...]]

    @property
    def timed(self) -> bool:
        """True if the clock is calendar time."""
        return self.asked.years is not None

    @property
    def span(self) -> SpanResult:
        """The whole chain."""
        return self.found.spans[0]

    @property
    def flops(self) -> float:
        """Compute that the last stage spends."""
        return self.span.flops

    @property
    def title(self) -> str:
        """Where the chain is evaluated."""
        where = f"{self.asked.years[-1]:g}: " if self.asked.years is not None else ""
        return f"{where}{_short(self.flops)} FLOPs of {self.asked.stages[-1]}"


def _short(flops: float) -> str:
    return f"{flops:.1e}".replace("e+", "e")


def step_name(old: str, new: str) -> str:
    """How a step is called."""
    return f"{old} to {new}"


def step_names(stages: Sequence[str]) -> tuple[str, ...]:
    """The steps of a chain."""
    return tuple(step_name(old, new) for old, new in zip(stages, stages[1:], strict=False))


def shares_told(total: Estimate) -> bool:
    """Whether there is a gain to share: where its interval includes 1, shares are parts of nothing."""
    return total.value != 1 and (total.interval is None or not total.interval[0] <= 1 <= total.interval[1])


def decompose_chain(analysis: Analysis, asked: Asked) -> Chain:
    """Decompose the gain of the last stage over the first.

    Without years it is taken at the largest compute inside the data of both, or, where there is none, at the largest of the
    last stage. Raises InputError for a stage without a law.
    """
    lacking = [arch for arch in asked.stages if arch not in analysis.fit.laws]
    if lacking:
        why = "no finished run" if lacking[0] not in set(analysis.points["arch"]) else analysis.fit.reason
        raise InputError(f"no law for {', '.join(lacking)}", got=why)
    found = decompose(_config(analysis, asked), analysis)
    return Chain(asked, found, {arch: _inside(analysis, asked, arch, found) for arch in asked.stages})


def _config(analysis: Analysis, asked: Asked) -> dict[str, Any]:
    stages, laws = asked.stages, analysis.fit.laws
    if asked.years is not None:
        trend, years = asked.trend, asked.years
        span, grid = (years[0], years[-1]), np.linspace(years[0], years[-1], POINTS)
    else:
        target = largest_in_range(analysis.fit, stages[0], stages[-1]) or analysis.fit.flops_range[stages[-1]][1]
        end, trend = math.log10(target), PER_DECADE
        low, high = (math.log10(flops) for flops in analysis.fit.flops_range[stages[-1]])
        years, span, grid = (end - 1.0,) * len(stages), (end - 2.0, end), np.linspace(low, high, POINTS)
    names = step_names(stages)
    return {
        "name": f"{stages[0]} to {stages[-1]}",
        "start": stages[0],
        "laws": {a: {"E": laws[a].E, "A": laws[a].A, "alpha": laws[a].alpha, "arch": a} for a in stages},
        "stages": [
            {"name": name, "kind": "law", "law": arch, "year": year}
            for name, arch, year in zip(names, stages[1:], years[1:], strict=True)
        ],
        "compute": dict(trend or {}),
        "spans": [list(span)],
        "reference_dependence": {
            "law": stages[-1],
            "references": {arch: {"law": arch} for arch in stages},
            "years": [float(year) for year in grid],
        },
    }


def _inside(analysis: Analysis, asked: Asked, arch: str, found: Decomposition) -> tuple[bool, ...]:
    assert found.references is not None
    rows = found.references.rows[arch]
    return tuple(gain_at_flops(analysis.fit, arch, asked.stages[-1], row.flops).in_range for row in rows)


def chain_at(fit: FrontierFit, boot: Bootstrap, stages: Sequence[str], flops: float) -> Composed:
    """The composition of a chain where its last stage spends ``flops``; every stage must have a law."""
    laws = {arch: with_draws(fit.laws[arch], arch, boot) for arch in stages}
    names = step_names(stages)
    steps = tuple(LawStage(name, 0.0, frozenset(), arch) for name, arch in zip(names, stages[1:], strict=True))
    recipes = Recipes(stages[0], steps, laws, names)
    return composed(recipes, math.log(flops), boot.level, {arch: fit.flops_range[arch] for arch in stages}, ())
