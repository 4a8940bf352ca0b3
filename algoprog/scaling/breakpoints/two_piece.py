"""A law of two pieces: one irreducible loss E, and an exponent that changes at one compute d.

``L = E + r`` with ``ln r = rho - alpha1 min(x - d, 0) - alpha2 max(x - d, 0)``, x = ln C: continuous, with a kink. It is
fitted by least squares of ln L. Given (E, d) the model is linear in (rho, alpha1, alpha2) for ``ln(L - E)``, and weights
``((L - E)/L)^2`` turn errors of ln(L - E) into errors of ln L. So every pair (E, d) of a grid costs a few sums, for
thousands of data sets at once (a simulated critical value needs as many); the best pairs are then polished by damped
Gauss-Newton on the exact objective in all four parameters.

Shapes: n points, B data sets that share ``x`` (n,), D positions ``d``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

from algoprog.scaling.errors import InputError
from algoprog.scaling.laws import FloatArray

# Values of E that are scanned, as fractions of the lowest loss.
SCAN = (*np.linspace(0.0, 0.8, 13), 0.84, 0.88, 0.91, 0.94, 0.96, 0.975, 0.985, 0.993, 0.998)
FINE = np.linspace(-5.0, 5.0, 21)  # values of E about that of the unbroken law, in standard errors
CEILING = 1.0 - 1e-6  # largest E, as a fraction of the lowest loss
POLISHED = 4  # best positions of the scan that are polished
MAX_STEPS = 60
SETTLED = 1e-10  # stop when a step promises to lower RSS by less than this part of it ...
NOISE_FLOOR = 1e-26  # ... or by less than rounding
LARGEST_DAMPING = 1e8


@dataclass(frozen=True)
class TwoPieceLaw:
    """``L(C) = E + a (C/d)^-alpha1`` for C < d and ``E + a (C/d)^-alpha2`` above.

    ``E`` and ``a`` (the reducible loss at the break) in nats per token, ``d`` in FLOPs. Raises InputError unless
    ``E >= 0``, ``a, d > 0`` and all are finite. An exponent may be negative: a loss that rises.
    """

    E: float
    a: float
    alpha1: float
    alpha2: float
    d: float

    def __post_init__(self) -> None:
        values = (self.E, self.a, self.alpha1, self.alpha2, self.d)
        if not all(map(math.isfinite, values)) or self.E < 0 or self.a <= 0 or self.d <= 0:
            raise InputError("bad two-piece law", got=values, expected="finite numbers, E >= 0, a > 0, d > 0")

    @overload
    def loss(self, flops: float) -> float: ...
    @overload
    def loss(self, flops: FloatArray) -> FloatArray: ...
    def loss(self, flops: float | FloatArray) -> float | FloatArray:
        """Loss in nats per token at ``flops`` (> 0; a number or an array, the result has its shape)."""
        x = np.log(np.asarray(flops, dtype=np.float64) / self.d)
        value = self.E + self.a * np.exp(-self.alpha1 * np.minimum(x, 0.0) - self.alpha2 * np.maximum(x, 0.0))
        return float(value) if np.ndim(flops) == 0 else np.asarray(value)


@dataclass(frozen=True)
class TwoPieceFits:
    """B fits: ``e`` (nats), ``rho`` = ln r at the break, ``alpha`` (B, 2), position ``d`` in the unit of x, ``rss`` of
    ln L, and whether the last step was settled; all (B,) but alpha."""

    e: FloatArray
    rho: FloatArray
    alpha: FloatArray
    d: FloatArray
    rss: FloatArray
    settled: NDArray[np.bool_]

    def law(self, i: int, log_c0: float) -> TwoPieceLaw:
        """Fit ``i`` as a law, for ``x = ln C - log_c0``."""
        a, d = math.exp(float(self.rho[i])), math.exp(float(self.d[i]) + log_c0)
        return TwoPieceLaw(float(self.e[i]), a, float(self.alpha[i, 0]), float(self.alpha[i, 1]), d)

    def take(self, rows: NDArray[np.intp]) -> TwoPieceFits:
        """The fits ``rows``."""
        return TwoPieceFits(
            self.e[rows], self.rho[rows], self.alpha[rows], self.d[rows], self.rss[rows], self.settled[rows]
        )


def fit_profile(x: FloatArray, y: FloatArray, d: FloatArray, e: float | None = None) -> TwoPieceFits:
    """The best law of one data set ``y`` = ln L (n,) at every position of ``d`` (D,); D fits in the order of ``d``.

    ``e`` fixes the irreducible loss (nats); None estimates it at every position.
    """
    if e is None:
        start = scan(x, y[None, :], d, _coarse_grid(y[None, :]))[1][0]
    else:
        start = np.full(d.size, e)
    return polish(x, np.tile(y, (d.size, 1)), d, start, e_free=e is None)


def fit_best(x: FloatArray, y: FloatArray, d: FloatArray, around: FloatArray, width: float) -> TwoPieceFits:
    """The best law of each data set ``y`` (B, n) over all positions ``d`` (D,); B fits.

    A scan of E ranks the positions, the best few are polished, and the lowest RSS wins. ``around`` (B,), nats: E of the
    law without a break, about which the scan is fine, with steps of half the standard error ``width`` of E.
    """
    batch, kept = y.shape[0], min(POLISHED, d.size)
    coarse = _coarse_grid(y)
    fine = np.clip(around + width * FINE[:, None], 0.0, coarse[-1])
    grid = np.sort(np.concatenate([coarse, fine]), axis=0)
    grid += 1e-9 * coarse[-1] * np.arange(grid.shape[0])[:, None]  # keeps values that were clipped together apart
    rss, e = scan(x, y, d, grid)
    best = np.argpartition(rss, kept - 1, axis=1)[:, :kept]
    owner = np.repeat(np.arange(batch), kept)
    fits = polish(x, y[owner], d[best.ravel()], np.take_along_axis(e, best, axis=1).ravel())
    winner = np.argmin(fits.rss.reshape(batch, kept), axis=1)
    return fits.take(np.arange(batch) * kept + winner)


def _coarse_grid(y: FloatArray) -> FloatArray:
    """``SCAN`` in nats for every data set, shape (K, B)."""
    return np.asarray(np.asarray(SCAN)[:, None] * np.exp(y.min(axis=1)))


def scan(x: FloatArray, y: FloatArray, d: FloatArray, grid: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Nearly the lowest RSS over ``grid`` (K, B) of E, ascending, and that E, for every data set and position; (B, D).

    RSS comes from the weighted linear fit of ln(L - E), which differs from the exact one by the relative noise of L - E,
    and its minimum from a parabola through the lowest value and its neighbours.
    """
    loss = np.exp(y)
    hinge = np.maximum(x[:, None] - d[None, :], 0.0)
    values = np.stack([_linear_rss(x, loss, hinge, e) for e in grid])
    middle = np.clip(np.argmin(values, axis=0), 1, grid.shape[0] - 2)
    left, centre, right = (np.take_along_axis(values, (middle + k)[None], axis=0)[0] for k in (-1, 0, 1))
    a, b, c = (grid[middle + k, np.arange(grid.shape[1])[:, None]] for k in (-1, 0, 1))
    # Newton's form of the parabola through the three values.
    first, second = (centre - left) / (b - a), (right - centre) / (c - b)
    curvature = (second - first) / (c - a)
    convex = curvature > 0
    at = 0.5 * (a + b) - 0.5 * first / np.where(convex, curvature, 1.0)
    at = np.where(convex, np.clip(at, a, c), np.where(left < right, a, c))
    return np.maximum(left + first * (at - a) + curvature * (at - a) * (at - b), 0.0), at


