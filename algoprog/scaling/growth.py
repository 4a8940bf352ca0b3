"""Growth of a gain over the years: how fast it rises depends on the law it is measured against.

``d ln G/dt = (d ln G/d ln C) (d ln C/dt)``. A rate is a log rate x per year; the annual rate is ``e^x - 1``: a log rate
of .63 is 88 % per year, not 63 %.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from algoprog.scaling.errors import InputError
from algoprog.scaling.laws import FloatArray


@dataclass(frozen=True)
class ComputeTrend:
    """Compute spent at the frontier, ``C(t) = flops * growth^(t - year)``: FLOPs in ``year``, factor per year.

    Raises InputError unless all are finite and ``flops, growth > 0``.
    """

    flops: float
    year: float
    growth: float

    def __post_init__(self) -> None:
        for name, value in (("flops", self.flops), ("year", self.year), ("growth", self.growth)):
            if not math.isfinite(value) or (value <= 0 and name != "year"):
                raise InputError(f"bad {name} of a compute trend", got=value, expected="a finite number > 0")

    def log_flops(self, year: float | FloatArray) -> FloatArray:
        """``ln C`` at a year, or at every year of an array."""
        return np.asarray(math.log(self.flops) + (np.asarray(year, dtype=np.float64) - self.year) * self.log_rate)

    def at(self, year: float) -> float:
        """FLOPs spent in ``year``."""
        return float(np.exp(self.log_flops(year)))

    @property
    def log_rate(self) -> float:
        """``d ln C/dt`` per year."""
        return math.log(self.growth)


@dataclass(frozen=True)
class GrowthRate:
    """Growth as a log rate per year."""

    log_rate: float

    @property
    def annual(self) -> float:
        """Relative growth per year, ``e^x - 1``."""
        return math.expm1(self.log_rate)

    @property
    def factor(self) -> float:
        """Factor per year, ``e^x``."""
        return math.exp(self.log_rate)

    @property
    def doubling_months(self) -> float:
        """Months to double, ``12 ln 2/x``; ``inf`` without growth, negative where it shrinks (months to halve)."""
        return 12.0 * math.log(2.0) / self.log_rate if self.log_rate else math.inf


def mean_growth(gain: float, years: float) -> GrowthRate:
    """The steady rate that makes ``gain`` (a factor > 0) in ``years`` > 0. Raises InputError for other values."""
    if not (0 < gain < math.inf and 0 < years < math.inf):
        raise InputError("no mean growth", got=f"gain {gain:g} in {years:g} years", expected="finite numbers > 0")
    return GrowthRate(math.log(gain) / years)


def gain_growth(log_slope: float, trend: ComputeTrend) -> GrowthRate:
    """Growth of a gain with slope ``d ln G/d ln C`` while compute follows ``trend``."""
    return GrowthRate(log_slope * trend.log_rate)
