"""Fit the smoothly broken power law to points of one curve: least squares on ln L from a grid of starts.

Given E, the break d and the sharpness f, ln(L - E) is linear in ln a and the two exponents, so a grid over those three
gives starts; the best of them are polished in all six parameters with the analytic Jacobian.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from algoprog.scaling.broken import BrokenLaw
from algoprog.scaling.errors import InputError
from algoprog.scaling.laws import FloatArray
from algoprog.scaling.search import AT_BOUND, FLAT, SAME_EXPONENT, SAME_OBJECTIVE, Status

PARAMETERS = 6
LEAST_POINTS = PARAMETERS + 2
BREAKS = np.linspace(0.05, 0.95, 19)  # starts of ln d, as parts of the range of ln C
SHARPNESS = (0.01, 0.03, 0.1)  # starts of f, as parts of that range
IRREDUCIBLE = (0.0, 0.3, 0.6, 0.85, 0.97)  # starts of E, as parts of the lowest loss
POLISHED = 12
MAX_EVALUATIONS = 300
STEEPEST = 50.0
SHARPEST, SMOOTHEST = 1e-3, 1.0  # bounds of f, as parts of the range
EXACT = 1e-9


@dataclass(frozen=True)
class BrokenFit:
    """A fitted broken law; read ``status`` before anything else. ``law`` is None below six points.

    ``rms``: root mean square of the residuals of ln L; ``sigma``: ``sqrt(RSS/(n - 6))``, NaN without degrees of
    freedom. ``starts`` polished, ``agreeing`` of them ended at the optimum.
    """

    law: BrokenLaw | None
    status: Status
    rms: float
    sigma: float
    n: int
    flops_range: tuple[float, float]
    starts: int
    agreeing: int


def fit_broken(flops: FloatArray, loss: FloatArray) -> BrokenFit:
    """Least squares of ln L over points of one curve: ``flops`` (FLOPs) and ``loss`` (nats), both (n,) and > 0.

    The break is kept inside the range of the points and both exponents between 0 and 50. ``a`` refers to ``C0`` =
    the geometric mean of ``flops``. Raises InputError for arrays that do not fit together or hold bad numbers.
    """
    flops, loss = np.asarray(flops, dtype=np.float64), np.asarray(loss, dtype=np.float64)
    if flops.ndim != 1 or flops.shape != loss.shape or flops.size == 0:
        raise InputError("bad points", got=f"shapes {flops.shape} and {loss.shape}", expected="two equal vectors")
    for name, values in (("flops", flops), ("loss", loss)):
        if not (np.isfinite(values) & (values > 0)).all():
            raise InputError(f"bad {name}", expected="finite numbers > 0")
    extent, nan = (float(flops.min()), float(flops.max())), math.nan
    if np.unique(flops).size < PARAMETERS:
        return BrokenFit(None, Status.TOO_FEW, nan, nan, flops.size, extent, 0, 0)
    # Imported here: scipy costs as much to import as the rest of this folder together.
    from scipy.optimize import least_squares

    x, y = np.log(flops), np.log(loss)
    middle = float(x.mean())
    x = x - middle
    low, high = _bounds(x, y)
    starts = _starts(x, y)
    arguments: dict[str, Any] = {"jac": _jacobian, "args": (x, y), "bounds": (low, high), "x_scale": "jac"}
    tight = {"xtol": 1e-14, "ftol": 1e-14, "gtol": 1e-14, "max_nfev": MAX_EVALUATIONS}
    ends = [least_squares(_residual, np.clip(start, low + 1e-9, high - 1e-9), **arguments, **tight) for start in starts]
    best = min(ends, key=lambda end: float(end.cost))
    same = [end for end in ends if end.cost <= best.cost * (1 + SAME_OBJECTIVE) + 1e-26]
    near = [end for end in same if np.allclose(end.x[1:3], best.x[1:3], rtol=SAME_EXPONENT, atol=1e-6)]
    rss, freedom = 2.0 * float(best.cost), flops.size - PARAMETERS
    log_a, alpha, after, log_d, log_f, e = (float(value) for value in best.x)
    law = BrokenLaw(
        e, math.exp(log_a), alpha, after - alpha, math.exp(log_d + middle), math.exp(log_f), math.exp(middle)
    )
    return BrokenFit(
        law,
        _status(best, x, y, low, high, several=len(near) < len(same)),
        rms=math.sqrt(rss / flops.size),
        sigma=math.sqrt(rss / freedom) if freedom > 0 else nan,
        n=flops.size,
        flops_range=extent,
        starts=len(starts),
        agreeing=len(near),
    )


def _bounds(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    span, lowest = float(np.ptp(x)), math.exp(float(y.min()))
    low = np.array([-np.inf, 0.0, 0.0, x.min(), math.log(SHARPEST * span), 0.0])
    return low, np.array([np.inf, STEEPEST, STEEPEST, x.max(), math.log(SMOOTHEST * span), lowest * (1.0 - 1e-6)])


def _starts(x: FloatArray, y: FloatArray) -> list[FloatArray]:
    """The best of the grid, each (6,): ln a, the two exponents, ln d, ln f, E."""
    span, loss = float(np.ptp(x)), np.exp(y)
    found = []
    for part in BREAKS:
        for sharp in SHARPNESS:
            log_d, f = float(x.min()) + part * span, sharp * span
            bend = f * np.logaddexp(0.0, (x - log_d) / f)
            basis = np.stack([np.ones_like(x), -(x - bend), -bend], axis=1)
            for fraction in IRREDUCIBLE:
                e = fraction * float(loss.min())
                r = loss - e
                weight = r / loss  # turns an error of ln(L - E) into one of ln L
                linear = np.linalg.lstsq(basis * weight[:, None], np.log(r) * weight, rcond=None)[0]
                start = np.array([linear[0], *np.clip(linear[1:], 0.0, STEEPEST), log_d, math.log(f), e])
                found.append((float(np.sum(_residual(start, x, y) ** 2)), start))
    return [start for _, start in sorted(found, key=lambda pair: pair[0])[:POLISHED]]


def _residual(p: FloatArray, x: FloatArray, y: FloatArray) -> FloatArray:
    """``ln L_hat - ln L``, (n,)."""
    log_a, alpha, after, log_d, log_f, e = p
    f = math.exp(log_f)
    log_r = log_a - alpha * x - (after - alpha) * f * np.logaddexp(0.0, (x - log_d) / f)
    return np.asarray(np.log(e + np.exp(np.clip(log_r, -700.0, 700.0))) - y)


def _jacobian(p: FloatArray, x: FloatArray, y: FloatArray) -> FloatArray:
    """Derivatives of :func:`_residual`, (n, 6)."""
    log_a, alpha, after, log_d, log_f, e = p
    f, c = math.exp(log_f), after - alpha
    t = (x - log_d) / f
    soft, sigmoid = np.logaddexp(0.0, t), np.exp(-np.logaddexp(0.0, -t))
    r = np.exp(np.clip(log_a - alpha * x - c * f * soft, -700.0, 700.0))
    s = r / (e + r)
    return np.stack(
        [s, s * (f * soft - x), -s * f * soft, s * c * sigmoid, -s * c * f * (soft - t * sigmoid), 1.0 / (e + r)],
        axis=1,
    )


def _status(best: Any, x: FloatArray, y: FloatArray, low: FloatArray, high: FloatArray, *, several: bool) -> Status:
    if x.size < LEAST_POINTS:
        return Status.TOO_FEW
    if not np.isfinite(best.x).all() or not math.isfinite(best.cost):
        return Status.ABNORMAL
    near = AT_BOUND * np.maximum(1.0, np.abs(best.x))
    if ((best.x <= low + near) | (best.x >= high - near)).any():
        return Status.BOUND_HIT
    z, j = _residual(best.x, x, y), _jacobian(best.x, x, y)
    steep = np.abs(j.T @ z) / (np.linalg.norm(j, axis=0) * np.linalg.norm(z) + 1e-300)
    if best.status == 0:
        return Status.MAX_ITER
    if steep.max() > FLAT and np.sqrt(np.mean(z**2)) > EXACT:
        return Status.ABNORMAL
    return Status.MULTIMODAL if several else Status.CONVERGED