def _linear_rss(x: FloatArray, loss: FloatArray, hinge: FloatArray, e: FloatArray) -> FloatArray:
    """RSS at fixed E (B,) and every hinge (n, D) of the weighted linear fit of ln(L - E); (B, D).

    The line without hinge is fitted first; the hinge then takes ``(residual . h)^2 / |h|^2`` off, with h its part
    orthogonal to the line.
    """
    r = loss - e[:, None]
    w, t = (r / loss) ** 2, np.log(r)
    total = w.sum(axis=1, keepdims=True)
    dx = x - (w @ x)[:, None] / total
    wx = w * dx
    sxx = (wx * dx).sum(axis=1, keepdims=True)
    dt = t - (w * t).sum(axis=1, keepdims=True) / total
    residual = dt - ((wx * dt).sum(axis=1, keepdims=True) / sxx) * dx
    wz = w * residual
    length = w @ hinge**2 - (w @ hinge) ** 2 / total - (wx @ hinge) ** 2 / sxx
    return np.asarray((wz * residual).sum(axis=1)[:, None] - (wz @ hinge) ** 2 / np.maximum(length, 1e-300))


def polish(x: FloatArray, y: FloatArray, d: FloatArray, e: FloatArray, e_free: bool = True) -> TwoPieceFits:
    """Least squares of ln L by damped Gauss-Newton from the linear fit at ``e``; y (B, n), ``d`` and ``e`` (B,).

    ``e_free`` False keeps E where it is. E stays in ``[0, lowest loss)``.
    """
    below, above = np.minimum(x - d[:, None], 0.0), np.maximum(x - d[:, None], 0.0)
    columns = np.stack([np.ones_like(below), -below, -above], axis=2)
    cap = CEILING * np.exp(y.min(axis=1))
    e = np.clip(e, 0.0, cap)
    theta = np.concatenate([e[:, None], _linear_fit(y, columns, e)], axis=1)
    rss = _rss(theta, y, columns)
    damping = np.full(d.size, 1e-6)
    settled = np.zeros(d.size, dtype=bool)
    live = np.arange(d.size)
    for _ in range(MAX_STEPS):
        if live.size == 0:
            break
        step, promised = _step(theta[live], y[live], columns[live], damping[live], cap[live], e_free)
        trial = theta[live] + step
        trial[:, 0] = np.clip(trial[:, 0], 0.0, cap[live])
        value = _rss(trial, y[live], columns[live])
        last = promised <= SETTLED * rss[live] + NOISE_FLOOR
        accept = value < rss[live]
        theta[live], rss[live] = np.where(accept[:, None], trial, theta[live]), np.where(accept, value, rss[live])
        damping[live] = np.where(accept, np.maximum(0.1 * damping[live], 1e-12), 10.0 * damping[live])
        settled[live] = last
        live = live[~(last | (damping[live] > LARGEST_DAMPING))]
    return TwoPieceFits(theta[:, 0], theta[:, 1], theta[:, 2:], d, rss, settled)


