"""Information criteria of laws fitted by least squares of ln L."""

from __future__ import annotations

import math
from dataclasses import dataclass

SMALLEST_RSS = 1e-300  # keeps the logarithm of an exact fit finite


@dataclass(frozen=True)
class Criteria:
    """One model with its number of ``parameters``, sigma included, the RSS of ln L, and both criteria; lower is better.

    ``AICc = n ln(RSS/n) + 2k + 2k(k+1)/(n-k-1)`` (Hurvich and Tsai 1989; ``inf`` for n <= k + 1),
    ``BIC = n ln(RSS/n) + k ln n`` (Schwarz 1978).
    """

    model: str
    parameters: int
    rss: float
    aicc: float
    bic: float


def criteria(model: str, parameters: int, rss: float, runs: int) -> Criteria:
    """The criteria of a fit to ``runs`` runs, the unit that counts, with residual sum of squares ``rss``."""
    k, n = parameters, runs
    fit = n * math.log(max(rss, SMALLEST_RSS) / n)
    aicc = fit + 2 * k + 2 * k * (k + 1) / (n - k - 1) if n > k + 1 else math.inf
    return Criteria(model, k, rss, aicc, fit + k * math.log(n))
