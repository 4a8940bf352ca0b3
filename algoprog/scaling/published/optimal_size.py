"""Published exponents of the compute-optimal size, ``N* ∝ C^a``."""

from __future__ import annotations

from algoprog.scaling.published.frontier_history import allocation_gain
from algoprog.scaling.published.number import Number

_HOFFMANN, _TABLE = "arXiv 2203.15556", "table 2, scaling of parameters and tokens"
EXPONENTS = (
    Number("size exponent, approach 1", 0.50, "exponent of compute", "table", _TABLE, _HOFFMANN, "training curve envelope"),
    Number("size exponent, approach 2", 0.49, "exponent of compute", "table", _TABLE, _HOFFMANN, "IsoFLOP profiles"),
    Number("size exponent, approach 3", 0.46, "exponent of compute", "table", _TABLE, _HOFFMANN,
           "beta/(alpha + beta) of its printed surface is 0.452"),
)  # fmt: skip


def kaplan_exponent() -> float:
    """``a`` of Kaplan et al. 2020 (arXiv 2001.08361): 0.73."""
    return allocation_gain().policy.p


def hoffmann_exponents() -> tuple[float, float]:
    """Lowest and highest ``a`` of Hoffmann et al. 2022: of their three approaches and of the surface as printed."""
    values = [*(number.value for number in EXPONENTS), allocation_gain().surface.a_N]
    return min(values), max(values)