def _linear_fit(y: FloatArray, columns: FloatArray, e: FloatArray) -> FloatArray:
    """Weighted least squares of ln(L - E) on ``columns`` (B, n, 3); (B, 3)."""
    loss = np.exp(y)
    r = loss - e[:, None]
    weight = (r / loss)[:, :, None] * columns
    # Columns get unit length first: hinges near an end are short.
    length = np.sqrt((weight**2).sum(axis=1)) + 1e-300
    scaled = weight / length[:, None, :]
    right = np.einsum("bnp,bn->bp", scaled, (r / loss) * np.log(r))
    gram = np.einsum("bnp,bnq->bpq", scaled, scaled) + 1e-12 * np.eye(3)
    return np.asarray(np.linalg.solve(gram, right[:, :, None])[:, :, 0] / length)


def _rss(theta: FloatArray, y: FloatArray, columns: FloatArray) -> FloatArray:
    log_r = np.einsum("bnp,bp->bn", columns, theta[:, 1:])
    return np.asarray(((y - np.log(theta[:, :1] + np.exp(np.clip(log_r, -700.0, 700.0)))) ** 2).sum(axis=1))


def _step(
    theta: FloatArray, y: FloatArray, columns: FloatArray, damping: FloatArray, cap: FloatArray, e_free: bool
) -> tuple[FloatArray, FloatArray]:
    """Step of (E, rho, alpha1, alpha2), shape (B, 4), and the decrease of RSS that it promises (B,)."""
    r = np.exp(np.clip(np.einsum("bnp,bp->bn", columns, theta[:, 1:]), -700.0, 700.0))
    fitted = theta[:, :1] + r
    z = y - np.log(fitted)
    jacobian = np.concatenate([1.0 / fitted[:, :, None], (r / fitted)[:, :, None] * columns], axis=2)
    slope = np.einsum("bn,bn->b", z, jacobian[:, :, 0])
    held = ((theta[:, 0] <= 0) & (slope < 0)) | ((theta[:, 0] >= cap) & (slope > 0)) | (not e_free)
    jacobian[held, :, 0] = 0.0
    length = np.sqrt((jacobian**2).sum(axis=1)) + 1e-300
    jacobian /= length[:, None, :]
    pull = np.einsum("bnp,bn->bp", jacobian, z)
    system = np.einsum("bnp,bnq->bpq", jacobian, jacobian) + (damping[:, None, None] + 1e-14) * np.eye(4)
    system[held, 0, 0] = 1.0
    step = np.linalg.solve(system, pull[:, :, None])[:, :, 0]
    return step / length, (pull * step).sum(axis=1)
