"""Dividing compute between parameters and tokens: what a policy wastes against the compute-optimal division.

A policy is ``N = k C^p`` (Kaplan et al. 2020, arXiv 2001.08361: p = .73), the optimum follows from a loss surface
``L = E + A N^-alpha + B D^-beta`` (Hoffmann et al. 2022, arXiv 2203.15556). At equal loss, with f = FLOPs per parameter
and token (6), E cancels:

* *old-anchored*, C spent under the policy: ``W(C) = C {[A k^-alpha C^(-p alpha) + B (f k)^beta C^(-(1-p) beta)]/K}^(1/gamma)``
* *new-anchored*, C spent at the optimum: ``e^u/C`` where ``u - ln W(e^u) = ln C``, which has one root.

W >= 1 everywhere, 1 at one compute: it is a distance from the optimum, wasteful on both sides, and not a trend.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from algoprog.scaling.errors import InputError
from algoprog.scaling.intervals.bootstrap import percentiles
from algoprog.scaling.laws import FloatArray
from algoprog.scaling.surface.law import Surface

NEWTON_STEPS = 100
SETTLED = 1e-13  # of ln C


@dataclass(frozen=True)
class Policy:
    """``N = k C^p`` parameters for C FLOPs, the rest in tokens. Raises InputError unless ``k > 0`` and ``0 < p < 1``."""

    k: float
    p: float

    def __post_init__(self) -> None:
        if not (0 < self.k < math.inf and 0 < self.p < 1):
            raise InputError("bad policy N = k C^p", got=f"k {self.k:g}, p {self.p:g}", expected="k > 0 and 0 < p < 1")

    @classmethod
    def through(cls, params: float, flops: float, p: float) -> Policy:
        """The policy of exponent ``p`` that gives a model of ``params`` parameters to ``flops`` FLOPs."""
        if not (0 < params < math.inf and 0 < flops < math.inf):
            expected = "finite numbers > 0"
            raise InputError("bad point of a policy", got=f"params {params:g} at {flops:g} FLOPs", expected=expected)
        return cls(math.exp(math.log(params) - p * math.log(flops)), p)

    def pivoted(self, p: float, flops: float) -> Policy:
        """The policy of exponent ``p`` that agrees with this one at ``flops``."""
        return Policy.through(self.params(flops), flops, p)

    def params(self, flops: float) -> float:
        """N for ``flops`` FLOPs."""
        return math.exp(math.log(self.k) + self.p * math.log(flops))


@dataclass(frozen=True)
class AllocationGain:
    """The gain of the compute-optimal division under ``surface`` over ``policy``, in both anchors.

    Methods whose names begin with ``log`` take and return natural logarithms, arrays of any shape.
    """

    surface: Surface
    policy: Policy

    def log_old(self, log_flops: FloatArray) -> FloatArray:
        """``ln W`` where the policy spends C."""
        return np.asarray(log_flops - self._log_optimal(log_flops))

    def slope_old(self, log_flops: FloatArray) -> FloatArray:
        """``d ln W/d ln C``."""
        return 1.0 - self._log_optimal_slope(log_flops)

    def log_new(self, log_flops: FloatArray) -> FloatArray:
        """``u - ln C``, the gain where the optimum spends C."""
        return np.asarray(self._log_policy(log_flops) - log_flops)

    def slope_new(self, log_flops: FloatArray) -> FloatArray:
        """``d ln gain/d ln C = w/(1 - w)``, w the old-anchored slope at ``e^u``."""
        return 1.0 / self._log_optimal_slope(self._log_policy(log_flops)) - 1.0

    def old(self, flops: float) -> float:
        """W at ``flops`` spent under the policy."""
        return float(np.exp(self.log_old(np.asarray(math.log(flops)))))

    def new(self, flops: float) -> float:
        """The gain at ``flops`` spent at the optimum; ``inf`` on overflow."""
        with np.errstate(over="ignore"):
            return float(np.exp(self.log_new(np.asarray(math.log(flops)))))

    @property
    def break_even(self) -> float | None:
        """``C = (G0 f^-a_N/k)^(1/(p - a_N))``, where the policy is optimal and W = 1; None if ``p = a_N``.

        ``inf`` or 0 where it overflows or underflows.
        """
        s, gap = self.surface, self.policy.p - self.surface.a_N
        if gap == 0:
            return None
        log_c = (math.log(s.G0) - s.a_N * math.log(s.flops_per_param_token) - math.log(self.policy.k)) / gap
        with np.errstate(over="ignore", under="ignore"):
            return float(np.exp(log_c))

    @property
    def asymptotic_slope(self) -> float:
        """``d ln W/d ln C`` for large C: ``1 - min(p alpha, (1-p) beta)/gamma``."""
        s, p = self.surface, self.policy.p
        return 1.0 - min(p * s.alpha, (1.0 - p) * s.beta) / s.gamma

    def tokens_per_param(self, flops: float) -> float:
        """D/N under the policy."""
        return flops / (self.surface.flops_per_param_token * self.policy.params(flops) ** 2)

    def _log_terms(self, log_flops: FloatArray) -> tuple[FloatArray, FloatArray]:
        """``ln`` of the size term and of the data term of the reducible loss under the policy."""
        s, k, p = self.surface, self.policy.k, self.policy.p
        size = math.log(s.A) - s.alpha * (math.log(k) + p * log_flops)
        data = math.log(s.B) + s.beta * (math.log(s.flops_per_param_token * k) - (1.0 - p) * log_flops)
        return np.asarray(size), np.asarray(data)

    def _log_optimal(self, log_flops: FloatArray) -> FloatArray:
        """``ln C`` at which the optimum reaches the loss that the policy reaches at ``log_flops``."""
        return np.asarray((math.log(self.surface.K) - np.logaddexp(*self._log_terms(log_flops))) / self.surface.gamma)

    def _log_optimal_slope(self, log_flops: FloatArray) -> FloatArray:
        size, data = self._log_terms(log_flops)
        weight = np.exp(size - np.logaddexp(size, data))
        s, p = self.surface, self.policy.p
        return np.asarray((p * s.alpha * weight + (1.0 - p) * s.beta * (1.0 - weight)) / s.gamma)

    def _log_policy(self, log_flops: FloatArray) -> FloatArray:
        """The inverse of :meth:`_log_optimal`.

        The log of the loss is convex and falls, and the larger of the two single-term roots lies left of the root, so
        Newton's steps from there never overshoot and always arrive.
        """
        s, p = self.surface, self.policy.p
        target = math.log(s.K) - s.gamma * np.asarray(log_flops, dtype=np.float64)
        size0, data0 = self._log_terms(np.zeros(()))
        u = np.maximum((size0 - target) / (p * s.alpha), (data0 - target) / ((1.0 - p) * s.beta))
        for _ in range(NEWTON_STEPS):
            step = (np.logaddexp(*self._log_terms(u)) - target) / (s.gamma * self._log_optimal_slope(u))
            u = u + step
            if np.all(np.abs(step) <= SETTLED * np.maximum(1.0, np.abs(u))):
                break
        return np.asarray(u)


@dataclass(frozen=True)
class RoundedFactor:
    """An old-anchored factor as a study printed it: ``W(C) = scale C (c1 C^-x1 + c2 C^-x2)^power``, digits and all."""

    scale: float
    terms: tuple[tuple[float, float], tuple[float, float]]
    power: float

    def log_old(self, log_flops: FloatArray) -> FloatArray:
        """``ln W`` where the policy spends C."""
        parts = [math.log(c) - x * log_flops for c, x in self.terms]
        return np.asarray(math.log(self.scale) + log_flops + self.power * np.logaddexp(*parts))

    def slope_old(self, log_flops: FloatArray) -> FloatArray:
        """``d ln W/d ln C``."""
        (c1, x1), (c2, x2) = self.terms
        first, second = math.log(c1) - x1 * log_flops, math.log(c2) - x2 * log_flops
        weight = np.exp(first - np.logaddexp(first, second))
        return np.asarray(1.0 - self.power * (x1 * weight + x2 * (1.0 - weight)))


@dataclass(frozen=True)
class AllocationSpread:
    """An allocation gain at one compute with its two sources of spread, which are not to be added.

    ``interval``: from draws of the surface, None without draws. ``policies``: lowest and highest gain over the stated
    policies, a range over admissible choices and not a confidence interval; None without such a range.
    """

    gain: float
    interval: tuple[float, float] | None
    policies: tuple[float, float] | None


def allocation_spread(
    gain: AllocationGain,
    flops: float,
    *,
    anchor: str = "old",
    draws: Sequence[Surface] = (),
    policies: Sequence[Policy] = (),
    level: float = 0.95,
) -> AllocationSpread:
    """The gain at ``flops`` with the spread from ``draws`` of the surface and from other ``policies``.

    Each source is varied with the other at its point value. Raises InputError for an unknown anchor.
    """
    if anchor not in ("new", "old"):
        raise InputError("unknown anchor", got=anchor, expected="new or old")

    def at(surface: Surface, policy: Policy) -> float:
        one = AllocationGain(surface, policy)
        return one.old(flops) if anchor == "old" else one.new(flops)

    drawn = percentiles(np.array([at(surface, gain.policy) for surface in draws]), level)
    varied = [at(gain.surface, policy) for policy in (gain.policy, *policies)]
    return AllocationSpread(
        at(gain.surface, gain.policy), drawn, (min(varied), max(varied)) if len(varied) > 1 else None
    )


def bookkeeping_slope(
    surface: Surface, omega: float, params: tuple[float, float] = (768.0, 1.5e9), points: int = 4001
) -> float:
    """Least-squares slope of ln N on ln C, uniform in ln C, if one optimum is written in non-embedding parameters.

    With total parameters ``N_T = N + omega N^(1/3)``, compute ``C = f N D`` of the N non-embedding ones and ``phi = (N +
    omega N^(1/3)/3)/N_T``, the optimum is the curve ``C = f N [(alpha A/(beta B)) phi N_T^-alpha]^(-1/beta)`` (Pearce and
    Song 2024, arXiv 2406.12907). ``params``: lowest and highest N of the range that is fitted.
    """
    s = surface
    log_n = np.linspace(math.log(params[0]), math.log(params[1]), points)
    n = np.exp(log_n)
    total = n + omega * np.cbrt(n)
    log_phi = np.log((n + omega * np.cbrt(n) / 3.0) / total)
    log_ratio = math.log(s.alpha * s.A / (s.beta * s.B))
    x = math.log(s.flops_per_param_token) + log_n - (log_ratio + log_phi - s.alpha * np.log(total)) / s.beta
    length = x[-1] - x[0]
    dx, dy = x - np.trapezoid(x, x) / length, log_n - np.trapezoid(log_n, x) / length
    return float(np.trapezoid(dx * dy, x) / np.trapezoid(dx**2, x))
