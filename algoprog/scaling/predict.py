"""Predictions of losses at compute that nobody has spent yet, to be written down first and checked afterwards."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from algoprog.scaling.frontier import BUDGET_TOLERANCE
from algoprog.scaling.intervals.bootstrap import percentiles
from algoprog.scaling.runs.load import final_points
from algoprog.scaling.study import Analysis

SEED = 0


@dataclass(frozen=True)
class Prediction:
    """The lowest loss that the runs of ``arch`` at ``flops`` should reach, nats per token.

    ``loss``: of the fitted law; ``law_interval``: of the law there, over the bootstrap; ``interval``: for a point of the
    frontier, the scatter of such points about their law included. None where no draw could be fitted.
    """

    arch: str
    flops: float
    loss: float
    law_interval: tuple[float, float] | None
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Check:
    """A prediction beside what came: ``measured`` is the lowest loss at that budget, None while no run has ended."""

    prediction: Prediction
    measured: float | None
    runs: int

    @property
    def inside(self) -> bool | None:
        """Whether the measured loss lies in the interval; None without one of the two."""
        if self.measured is None or self.prediction.interval is None:
            return None
        low, high = self.prediction.interval
        return low <= self.measured <= high


def predict(analysis: Analysis, targets: Iterable[tuple[str, float]], level: float = 0.95) -> tuple[Prediction, ...]:
    """The laws of ``analysis`` at every (architecture, FLOPs); architectures without a law are left out."""
    rng = np.random.default_rng(SEED)
    found = []
    for arch, flops in targets:
        if arch not in analysis.fit.laws:
            continue
        law = analysis.boot.law(arch)
        draws = np.log(law.E + np.exp(law.log_reducible(np.asarray(math.log(flops)))))
        scatter = analysis.fit.sigma * rng.standard_normal(draws.shape) if math.isfinite(analysis.fit.sigma) else None
        found.append(
            Prediction(
                arch=arch,
                flops=flops,
                loss=float(analysis.fit.laws[arch].loss(flops)),
                law_interval=percentiles(np.exp(draws), level),
                interval=None if scatter is None else percentiles(np.exp(draws + scatter), level),
            )
        )
    return tuple(found)


def check(
    predictions: Sequence[Prediction], points: pd.DataFrame, tolerance: float = BUDGET_TOLERANCE
) -> tuple[Check, ...]:
    """Every prediction beside the finished runs of its architecture whose FLOPs lie within ``tolerance`` of its own."""
    final = final_points(points)
    found = []
    for one in predictions:
        here = final[
            (final["arch"] == one.arch) & (np.abs(np.log(final["flops"] / one.flops)) <= math.log1p(tolerance))
        ]
        found.append(Check(one, float(here["loss"].min()) if len(here) else None, len(here)))
    return tuple(found)
