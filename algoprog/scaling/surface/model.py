"""The model and the objective of many fits at once of the surface ``L = E + A N^-alpha + B D^-beta``.

One *problem* is n points with weights. With u = ln N - n0, v = ln D - d0 and p = (a, b, e, alpha, beta) the model is

    m = logsumexp(a - alpha u, b - beta v, e)        s1, s2, s3 = softmax weights of the three terms

for ln L (Hoffmann et al. 2022, appendix D.3, centred: uncentred, ln A and alpha would be nearly collinear and the
condition number of JᵀJ a hundred times larger). The residual z is ``ln L - m``, or ``L - exp(m)`` if ``raw``, and the
objective ``Q = sum w c(z) h(z)`` with Huber's function h and c = ``tilt`` below zero, 1 above. Sums, never means.
B problems are arrays with a leading axis of length B.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from algoprog.scaling.laws import FloatArray

A, B, E, ALPHA, BETA = range(5)  # columns of the parameters
PARAMETERS = 5
EXPONENT_BOUNDS = (1e-4, 10.0)
LOG_SPAN = 16.0  # a term is bounded to this many e-folds below the lowest loss: far below what data can tell
HEADROOM = 5.0  # ... and above the highest


@dataclass(frozen=True)
class SurfaceProblem:
    """B problems on the same n points: ``u``, ``v``, ``y`` = ln(loss in nats), each (n,); weights ``w`` (B, n), 0
    where a draw lacks the point. ``knee``: in ln L, in nats if ``raw``; ``inf`` for squares."""

    u: FloatArray
    v: FloatArray
    y: FloatArray
    w: FloatArray
    knee: float = np.inf
    raw: bool = False
    tilt: float = 1.0

    def take(self, rows: NDArray[np.intp]) -> SurfaceProblem:
        """The problems ``rows``; a row may be taken more than once."""
        return replace(self, w=self.w[rows])

    @property
    def bounds(self) -> tuple[FloatArray, FloatArray]:
        """Lowest and highest value of every parameter, (5,) each; no E lies above the lowest loss."""
        lowest, highest = float(self.y.min()), float(self.y.max()) + HEADROOM
        low = np.array([lowest - LOG_SPAN] * 3 + [EXPONENT_BOUNDS[0]] * 2)
        return low, np.array([highest, highest, lowest] + [EXPONENT_BOUNDS[1]] * 2)


def model(p: FloatArray, problem: SurfaceProblem) -> tuple[FloatArray, FloatArray]:
    """``m`` = ln L_hat, shape (B, n), and the softmax weights of the three terms, shape (3, B, n)."""
    terms = np.stack(
        [
            p[:, A, None] - p[:, ALPHA, None] * problem.u,
            p[:, B, None] - p[:, BETA, None] * problem.v,
            np.broadcast_to(p[:, E, None], (p.shape[0], problem.u.size)),
        ]
    )
    top = terms.max(axis=0)
    shares = np.exp(terms - top)
    total = shares.sum(axis=0)
    return top + np.log(total), shares / total


def residuals(p: FloatArray, problem: SurfaceProblem) -> FloatArray:
    """z at every point, shape (B, n): in ln L, in nats if ``raw``."""
    m, _ = model(p, problem)
    return point_residuals(m, problem)


def point_residuals(m: FloatArray, problem: SurfaceProblem) -> FloatArray:
    """z (B, n) where ln L_hat is ``m`` (B, n)."""
    # The clip only bites on absurd trial steps, which are then rejected; it keeps them finite.
    return np.exp(problem.y) - np.exp(np.minimum(m, 300.0)) if problem.raw else problem.y - m


def point_weights(z: FloatArray, problem: SurfaceProblem) -> FloatArray:
    """``w c(z)``, (B, n)."""
    return problem.w if problem.tilt == 1.0 else problem.w * np.where(z < 0, problem.tilt, 1.0)


def objective(p: FloatArray, problem: SurfaceProblem) -> FloatArray:
    """Q of each problem, shape (B,)."""
    return _total(residuals(p, problem), problem)


def _total(z: FloatArray, problem: SurfaceProblem) -> FloatArray:
    size, knee = np.abs(z), problem.knee
    h = 0.5 * size**2 if np.isinf(knee) else np.where(size <= knee, 0.5 * size**2, knee * (size - 0.5 * knee))
    return np.asarray(np.einsum("bn,bn->b", point_weights(z, problem), h))


def jacobian(p: FloatArray, problem: SurfaceProblem) -> FloatArray:
    """``dm/dp``, shape (B, n, 5): s1, s2, s3, -s1 u, -s2 v."""
    _, s = model(p, problem)
    return columns_of(s, problem)


def columns_of(s: FloatArray, problem: SurfaceProblem) -> FloatArray:
    """``dm/dp`` (B, n, 5) where the softmax weights are ``s`` (3, B, n)."""
    return np.stack([s[0], s[1], s[2], -s[0] * problem.u, -s[1] * problem.v], axis=-1)


def gradient(p: FloatArray, problem: SurfaceProblem) -> FloatArray:
    """``dQ/dp``, shape (B, 5): ``-sum psi s_k`` for the terms, ``sum psi s1 u`` and ``sum psi s2 v`` for the exponents,
    psi = w c h'(z), times exp(m) if ``raw``."""
    m, s = model(p, problem)
    z = point_residuals(m, problem)
    pull = point_weights(z, problem) * np.clip(z, -problem.knee, problem.knee)
    pull = pull * np.exp(m) if problem.raw else pull
    return -np.asarray(np.einsum("bn,bnk->bk", pull, columns_of(s, problem)))
