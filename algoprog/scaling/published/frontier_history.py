"""The study's progress over the years, its Kaplan-to-Chinchilla factor, and its sensitivity to the exponents."""

from __future__ import annotations

import math

import numpy as np

from algoprog.scaling.allocation import AllocationGain, Policy, RoundedFactor
from algoprog.scaling.growth import ComputeTrend
from algoprog.scaling.laws import FloatArray
from algoprog.scaling.published.number import Number
from algoprog.scaling.surface.law import Surface

_HOFFMANN, _KAPLAN = "arXiv 2203.15556", "arXiv 2001.08361"
_SURFACE = "loss surface, approach 3"
SURFACE = (
    Number("surface E", 1.69, "nats/token", "text", _SURFACE, _HOFFMANN, "cancels from gains"),
    Number("surface A", 406.4, "nats/token at 1 parameter", "text", _SURFACE, _HOFFMANN),
    Number("surface alpha", 0.34, "exponent of parameters", "text", _SURFACE, _HOFFMANN),
    Number("surface B", 410.7, "nats/token at 1 token", "text", _SURFACE, _HOFFMANN),
    Number("surface beta", 0.28, "exponent of tokens", "text", _SURFACE, _HOFFMANN),
)
_POLICY = "compute-optimal model size"
POLICY = (
    Number("policy p", 0.73, "exponent of parameters in C", "text", _POLICY, _KAPLAN),
    Number("policy parameters", 1.3e9, "parameters", "text", _POLICY, _KAPLAN, "at one PF-day"),
    Number("policy compute", 8.64e19, "FLOPs", "text", _POLICY, _KAPLAN, "one PF-day"),
)
_PRINTED = "C times 1.85e-20 (28737.9 C^-.2482 + 20.337 C^-.0756)^6.512"
_OUTPUT = "output of the decomposition"
ALLOCATION_GAINS = (
    Number("Chinchilla 2012-2023", 3.71, "x", "code", _OUTPUT, note=f"at 1.34227e22 FLOPs; {_PRINTED}"),
    Number("Chinchilla 2013-2025", 9.84, "x", "code", _OUTPUT, note=f"at 2.25635e23 FLOPs; {_PRINTED}"),
)
ROUNDED = RoundedFactor(1.85e-20, ((28737.9, 0.2482), (20.337, 0.0756)), 6.512)
"""The factor as the authors' code has it, digits and all."""

_TREND = "compute at the frontier, C(year) = 1e16 * 4.1^(year - 2013)"
TREND = (
    Number("compute in 2013", 1e16, "FLOPs", "code", _TREND),
    Number("growth of compute", 4.1, "x per year", "code", _TREND, note="the text says about 4.2"),
)
COMPUTE = ComputeTrend(flops=TREND[0].value, year=2013, growth=TREND[1].value)
END_FLOPS = {2023: 1.34227e22, 2025: 2.25635e23}
TOTALS = (
    Number("total 2012-2023", 6926.35, "x", "code", _OUTPUT, note="6,930 in the abstract"),
    Number("total 2013-2025", 21415.66, "x", "code", _OUTPUT),
)
SCALE_DEPENDENT = (
    Number("scale-dependent 2012-2023", 2697.11, "x", "code", _OUTPUT, note="89.33 % of ln gain"),
    Number("scale-dependent 2013-2025", 8339.21, "x", "code", _OUTPUT, note="90.54 % of ln gain"),
)
TARGET = Number("gain 2012-2023 to be explained", 22000.0, "x", "text", "abstract", "arXiv 2403.05812")
REFERENCE_GROWTH = Number(
    "growth against the LSTM", 0.63, "ln gain per year", "text", "reference dependence",
    note="printed as 63 % annually, though a log rate: 88 % per year",
)  # fmt: skip

FIRST_TRANSFORMER = Number("LSTM to Kaplan transformer at 2017.01", 90.87, "x", "code", _OUTPUT)
TRANSFORMER_YEAR, CHINCHILLA_YEAR = 2017, 2022
JOINT = 1.33
"""Gain that the single changes are said to make together: each counts to the power that makes their product this."""
SHRUNK = ((2018, 1.44 / 1.26), (2018, 1.04), (2019, 1.87), (2020, 1.09), (2021, 1.26))
"""Year and bar of every single change of the total: learned positions, cosine, pre-norm, RMSNorm, rotary."""
LEFT_OUT = 1.17
"""The bar of SwiGLU, which is shrunk with the others and then lost from the total."""
MIXTURE = (2021, 2.0)
"""Mixture of experts, from the literature."""
INVARIANT = Number("invariant gain", 2.568067, "x", "code", _OUTPUT, note="product of the rounded and shrunk parts")
_TURNED = "sensitivity of the total to the exponent gap"
_ABOUT = "the LSTM line turned about C = 1, total 2012-2023"
SENSITIVITY = (
    Number("gap -25 %", 18.9, "x", "code", _TURNED, note=_ABOUT),
    Number("gap -10 %", 561.0, "x", "code", _TURNED, note=_ABOUT),
    Number("gap +10 %", 1.08e5, "x", "code", _TURNED, note=_ABOUT),
    Number("gap +25 %", 1.12e7, "x", "code", _TURNED, note=_ABOUT),
)
GAP_CHANGES = {"gap -25 %": -0.25, "gap -10 %": -0.10, "gap +10 %": 0.10, "gap +25 %": 0.25}


def log_invariant(year: float) -> float:
    """``ln`` of the gain of all changes up to ``year`` that do not depend on scale, by the study's arithmetic."""
    power = math.log(JOINT) / math.log(LEFT_OUT * math.prod(bar for _, bar in SHRUNK))
    shrunk = sum(power * math.log(bar) for when, bar in SHRUNK if when <= year)
    return shrunk + (math.log(MIXTURE[1]) if MIXTURE[0] <= year else 0.0)


def log_total(year: float, log_transformer: FloatArray) -> FloatArray:
    """``ln`` of the gain at the frontier of ``year`` over the LSTM, by the study's arithmetic.

    ``log_transformer``: ln gain of the transformer over the LSTM at that year's compute, any shape. Until 2022 the
    transformers were trained under Kaplan's policy, whose factor is taken off; before 2017 nothing was gained.
    """
    if year < TRANSFORMER_YEAR:
        return np.zeros_like(log_transformer)
    wasted = 0.0 if year >= CHINCHILLA_YEAR else float(ROUNDED.log_old(COMPUTE.log_flops(year)))
    return np.asarray(log_transformer + log_invariant(year) - wasted)


def allocation_gain() -> AllocationGain:
    """The factor without rounding, from the surface and the policy."""
    surface = {number.name.removeprefix("surface "): number.value for number in SURFACE}
    policy = {number.name: number.value for number in POLICY}
    return AllocationGain(
        Surface(surface["E"], surface["A"], surface["B"], surface["alpha"], surface["beta"]),
        Policy.through(policy["policy parameters"], policy["policy compute"], policy["policy p"]),
    )
