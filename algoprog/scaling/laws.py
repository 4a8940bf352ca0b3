"""The power law of one architecture: loss as a function of training compute.

Units: compute in FLOPs, loss in nats per token.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from algoprog.scaling.errors import InputError

FloatArray = NDArray[np.float64]


class LogLaw(NamedTuple):
    """The parameters of one law, or of one law per bootstrap draw: equal shapes, or shapes that broadcast.

    ``L = E + exp(log_a - alpha * (ln C - log_c0))``.
    """

    E: FloatArray
    log_a: FloatArray
    alpha: FloatArray
    log_c0: FloatArray

    def log_reducible(self, log_flops: FloatArray) -> FloatArray:
        """``ln(L - E)`` at ``ln C``."""
        return np.asarray(self.log_a - self.alpha * (log_flops - self.log_c0), dtype=np.float64)

    def log_compute(self, reducible: FloatArray) -> FloatArray:
        """``ln C`` at which ``L - E`` equals ``reducible`` (nats per token); ``inf`` where it is not positive."""
        positive = reducible > 0
        log_r = np.log(np.where(positive, reducible, 1.0))
        return np.where(positive, self.log_c0 + (self.log_a - log_r) / self.alpha, np.inf)


@dataclass(frozen=True)
class PowerLaw:
    """``L(C) = E + a * (C / C0)^-alpha``.

    ``E`` and ``a`` are losses in nats per token (``a`` is the reducible loss at ``C0``), ``alpha`` has no unit,
    ``C0`` is in FLOPs. Raises InputError unless ``E >= 0`` and ``a, alpha, C0 > 0``, all finite.
    """

    E: float
    a: float
    alpha: float
    C0: float = 1.0

    def __post_init__(self) -> None:
        for name, value in (("E", self.E), ("a", self.a), ("alpha", self.alpha), ("C0", self.C0)):
            if not math.isfinite(value) or value < 0 or (value == 0 and name != "E"):
                bound = ">= 0" if name == "E" else "> 0"
                raise InputError(
                    "bad power law", where=f"PowerLaw.{name}", got=value, expected=f"a finite number {bound}"
                )

    @property
    def A(self) -> float:
        """The factor for ``C0 = 1``: ``L = E + A * C^-alpha``. Overflows to ``inf`` rather than raising."""
        with np.errstate(over="ignore"):
            return float(np.exp(math.log(self.a) + self.alpha * math.log(self.C0)))

    @property
    def parameters(self) -> LogLaw:
        """The law in logarithms, as arrays without dimensions."""
        values = (self.E, math.log(self.a), self.alpha, math.log(self.C0))
        return LogLaw(*(np.asarray(value, dtype=np.float64) for value in values))

    @overload
    def loss(self, flops: float) -> float: ...
    @overload
    def loss(self, flops: FloatArray) -> FloatArray: ...
    def loss(self, flops: float | FloatArray) -> float | FloatArray:
        """Loss in nats per token at ``flops`` (> 0; a number or an array, the result has its shape)."""
        with np.errstate(over="ignore", divide="ignore"):
            value = self.E + np.exp(self.parameters.log_reducible(np.log(np.asarray(flops, dtype=np.float64))))
        return float(value) if np.ndim(flops) == 0 else value

    @overload
    def compute(self, loss: float) -> float: ...
    @overload
    def compute(self, loss: FloatArray) -> FloatArray: ...
    def compute(self, loss: float | FloatArray) -> float | FloatArray:
        """FLOPs at which the law reaches ``loss``; ``inf`` where ``loss <= E``. The inverse of :meth:`loss`."""
        with np.errstate(over="ignore"):
            value = np.exp(self.parameters.log_compute(np.asarray(loss, dtype=np.float64) - self.E))
        return float(value) if np.ndim(loss) == 0 else np.asarray(value)
