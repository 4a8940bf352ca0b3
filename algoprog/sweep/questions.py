"""What a sweep is an experiment about, beyond pairs: interactions of changes, and a chain of architectures to decompose.

::

    interactions:                          # do single changes multiply? old level first
      factors: {model.activation: [gelu, swiglu], schedule.name: [inverse_sqrt, cosine]}
      law_arch: modern                     # whose law turns a loss into compute
    decompose: [lstm, retro, modern]       # which step made which part of the gain? from old to new
    decompose:                             # the same over calendar time
      stages: [lstm, retro, modern]
      years: [2012, 2017, 2023]
      compute: {flops: 1e16, year: 2013, growth: 4.1}   # FLOPs at the frontier in a year, and factor per year
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from algoprog.config import Frozen, Positive

MOST_FACTORS, MOST_STAGES = 8, 12


def _as_text(value: object) -> object:
    """Levels are compared as text, as a store gives them; a whole number is text, too."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Level = Annotated[str, BeforeValidator(_as_text), Field(min_length=1)]


class Interactions(Frozen):
    """A factorial experiment: config keys with their (old, new) levels, and the architecture of the reference law."""

    factors: dict[str, tuple[Level, Level]]
    law_arch: str

    @model_validator(mode="after")
    def _two_levels_each(self) -> Interactions:
        if not 2 <= len(self.factors) <= MOST_FACTORS:
            raise ValueError(f"give 2 to {MOST_FACTORS} factors; got {len(self.factors)}")
        for name, (old, new) in self.factors.items():
            if "." not in name:
                raise ValueError(f"the factor {name!r} is no key of a run's config, such as model.activation")
            if old == new:
                raise ValueError(f"the factor {name} has the level {old} twice")
        return self


class FrontierCompute(Frozen):
    """Compute at the frontier: ``flops`` in ``year``, times ``growth`` per year."""

    flops: Positive
    year: float
    growth: Positive


class Chain(Frozen):
    """Architectures from old to new. ``years`` of each, rising, and ``compute`` over the years: both or neither."""

    stages: list[str] = Field(min_length=2, max_length=MOST_STAGES)
    years: list[float] | None = None
    compute: FrontierCompute | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Chain:
        if len(set(self.stages)) < len(self.stages):
            raise ValueError("an architecture comes twice in stages")
        if (self.years is None) != (self.compute is None):
            raise ValueError("give years together with compute over the years, or neither")
        if self.years is not None and (len(self.years) != len(self.stages) or sorted(set(self.years)) != self.years):
            raise ValueError("give one year per stage, rising")
        return self


def as_chain(value: object) -> object:
    """A bare list is a chain without years."""
    return {"stages": value} if isinstance(value, list) else value


def missing_level(factors: Mapping[str, tuple[str, str]], configs: Iterable[Mapping[str, Any]]) -> str | None:
    """Why ``configs`` (as plain mappings) do not make an experiment with these factors, or None."""
    seen = list(configs)
    for key, levels in factors.items():
        found = {_at(config, key) for config in seen} - {None}
        if not found:
            return f"no run of the sweep has the key {key}"
        for level in levels:
            if level not in found:
                return f"no run of the sweep has {key} = {level}; there is {', '.join(sorted(map(str, found)))}"
    return None


def _at(config: Mapping[str, Any], key: str) -> object:
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return None if value is None else _as_text(value)
