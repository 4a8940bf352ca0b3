"""Medians, ranges and distribution-free intervals of repeated timings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

COVERAGE = 0.95


def quantile(values: Sequence[float], q: float) -> float:
    """Linear interpolation between order statistics, as ``numpy.quantile`` does."""
    ordered = sorted(values)
    at = q * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (at - low) * (ordered[high] - ordered[low])


def median_interval(values: Sequence[float], coverage: float = COVERAGE) -> tuple[float, float] | None:
    """An interval for the median of independent values of any distribution: two order statistics (David & Nagaraja 2003,
    section 7.1), the closest pair whose coverage ``1 - 2 P(Binomial(n, 1/2) < k)`` is at least ``coverage``.

    None with fewer values than any pair covers (six for 95 %).
    """
    n, ordered = len(values), sorted(values)
    tail, k = 0.0, 0
    while k < n // 2 and 2 * (tail + math.comb(n, k) / 2**n) <= 1 - coverage:
        tail += math.comb(n, k) / 2**n
        k += 1
    return (ordered[k - 1], ordered[n - k]) if k > 0 else None


def describe_ratio(top: Sequence[float], bottom: Sequence[float]) -> dict[str, Any]:
    """The ratio of two things timed in the same rounds: median of the rounds' ratios, with its interval."""
    ratios = [a / b for a, b in zip(top, bottom, strict=True)]
    interval = median_interval(ratios)
    return {"ratio": quantile(ratios, 0.5), "interval": None if interval is None else list(interval)}
