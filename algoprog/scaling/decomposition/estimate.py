"""A number with its interval, from a vector that holds the point value first and bootstrap draws after it.

Computing both in one vector means that a draw cannot be treated differently from the point.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from algoprog.scaling.intervals.bootstrap import Bootstrap, percentiles
from algoprog.scaling.laws import FloatArray, LogLaw, PowerLaw


@dataclass(frozen=True)
class Estimate:
    """``value`` and its percentile interval; None: no draws, or nothing in it varies, as with stated constants."""

    value: float
    interval: tuple[float, float] | None = None


def estimate(values: FloatArray, level: float) -> Estimate:
    """``values`` (1 + draws,), the point first."""
    # An interval of no width would pass constants without errors off as known exactly.
    varies = bool(np.any(values[1:] != values[0]))
    return Estimate(float(values[0]), percentiles(values[1:], level) if varies else None)


def estimate_exp(log_values: FloatArray, level: float) -> Estimate:
    """The exponential of an estimate made in logarithms; overflows to ``inf``."""
    with np.errstate(over="ignore"):
        return estimate(np.exp(log_values), level)


def estimates(values: Mapping[str, FloatArray], level: float) -> dict[str, Estimate]:
    """:func:`estimate` of every vector."""
    return {name: estimate(part, level) for name, part in values.items()}


def estimates_exp(log_values: Mapping[str, FloatArray], level: float) -> dict[str, Estimate]:
    """:func:`estimate_exp` of every vector."""
    return {name: estimate_exp(part, level) for name, part in log_values.items()}


def shares_of(parts: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Each part over the sum of all; NaN where the sum is 0 or infinite, because there is nothing to share."""
    total = np.sum(list(parts.values()), axis=0)
    usable = np.isfinite(total) & (total != 0)
    return {name: np.where(usable, part / np.where(usable, total, 1.0), np.nan) for name, part in parts.items()}


def with_draws(law: PowerLaw, arch: str | None = None, boot: Bootstrap | None = None) -> LogLaw:
    """The law followed by its draws under ``arch``, vectors of shape (1 + draws,); (1,) without a bootstrap."""
    point = LogLaw(*(np.atleast_1d(part) for part in law.parameters))
    if boot is None or arch is None:
        return point
    return LogLaw(*(np.concatenate(pair) for pair in zip(point, boot.law(arch), strict=True)))
