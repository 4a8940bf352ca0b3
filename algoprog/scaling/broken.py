"""A smoothly broken power law: two exponents and a bend between them (Caballero et al. 2023, arXiv 2210.14891, eq. 1).

``L(C) = E + a (C/C0)^-alpha [1 + (C/d)^(1/f)]^(-c f)``: exponent alpha well below the break d, alpha + c well above it;
small f is a sharp bend. Units: compute in FLOPs, loss in nats per token.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import overload

import numpy as np

from algoprog.scaling.errors import InputError
from algoprog.scaling.laws import FloatArray


@dataclass(frozen=True)
class BrokenLaw:
    """``L(C) = E + a (C/C0)^-alpha [1 + (C/d)^(1/f)]^(-c f)``, falling throughout.

    ``E``, ``a`` in nats per token (``a`` without the bend's factor), ``C0`` and ``d`` in FLOPs. Raises InputError unless
    ``E >= 0``, ``a, d, f, C0 > 0``, ``alpha >= 0``, ``alpha + c >= 0`` and one of the two exponents is positive, all
    finite.
    """

    E: float
    a: float
    alpha: float
    c: float
    d: float
    f: float
    C0: float = 1.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            bad = not math.isfinite(value) or (name in ("a", "d", "f", "C0") and value <= 0)
            if bad or (name in ("E", "alpha") and value < 0):
                bound = {"E": ">= 0", "alpha": ">= 0", "c": ""}.get(name, "> 0")
                raise InputError(
                    "bad broken power law", where=f"BrokenLaw.{name}", got=value, expected=f"a finite number {bound}"
                )
        if self.alpha_after < 0 or self.alpha_after == self.alpha == 0:
            raise InputError("a broken power law must fall", where="BrokenLaw.c", got=self.c, expected="alpha + c >= 0")

    @property
    def alpha_after(self) -> float:
        """Exponent well above the break: ``alpha + c``."""
        return self.alpha + self.c

    def log_reducible(self, log_flops: FloatArray) -> FloatArray:
        """``ln(L - E)`` at ``ln C``."""
        bend = np.logaddexp(0.0, (log_flops - math.log(self.d)) / self.f)
        return np.asarray(math.log(self.a) - self.alpha * (log_flops - math.log(self.C0)) - self.c * self.f * bend)

    @overload
    def loss(self, flops: float) -> float: ...
    @overload
    def loss(self, flops: FloatArray) -> FloatArray: ...
    def loss(self, flops: float | FloatArray) -> float | FloatArray:
        """Loss in nats per token at ``flops`` (> 0; a number or an array, the result has its shape)."""
        with np.errstate(over="ignore"):
            value = self.E + np.exp(self.log_reducible(np.log(np.asarray(flops, dtype=np.float64))))
        return float(value) if np.ndim(flops) == 0 else value

    @overload
    def compute(self, loss: float) -> float: ...
    @overload
    def compute(self, loss: FloatArray) -> FloatArray: ...
    def compute(self, loss: float | FloatArray) -> float | FloatArray:
        """FLOPs at which the law reaches ``loss``: the inverse of :meth:`loss`, by root finding.

        ``inf`` where the loss is never reached, 0 where it is never exceeded (an exponent of 0 on one side).
        """
        values = np.array([self._inverse(float(value)) for value in np.ravel(loss)])
        return float(values[0]) if np.ndim(loss) == 0 else values.reshape(np.shape(loss))

    def _inverse(self, loss: float) -> float:
        # Imported here: scipy costs as much to import as the rest of this folder together.
        from scipy.optimize import brentq

        if loss <= self.E:
            return math.inf
        target, span = math.log(loss - self.E), 1.0

        def excess(x: float) -> float:
            return float(self.log_reducible(np.asarray(x))) - target

        low = high = math.log(self.d)
        while excess(low) < 0:
            low, span = low - span, 2.0 * span
            if low < -1e6:
                return 0.0
        span = 1.0
        while excess(high) > 0:
            high, span = high + span, 2.0 * span
            if high > 1e6:
                return math.inf
        with np.errstate(over="ignore"):
            return float(np.exp(brentq(excess, low, high, xtol=1e-14, rtol=1e-14))) if low < high else self.d
