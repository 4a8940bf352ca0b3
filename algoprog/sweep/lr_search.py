"""A fair learning rate for every architecture, width and budget: a coarse grid at full budget, extended, then refined.

Rates lie on the grid ``centre * 10^(step_decades * k)``. The search begins with k = -reach .. reach; while the best loss is at
an end of what was tried, the grid is extended there by one step, at most ``extend`` times per side. When the best one has
neighbours on both sides, the vertex of the parabola through these three points in (log lr, loss) is the optimum, and the
runs that count, one per seed, are made there. The search runs on the first seed only.

What comes next is a pure function of the losses known so far, so that a sweep that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import Field

from algoprog.config import Frozen, Positive, RunConfig, canonical_json

Losses = Mapping[str, float]
"""Final loss in nats per token of every finished run, by its canonical config; infinite where it diverged."""

NEAR = 0.1
"""A vertex closer than this many steps to a rate of the grid is that rate: no new run is needed."""


class LrSearch(Frozen):
    """How wide and how fine to search; see the module."""

    step_decades: Positive = 0.25
    reach: int = Field(default=1, ge=1, le=10)
    extend: int = Field(default=4, ge=0, le=20)


@dataclass(frozen=True)
class Search:
    """The search of one architecture at one width and budget; ``make(lr, seed)`` gives the run."""

    rule: LrSearch
    centre: float
    seeds: Sequence[int]
    make: Callable[[float, int], RunConfig]

    def rate(self, steps: float) -> float:
        """The learning rate ``steps`` grid steps above the centre, to four significant digits."""
        return float(f"{self.centre * 10 ** (self.rule.step_decades * steps):.4g}")

    def next(self, losses: Losses) -> list[RunConfig]:
        """Runs to do now; empty when the search is over. Runs of a grid that is not finished come before anything else."""
        low = high = self.rule.reach
        while True:
            tried = range(-low, high + 1)
            grid = {k: self.make(self.rate(k), self.seeds[0]) for k in tried}
            found = {k: losses.get(canonical_json(run)) for k, run in grid.items()}
            missing = [grid[k] for k in tried if found[k] is None]
            if missing:
                return missing
            known = {k: loss for k, loss in found.items() if loss is not None}
            best = min(known, key=lambda k: (known[k], abs(k)))
            if best == -low and low < self.rule.reach + self.rule.extend:
                low += 1
            elif best == high and high < self.rule.reach + self.rule.extend:
                high += 1
            else:
                return self._final(best, known, losses)

    def _final(self, best: int, known: Mapping[int, float], losses: Losses) -> list[RunConfig]:
        around = [known.get(k, math.inf) for k in (best - 1, best, best + 1)]
        runs = [self.make(self.rate(best + vertex_offset(around)), seed) for seed in self.seeds]
        return [run for run in runs if canonical_json(run) not in losses]


def vertex_offset(around: Sequence[float]) -> float:
    """Where the parabola through losses at -1, 0 and 1 is lowest; 0 if there is none or it is within ``NEAR`` of 0.

    The middle loss is the least of the three, so the vertex lies within half a step of it.
    """
    left, middle, right = around
    curvature = left - 2 * middle + right
    if not math.isfinite(curvature) or curvature <= 0:
        return 0.0
    offset = (left - right) / (2 * curvature)
    return offset if abs(offset) > NEAR else 0.0
