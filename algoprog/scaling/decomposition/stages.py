"""The loss of a recipe with any set of stages done, as compute of the first architecture.

With stages S done, C counts as ``m C`` for the product m of the invariant gains in S, and then, for each allocation stage that
is not in S although the stages it comes after are, as ``c/W(c)``: the recipe still runs under the old policy. The law of the
last architecture in S turns that into a loss, and the first law turns the loss into compute. Gains are therefore composed and
not multiplied at equal compute.

A law may be a vector of draws; then everything here is a vector of draws.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from algoprog.scaling.decomposition.plan import AllocationStage, InvariantStage, LawStage, Stage
from algoprog.scaling.laws import FloatArray, LogLaw


@dataclass(frozen=True, eq=False)
class Recipes:
    """All recipes that ``stages`` (in historical order) make from the architecture ``start``. ``laws`` by name.

    ``names``: the stages that happen, an initial part of all; the others only matter as old policies that still rule.
    """

    start: str
    stages: tuple[Stage, ...]
    laws: Mapping[str, LogLaw]
    names: tuple[str, ...]

    @property
    def after(self) -> dict[str, frozenset[str]]:
        """Precedence. Architectures follow each other in historical order besides."""
        found, previous = {}, frozenset[str]()
        for stage in self.stages:
            found[stage.name] = stage.after | (previous if isinstance(stage, LawStage) else frozenset())
            if isinstance(stage, LawStage):
                previous |= {stage.name}
        return found

    @property
    def law_names(self) -> tuple[str, ...]:
        """The first law and those of all architectures that follow."""
        return (self.start, *(s.law for s in self.stages if isinstance(s, LawStage) and s.name in self.names))

    def law_name(self, done: frozenset[str]) -> str:
        """The law of the recipe: that of the last architecture in ``done``."""
        names = [stage.law for stage in self.stages if isinstance(stage, LawStage) and stage.name in done]
        return names[-1] if names else self.start

    def log_reducible(self, done: frozenset[str], log_flops: float) -> FloatArray:
        """``ln(L - E)`` of the recipe at ln C, E that of its own law."""
        return self.laws[self.law_name(done)].log_reducible(self.effective(done, log_flops))

    def log_start_compute(self, done: frozenset[str], log_flops: float) -> FloatArray:
        """``ln C`` that the first architecture needs for the loss of the recipe at ``log_flops``; ``inf`` if none does."""
        effective = self.effective(done, log_flops)
        first, law = self.laws[self.start], self.laws[self.law_name(done)]
        if law is first:
            return effective + np.zeros_like(first.alpha)
        return first.log_compute((law.E - first.E) + np.exp(law.log_reducible(effective)))

    def log_last_compute(self, log_flops: float) -> FloatArray:
        """``ln C`` that the recipe with all of ``names`` needs for the loss of the first one at ``log_flops``.

        ``inf`` if it never reaches that loss.
        """
        done = frozenset(self.names)
        first, law = self.laws[self.start], self.laws[self.law_name(done)]
        reducible = (first.E - law.E) + np.exp(first.log_reducible(np.asarray(log_flops)))
        log_c = np.asarray(log_flops) + np.zeros_like(first.alpha) if law is first else law.log_compute(reducible)
        for stage in reversed(self.pending(done)):
            log_c = np.where(
                np.isfinite(log_c), log_c + stage.change.log_new(np.where(np.isfinite(log_c), log_c, 0)), log_c
            )
        return np.asarray(log_c - self._log_invariant(done))

    def effective(self, done: frozenset[str], log_flops: float) -> FloatArray:
        """``ln`` of the compute that the recipe's law sees when ln C is spent."""
        log_c = np.asarray(log_flops + self._log_invariant(done), dtype=np.float64)
        for stage in self.pending(done):
            log_c = np.asarray(log_c - stage.change.log_old(log_c))
        return log_c

    def _log_invariant(self, done: frozenset[str]) -> float:
        gains = [stage.gain for stage in self.stages if isinstance(stage, InvariantStage) and stage.name in done]
        return math.log(math.prod(gains))

    def pending(self, done: frozenset[str]) -> Sequence[AllocationStage]:
        """Allocation stages whose old policy rules: not done, although the stages they come after are."""
        return [
            stage
            for stage in self.stages
            if isinstance(stage, AllocationStage) and stage.name not in done and stage.after <= done
        ]
