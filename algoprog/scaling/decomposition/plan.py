"""What to decompose: laws, stages of progress, compute over the years.

A stage is one of three kinds:

* ``law``: another architecture, with its own law ``L = E + A C^-alpha``
* ``invariant``: the same saving at every compute, a product of parts; parts measured one at a time may be shrunk to the
  gain that they were measured to make together
* ``allocation``: from a policy ``N = k C^p`` to the compute-optimal division under a loss surface
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from algoprog.scaling.allocation import AllocationGain, Policy, RoundedFactor
from algoprog.scaling.growth import ComputeTrend
from algoprog.scaling.laws import PowerLaw


@dataclass(frozen=True)
class StatedLaw:
    """A law as stated. ``arch``: the architecture in a table of runs that can replace it; ``flops_range``: of its data."""

    law: PowerLaw
    arch: str | None
    flops_range: tuple[float, float] | None


@dataclass(frozen=True)
class Part:
    """One part of an invariant stage: the ``measured`` gain, the ``gain`` it counts with, whether it counts."""

    name: str
    year: float
    measured: float
    gain: float
    counted: bool


@dataclass(frozen=True)
class Stage:
    """One step of progress. ``after``: names of the stages that must come before. Subclasses say what it changes."""

    name: str
    year: float
    after: frozenset[str]


@dataclass(frozen=True)
class LawStage(Stage):
    """A change to the architecture whose law is called ``law``."""

    law: str


@dataclass(frozen=True)
class InvariantStage(Stage):
    """A gain that is the same at every compute."""

    parts: tuple[Part, ...]

    @property
    def gain(self) -> float:
        """Product over the parts that count."""
        return math.prod(part.gain for part in self.parts if part.counted)


@dataclass(frozen=True)
class AllocationStage(Stage):
    """A change of the division of compute. ``rounded``: the factor as a study printed it; ``policies``: others that are as
    plausible as the point value."""

    change: AllocationGain
    rounded: RoundedFactor | None
    policies: tuple[Policy, ...]


@dataclass(frozen=True)
class Reference:
    """What the frontier's recipe is compared with: a law, or the same law under the policy of an allocation stage."""

    name: str
    law: str | None
    allocation: str | None


@dataclass(frozen=True)
class ReferencePlan:
    """The recipe at the frontier, ``law`` with an invariant ``gain``, and its references over ``years``."""

    law: str
    gain: float
    references: tuple[Reference, ...]
    years: tuple[float, ...]


@dataclass(frozen=True)
class Plan:
    """A decomposition to be made. ``start``: the law before the first stage, in whose compute gains are counted.

    ``stages`` in historical order; ``trend``: compute at the frontier; ``spans``: (first, last) years; ``level_at``:
    FLOPs about which the gain is split into level and slope; ``target``: a published gain to compare the totals with.
    """

    name: str
    start: str
    laws: Mapping[str, StatedLaw]
    stages: tuple[Stage, ...]
    trend: ComputeTrend
    spans: tuple[tuple[float, float], ...]
    level_at: tuple[float, ...]
    target: float | None
    references: ReferencePlan | None

    def of_span(self, span: tuple[float, float]) -> tuple[str, ...]:
        """The names of the stages that a span contains, in historical order."""
        return tuple(stage.name for stage in self.stages if stage.year <= span[1])
