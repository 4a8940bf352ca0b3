"""A start for squared error on the raw loss: given the exponents the surface is linear in E, A and B.

Variable projection (Golub & Pereyra 1973): non-negative least squares over a grid of exponents, then the projected
residual sum of squares is minimised over the two exponents alone.
"""

from __future__ import annotations

import numpy as np

from algoprog.scaling.laws import FloatArray

GRID = np.linspace(0.05, 0.95, 24)


def projected_start(u: FloatArray, v: FloatArray, loss: FloatArray) -> FloatArray:
    """Parameters (a, b, ln E, alpha, beta), shape (5,), of least squares on ``loss`` (nats); u, v centred logarithms.

    A coefficient that non-negative least squares puts to zero has the logarithm ``-inf``.
    """
    # Imported here: scipy costs as much to import as the rest of this folder together.
    from scipy.optimize import minimize

    rss = np.array([[projected_rss(np.array([alpha, beta]), u, v, loss)[0] for beta in GRID] for alpha in GRID])
    i, j = np.unravel_index(int(np.argmin(rss)), rss.shape)
    scale = max(float(rss[i, j]), 1e-300)

    def scaled(exponents: FloatArray) -> tuple[float, FloatArray]:
        value, slope = projected_rss(exponents, u, v, loss)
        return value / scale, slope / scale

    found = minimize(scaled, np.array([GRID[i], GRID[j]]), jac=True, bounds=[(1e-3, 5.0)] * 2, method="L-BFGS-B")
    e, a, b = _coefficients(found.x, u, v, loss)[0]
    with np.errstate(divide="ignore"):
        return np.array([np.log(a), np.log(b), np.log(e), *found.x])


def projected_rss(exponents: FloatArray, u: FloatArray, v: FloatArray, loss: FloatArray) -> tuple[float, FloatArray]:
    """Least residual sum of squares at ``exponents`` (2,), and its gradient (2,).

    By the envelope theorem only the explicit dependence counts: ``dRSS/dalpha = 2 A sum (L - L_hat) u e^(-alpha u)``.
    """
    (_, a, b), residual = _coefficients(exponents, u, v, loss)
    alpha, beta = exponents
    slope = np.array([2 * a * residual @ (u * np.exp(-alpha * u)), 2 * b * residual @ (v * np.exp(-beta * v))])
    return float(residual @ residual), slope


def _coefficients(
    exponents: FloatArray, u: FloatArray, v: FloatArray, loss: FloatArray
) -> tuple[tuple[float, float, float], FloatArray]:
    """Non-negative (E, A, B) of least squares and the residuals (n,)."""
    from scipy.optimize import nnls

    design = np.column_stack([np.ones_like(u), np.exp(-exponents[0] * u), np.exp(-exponents[1] * v)])
    largest = design.max(axis=0)
    values = nnls(design / largest, loss)[0] / largest
    return (float(values[0]), float(values[1]), float(values[2])), loss - design @ values
