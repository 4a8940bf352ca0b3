"""One power law through the points of one architecture, for many data sets at once: squared error of ln L, E free.

A thin cover of :func:`algoprog.scaling.search.solve_shared` for data sets that share their compute values, as simulated
ones do. Shapes: n points, B data sets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from algoprog.scaling.errors import InputError
from algoprog.scaling.frontier import check_points, sort_points
from algoprog.scaling.laws import FloatArray, PowerLaw
from algoprog.scaling.search import Best, Status, solve_fixed, solve_shared
from algoprog.scaling.solve import Problem

PARAMETERS = 3


@dataclass(frozen=True)
class OneLawFits:
    """B fits of ``L = E + exp(rho - alpha (ln C - log_c0))``: ``e`` in nats, ``rss`` of ln L, all (B,)."""

    e: FloatArray
    rho: FloatArray
    alpha: FloatArray
    rss: FloatArray
    status: tuple[Status, ...]
    log_c0: float

    def predict(self, log_flops: FloatArray) -> FloatArray:
        """ln L at ``log_flops`` (m,) = ln C; shape (B, m)."""
        return np.asarray(np.log(self.e[:, None] + self._reducible(log_flops)))

    def jacobian(self, log_flops: FloatArray) -> FloatArray:
        """Derivatives of ln L by (rho, alpha, E) at ``log_flops`` (m,); shape (B, m, 3)."""
        r = self._reducible(log_flops)
        fitted = self.e[:, None] + r
        return np.stack([r / fitted, -(log_flops - self.log_c0) * r / fitted, 1.0 / fitted], axis=2)

    def law(self, i: int = 0) -> PowerLaw:
        """Fit ``i`` as a law."""
        return PowerLaw(float(self.e[i]), math.exp(self.rho[i]), float(self.alpha[i]), math.exp(self.log_c0))

    def sigma(self, points: int) -> FloatArray:
        """Residual scale ``sqrt(RSS/(n - 3))`` of ln L, (B,); needs ``points`` > 3."""
        return np.asarray(np.sqrt(self.rss / (points - PARAMETERS)))

    def _reducible(self, log_flops: FloatArray) -> FloatArray:
        return np.exp(self.rho[:, None] - self.alpha[:, None] * (log_flops - self.log_c0))


def fit_one_law(log_flops: FloatArray, log_loss: FloatArray, e: float | None = None) -> OneLawFits:
    """Fit every row of ``log_loss`` (B, n) over ``log_flops`` (n,); ``e`` fixes the irreducible loss (nats).

    What the data do is told by ``status``; never raises.
    """
    batch, n = log_loss.shape
    log_c0 = float(log_flops.mean())
    x = np.tile(log_flops - log_c0, (batch, 1))
    problem = Problem(x, log_loss, np.ones((batch, n)), np.ones((n, 1)))
    best: Best = solve_shared(problem) if e is None else solve_fixed(problem, np.full(batch, e))
    laws = best.laws
    return OneLawFits(laws.e, laws.rho[:, 0], laws.alpha[:, 0], 2.0 * best.objective, best.status, log_c0)


def leverage(fits: OneLawFits, log_flops: FloatArray, at: FloatArray) -> FloatArray:
    """``g^T (J^T J)^-1 g`` at ``at`` (m,) for fits to ``log_flops`` (n,): variance of the fitted ln L over sigma^2.

    Shape (B, m); ``inf`` where the points do not determine all three parameters.
    """
    jacobian, gradient = fits.jacobian(log_flops), fits.jacobian(at)
    length = np.sqrt((jacobian**2).sum(axis=1, keepdims=True))
    scaled = jacobian / np.maximum(length, 1e-300)
    _, singular, right = np.linalg.svd(scaled, full_matrices=False)
    known: NDArray[np.bool_] = singular[:, -1] > 1e-12 * singular[:, 0]
    turned = (gradient / np.maximum(length, 1e-300)) @ np.swapaxes(right, 1, 2)
    value = ((turned / np.where(known[:, None], singular, 1.0)[:, None, :]) ** 2).sum(axis=2)
    return np.where(known[:, None], value, np.inf)


@dataclass(frozen=True, eq=False)
class ArchPoints:
    """The points of one architecture in canonical order: ``rows`` of the table, ``log_flops`` and ``log_loss`` (n,)."""

    arch: str
    rows: pd.DataFrame
    log_flops: FloatArray
    log_loss: FloatArray

    @property
    def flops_range(self) -> tuple[float, float]:
        """Lowest and highest FLOPs."""
        return float(self.rows["flops"].min()), float(self.rows["flops"].max())


def arch_points(frontier: pd.DataFrame) -> ArchPoints:
    """Check that ``frontier`` holds one architecture with one point per run, and sort it.

    Raises InputError otherwise: points of one run share its luck, so tests that count points would see too much.
    """
    check_points(frontier, "frontier")
    archs = sorted({str(arch) for arch in frontier["arch"]})
    if len(archs) > 1:
        raise InputError("one architecture at a time", got=", ".join(archs), expected="points of a single arch")
    if "run" in frontier and frontier["run"].duplicated().any():
        run = frontier.loc[frontier["run"].duplicated(), "run"].iloc[0]
        raise InputError(f"run {run} has several points", expected="one point per run", remedy="use final_points first")
    rows = sort_points(frontier)
    log_flops, log_loss = (np.log(rows[name].to_numpy(dtype=np.float64)) for name in ("flops", "loss"))
    return ArchPoints(archs[0], rows, log_flops, log_loss)
