"""The loss surface over parameters and tokens, and the compute-optimal frontier that follows from it.

``L(N, D) = E + A N^-alpha + B D^-beta`` (Hoffmann et al. 2022, arXiv 2203.15556, eq. 2). N in parameters, D in tokens,
losses in nats per token, compute in FLOPs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import overload

import numpy as np

from algoprog.scaling.errors import InputError
from algoprog.scaling.laws import FloatArray, PowerLaw

FLOPS_PER_PARAM_TOKEN = 6.0
"""Training FLOPs per parameter and token, C = 6 N D: 2 forward, 4 backward (Kaplan et al. 2020, arXiv 2001.08361)."""


@dataclass(frozen=True)
class Surface:
    """``L(N, D) = E + A N^-alpha + B D^-beta`` and its optimum under ``C = k N D``, k = ``flops_per_param_token``.

    Closed forms from setting dL/dN = 0 at fixed C (Hoffmann et al. 2022, eq. 4). Raises InputError unless ``E >= 0``
    and all else > 0, all finite.
    """

    E: float
    A: float
    B: float
    alpha: float
    beta: float
    flops_per_param_token: float = FLOPS_PER_PARAM_TOKEN

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not math.isfinite(value) or value < 0 or (value == 0 and name != "E"):
                bound = ">= 0" if name == "E" else "> 0"
                raise InputError("bad surface", where=f"Surface.{name}", got=value, expected=f"a finite number {bound}")

    @property
    def a_N(self) -> float:
        """Exponent of ``N* ∝ C^a_N``: ``beta/(alpha + beta)``."""
        return self.beta / (self.alpha + self.beta)

    @property
    def b_D(self) -> float:
        """Exponent of ``D* ∝ C^b_D``: ``alpha/(alpha + beta)``; ``a_N + b_D = 1``."""
        return self.alpha / (self.alpha + self.beta)

    @property
    def gamma(self) -> float:
        """Exponent of the frontier ``L* = E + K C^-gamma``: ``alpha beta/(alpha + beta)``."""
        return self.alpha * self.beta / (self.alpha + self.beta)

    @property
    def G0(self) -> float:
        """``N*`` at ``C = k`` FLOPs: ``(alpha A/(beta B))^(1/(alpha + beta))``."""
        return math.exp(math.log(self.alpha * self.A / (self.beta * self.B)) / (self.alpha + self.beta))

    @property
    def K(self) -> float:
        """Reducible loss of the frontier at one FLOP: ``k^gamma (A G0^-alpha + B G0^beta)``."""
        log_k, log_g = math.log(self.flops_per_param_token), math.log(self.G0)
        terms = self.A * math.exp(-self.alpha * log_g) + self.B * math.exp(self.beta * log_g)
        return math.exp(self.gamma * log_k) * terms

    @property
    def frontier(self) -> PowerLaw:
        """The compute-optimal law ``L*(C) = E + K C^-gamma``."""
        return PowerLaw(self.E, self.K, self.gamma)

    @overload
    def loss(self, params: float, tokens: float) -> float: ...
    @overload
    def loss(self, params: FloatArray, tokens: FloatArray) -> FloatArray: ...
    def loss(self, params: float | FloatArray, tokens: float | FloatArray) -> float | FloatArray:
        """Loss in nats per token at N = ``params``, D = ``tokens`` (> 0; numbers, or arrays that broadcast)."""
        n, d = np.asarray(params, dtype=np.float64), np.asarray(tokens, dtype=np.float64)
        value = self.E + self.A * n**-self.alpha + self.B * d**-self.beta
        return float(value) if value.ndim == 0 else value

    @overload
    def optimal(self, flops: float) -> tuple[float, float]: ...
    @overload
    def optimal(self, flops: FloatArray) -> tuple[FloatArray, FloatArray]: ...
    def optimal(self, flops: float | FloatArray) -> tuple[float, float] | tuple[FloatArray, FloatArray]:
        """``(N*, D*)`` of lowest loss with ``k N* D* = flops``; numbers or arrays like ``flops``."""
        nd = np.asarray(flops, dtype=np.float64) / self.flops_per_param_token
        n = self.G0 * nd**self.a_N
        d = nd / n
        return (float(n), float(d)) if n.ndim == 0 else (n, d)

    @overload
    def compute(self, loss: float) -> float: ...
    @overload
    def compute(self, loss: FloatArray) -> FloatArray: ...
    def compute(self, loss: float | FloatArray) -> float | FloatArray:
        """Least FLOPs that reach ``loss``; ``inf`` where ``loss <= E``."""
        return self.frontier.compute(loss)

    def curvature(self, flops: float) -> float:
        """Curvature kappa_N of L in ln N at fixed C at the optimum, nats per squared unit of ln N.

        ``alpha beta (L* - E)``. A size wrong by a factor f costs about ``kappa_N (ln f)^2/2``.
        """
        return self.alpha * self.beta * (self.frontier.loss(flops) - self.E)
