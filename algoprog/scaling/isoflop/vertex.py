"""Where a slice is lowest: least squares of three functions of ln N, for many draws at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from algoprog.scaling.laws import FloatArray


def weighted_line(x: FloatArray, y: FloatArray, w: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Slope and intercept (B,) of ``y`` (B, n) on ``x`` (n,) with weights ``w`` (B, n); NaN for one distinct x."""
    total = w.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        x0, y0 = (w @ x) / total, (w * y).sum(axis=1) / total
        dx = x - x0[:, None]
        spread = (w * dx**2).sum(axis=1)
        slope = (w * dx * (y - y0[:, None])).sum(axis=1) / np.where(spread > 0, spread, np.nan)
    return slope, y0 - slope * x0


@dataclass(frozen=True, eq=False)
class Vertices:
    """Minima of one slice in B draws: ln N*, L*, curvature, (B,) each, NaN where there is none; RSS (B,) and the
    standard error of ln N* in units of the residual sd (B,)."""

    log_params: FloatArray
    loss: FloatArray
    curvature: FloatArray
    rss: FloatArray
    unit_error: FloatArray


def find_vertices(log_params: FloatArray, loss: FloatArray, w: FloatArray, shape: FloatArray | None) -> Vertices:
    """Least squares of the slice's three basis functions in each of B draws, and where the fitted curve is lowest.

    ``log_params`` (n,), ``loss`` (B, n) or (1, n), weights ``w`` (B, n); ``shape`` (B, 2) holds alpha and beta, None
    is a parabola.
    """
    centre = 0.5 * (log_params.min() + log_params.max())
    half = max(0.5 * float(np.ptp(log_params)), 1e-12)
    x = log_params - centre
    if shape is None:
        basis = np.stack([np.ones_like(x), x / half, (x / half) ** 2], axis=-1)[None]
    else:
        alpha, beta = shape[:, :1], shape[:, 1:]
        down, up = np.exp(-alpha * x), np.exp(beta * x)
        basis = np.stack([np.ones_like(down), down, up], axis=-1)
    # Orthonormal columns first: the three functions look alike on a narrow slice.
    q, r = np.linalg.qr(basis)
    gram = np.swapaxes(q, 1, 2) @ (q * w[..., None])
    pull = np.einsum("bni,bn->bi", np.broadcast_to(q, (w.shape[0], *q.shape[1:])), w * loss)
    inverse = np.linalg.pinv(r) @ np.linalg.pinv(gram, hermitian=True, rcond=1e-12)
    c = np.einsum("bij,bj->bi", inverse, pull)
    rss = np.sum(w * (loss - np.einsum("bni,bi->bn", np.broadcast_to(basis, (*w.shape, 3)), c)) ** 2, axis=1)
    covariance = inverse @ np.linalg.pinv(np.swapaxes(r, 1, 2))
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        if shape is None:
            good = c[:, 2] > 0
            at = np.where(good, -0.5 * c[:, 1] / c[:, 2], np.nan)  # in units of half
            curvature, low = 2.0 * c[:, 2] / half**2, c[:, 0] + at * (c[:, 1] + at * c[:, 2])
            slope = np.stack([np.zeros_like(at), np.full_like(at, 1.0), 2.0 * at], axis=1) / half
            at = at * half
        else:
            good = (c[:, 1] > 0) & (c[:, 2] > 0)
            alpha, beta = shape[:, 0], shape[:, 1]
            at = np.log(np.where(good, alpha * c[:, 1] / (beta * c[:, 2]), np.nan)) / (alpha + beta)
            down, up = np.exp(-alpha * at), np.exp(beta * at)
            curvature = c[:, 1] * alpha**2 * down + c[:, 2] * beta**2 * up
            low = c[:, 0] + c[:, 1] * down + c[:, 2] * up
            slope = np.stack([np.zeros_like(at), -alpha * down, beta * up], axis=1)
        unit = np.sqrt(np.einsum("bi,bij,bj->b", slope, covariance, slope)) / curvature
    nan = np.where(good, 0.0, np.nan)
    return Vertices(at + centre + nan, low + nan, curvature + nan, rss, unit + nan)
