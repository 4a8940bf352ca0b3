"""What a parabola in ln N gets wrong about a slice of the surface, in closed form and exactly.

At fixed C the surface is ``L = L* + r* S(u)``, u = ln(N/N*), r* = L* - E, with
``S(u) = [beta/(alpha+beta)] (e^(-alpha u) - 1) + [alpha/(alpha+beta)] (e^(beta u) - 1)``. A parabola fitted to
noise-free points of it has its vertex off u = 0 by an amount that depends on alpha, beta and the design alone, not on
A, B, E or C. The formulas are series of that projection in the width of the design; shifts are of ln N* (those of
ln D* are the negatives).
"""

from __future__ import annotations

import math

import numpy as np

from algoprog.scaling.laws import FloatArray


def slice_shape(u: FloatArray, alpha: float, beta: float) -> FloatArray:
    """``S(u)``: excess of the loss over L* in units of L* - E, at u = ln(N/N*)."""
    total = alpha + beta
    return np.asarray(beta / total * np.expm1(-alpha * u) + alpha / total * np.expm1(beta * u))


def parabola_shift(alpha: float, beta: float, offsets: FloatArray) -> float:
    """Exact shift of ln N*: least squares of 1, u, u^2 on S(u) at ``offsets`` = ln(N/N*), at least three distinct."""
    middle = float(np.mean(offsets))
    v = offsets - middle
    half = float(np.abs(v).max())
    _, slope, bend = np.polynomial.polynomial.polyfit(v / half, slice_shape(offsets, alpha, beta), 2)
    return float(middle - half * slope / (2.0 * bend))


def shift_of_symmetric_design(alpha: float, beta: float, offsets: FloatArray) -> float:
    """Leading order for ``offsets`` symmetric about the optimum: ``(alpha - beta) mu4/(6 mu2)``."""
    return (alpha - beta) * float(np.mean(offsets**4) / np.mean(offsets**2)) / 6.0


def shift_of_equal_steps(alpha: float, beta: float, half_width: float, n: int) -> float:
    """The same for ``n`` equal steps on ±h: ``(alpha - beta) h^2 (3 n^2 - 7)/(30 (n - 1)^2)``; h in ln N."""
    return (alpha - beta) * half_width**2 * (3 * n**2 - 7) / (30 * (n - 1) ** 2)


def shift_off_centre(alpha: float, beta: float, offsets: FloatArray, centre: float) -> float:
    """To second order for a symmetric design with ``offsets`` from its centre, which lies at ``centre`` = ln(N/N*).

    ``(alpha-beta)(q/6 - c^2/2) + (alpha^2 - alpha beta + beta^2) c (c^2/3 + p/12 - q/6)`` with q = mu4/mu2,
    p = cov(v^4, v^2)/var(v^2).
    """
    squares = offsets**2
    q = float(np.mean(squares**2) / np.mean(squares))
    p = float(np.cov(squares**2, squares, bias=True)[0, 1] / np.var(squares))
    c = centre
    cubic = (alpha**2 - alpha * beta + beta**2) * c * (c**2 / 3 + p / 12 - q / 6)
    return (alpha - beta) * (q / 6 - c**2 / 2) + cubic


def vertex_standard_error(sigma: float, curvature: float, half_width: float, n: int) -> float:
    """Sampling error of ln N* from a parabola through ``n`` equal steps on ±h about the optimum.

    ``sigma/(kappa_N sqrt(n mu2))``, mu2 = h^2 (n + 1)/(3 (n - 1)); ``sigma``: sd of the loss in nats, ``curvature``:
    kappa_N in nats. Choose h so that the shift above is well below it.
    """
    mu2 = half_width**2 * (n + 1) / (3 * (n - 1))
    return sigma / (curvature * math.sqrt(n * mu2))
