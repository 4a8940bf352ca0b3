"""Fisher information of power laws: what a design can know, before any run is made.

The observations are ``ln L`` with standard deviation sigma, the law is ``L = E + r``, ``ln r = rho - alpha x`` with
x = ln(C/C0). Derivatives of ln L: ``r/L`` by rho, ``-x r/L`` by alpha, ``1/L`` by E. The covariance of the estimates is
``sigma^2 (J^T J)^-1``: exact for a linear model, the delta method here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from algoprog.scaling.laws import FloatArray, PowerLaw

# z(.975) + z(.80), rounded: how many standard errors an effect needs for 80 % power at 5 % two-sided.
DETECTABLE = 2.80


class Detectable(NamedTuple):
    """The smallest change of an exponent that is seen with 80 % power, at a known break: with E known, and with E free."""

    known: float
    free: float


def law_jacobian(law: PowerLaw, flops: FloatArray) -> FloatArray:
    """Derivatives of ln L at ``flops`` (n,) by (rho, alpha, E), E in nats; shape (n, 3)."""
    loss = np.asarray(law.loss(flops))
    share = (loss - law.E) / loss
    return np.stack([share, -np.log(flops / law.C0) * share, 1.0 / loss], axis=1)


def break_jacobian(law: PowerLaw, flops: FloatArray, d: float) -> FloatArray:
    """``law_jacobian`` and a fourth column: by the change of the exponent above ``d`` FLOPs; shape (n, 4)."""
    loss = np.asarray(law.loss(flops))
    hinge = -np.maximum(np.log(flops / d), 0.0) * (loss - law.E) / loss
    return np.column_stack([law_jacobian(law, flops), hinge])


def covariance(jacobian: FloatArray, sigma: float, weights: FloatArray | None = None) -> FloatArray:
    """``sigma^2 (sum_i w_i J_i J_i^T)^-1`` for ``jacobian`` (n, p) and weights (n,), default 1; shape (p, p).

    ``inf`` throughout where the design does not determine all parameters.
    """
    weighted = jacobian if weights is None else jacobian * np.sqrt(weights)[:, None]
    length = np.sqrt((weighted**2).sum(axis=0))
    if not np.all(length > 0):
        return np.full((length.size, length.size), np.inf)
    # Singular values of unit columns: squaring first, as in the normal equations, would halve the digits.
    _, singular, right = np.linalg.svd(weighted / length, full_matrices=False)
    if singular.size < length.size or singular[-1] < 1e-12 * singular[0]:
        return np.full((length.size, length.size), np.inf)
    inverse = right.T / singular
    return np.asarray(sigma**2 * (inverse @ inverse.T) / np.outer(length, length))


def detectable_break(law: PowerLaw, flops: FloatArray, d: float, sigma: float) -> Detectable:
    """The smallest change of exponent at a known break ``d`` (FLOPs) that runs at ``flops`` (n,) can see; ``sigma`` of ln L.

    ``inf`` where runs on one side of the break do not determine an exponent.
    """
    jacobian = break_jacobian(law, flops, d)
    known = covariance(jacobian[:, [0, 1, 3]], sigma)[-1, -1]
    free = covariance(jacobian, sigma)[-1, -1]
    return Detectable(DETECTABLE * float(np.sqrt(known)), DETECTABLE * float(np.sqrt(free)))
