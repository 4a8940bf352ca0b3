"""Profile-likelihood intervals of anything that follows from the laws: exponents, their gaps, ln gains, E itself.

The set of a quantity g at level c holds every value that some laws (E, rho, alpha) reach with

    2 (Q(E, rho, alpha) - Q_min) / s^2  <=  F(1, n - p; c),        n frontier points, one per run, p parameters

and its ends are the interval. Only E makes the problem crooked: given E the fit is all but linear in rho and alpha,
which are then known to about a per cent. So E is profiled exactly, on a grid of refits, and at each E the rest
quadratically: with ``left = F s^2/2 - (Q(E) - Q_min)`` and H the Gauss-Newton Hessian of Q at the refit, g reaches
``g(E) +- sqrt(2 left grad' H^-1 grad)``. The ends are the extremes over the grid. The test against constrained
minimisation holds this to a few per cent of the width.

The scale: ``s^2 = 2 Q_min/(n - p)`` for squares (the exact F test of a linear model). For Huber's function it is
``s^2 = k^2 [sum w psi^2/(n - p)] / mean(psi')`` with ``k = 1 + (p/n) (1 - mean(psi'))/mean(psi')``: the robust
likelihood-ratio test (Hampel et al. 1986, section 7.2) with the small-sample factor of Huber (1981, section 7.6).

Where runs of different architectures saw the same data, ``s^2`` and the variance of each quantity are multiplied by what
their correlation does to them (``correlation.py``): a magnitude adjustment of the likelihood (Kent 1982).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from algoprog.scaling.errors import InputError
from algoprog.scaling.fit import FrontierFit, frontier_problem
from algoprog.scaling.frontier import sort_points
from algoprog.scaling.intervals.correlation import SharedNoise, shared_noise
from algoprog.scaling.laws import FloatArray, LogLaw
from algoprog.scaling.prior import with_prior
from algoprog.scaling.search import solve_fixed
from algoprog.scaling.solve import Laws, Problem, reducible, residuals

Quantity = Callable[[Mapping[str, LogLaw]], FloatArray]
"""A number from laws: given the laws by architecture, as vectors of shape (n,), returns shape (n,)."""

COARSE, FINE = 80, 160  # values of E over its whole range, and inside the 95 % set
RELATIVE_STEP = 1e-5  # of the parameters, for central differences of a quantity


@dataclass(frozen=True, eq=False)
class Likelihood:
    """Refits at values of E that fill the widest set at ``level``, and what an interval needs besides.

    ``laws``: E (n,) ascending, rho and alpha (n, K) there; ``above``: ``Q - Q_min``, shape (n,); ``allowed``:
    ``F s^2/2``; ``inverse_hessian`` (n, K, 2, 2) of (rho, alpha) per architecture. ``best``: the laws of the fit
    (n = 1). ``freedom`` = n - p. ``shared``: what matched runs share.
    """

    archs: tuple[str, ...]
    log_c0: FloatArray
    laws: Laws
    above: FloatArray
    allowed: float
    inverse_hessian: FloatArray
    best: Laws
    shared: SharedNoise
    freedom: int
    level: float

    def interval(self, quantity: Quantity) -> tuple[float, float]:
        """The profile interval of ``quantity``; infinite where it is, or does not exist, at some E of the set."""
        left = self.allowed * self.factor(quantity) - self.above
        inside = np.flatnonzero(left >= 0)
        laws = self.laws.take(inside)
        centre = self._value(quantity, laws)
        gradient = self._gradient(quantity, laws)
        variance = np.einsum("nki,nkij,nkj->n", gradient, self.inverse_hessian[inside], gradient)
        if np.isnan(centre).any():
            return -math.inf, math.inf  # at some E of the set the quantity does not exist
        reach = np.sqrt(2.0 * left[inside] * variance)
        return float(np.min(centre - reach)), float(np.max(centre + reach))

    def over_e(self, quantity: Quantity) -> tuple[FloatArray, FloatArray]:
        """E inside its own set, ascending, and ``quantity`` at the best laws for each; both of shape (m,)."""
        left = self.allowed * self.factor(lambda laws: laws[self.archs[0]].E) - self.above
        laws = self.laws.take(np.flatnonzero(left >= 0))
        return laws.e, self._value(quantity, laws)

    def factor(self, quantity: Quantity) -> float:
        """By how much matched runs raise (or lower) the variance of ``quantity``; 1 without any."""
        if self.shared.rho == 0.0:
            return 1.0
        k = len(self.archs)
        by_law = self._gradient(quantity, self.best)[0]
        columns = [by_law[:, 0], by_law[:, 1]]
        if self.shared.jacobian.shape[1] > 2 * k:
            size = RELATIVE_STEP * float(self.best.e[0] + np.exp(self.best.rho[0]).min())
            up, down = (
                float(self._value(quantity, replace(self.best, e=self.best.e + sign * size))[0]) for sign in (1.0, -1.0)
            )
            columns.insert(0, np.array([(up - down) / (2.0 * size)]))
        gradient = np.concatenate(columns)
        return self.shared.variance_factor(gradient) if np.isfinite(gradient).all() else 1.0 + self.shared.rho * (k - 1)

    def _gradient(self, quantity: Quantity, laws: Laws) -> FloatArray:
        """Derivatives of ``quantity`` by rho and alpha of each architecture, shape (n, K, 2), by central differences."""
        k = len(self.archs)
        found = np.empty((laws.e.size, k, 2))
        for arch in range(k):
            for which, size in enumerate((RELATIVE_STEP, RELATIVE_STEP * float(np.median(laws.alpha[:, arch])))):
                step = np.zeros(k)
                step[arch] = size
                up, down = (self._value(quantity, _moved(laws, which, sign * step)) for sign in (1.0, -1.0))
                # Where the quantity is infinite its derivative says nothing, and the end is infinite without it.
                finite = np.isfinite(up) & np.isfinite(down)
                found[:, arch, which] = np.where(
                    finite, np.subtract(up, down, where=finite, out=np.zeros_like(up)) / (2.0 * size), 0.0
                )
        return found

    def _value(self, quantity: Quantity, laws: Laws) -> FloatArray:
        n = laws.e.size
        named = {
            arch: LogLaw(laws.e, laws.rho[:, k], laws.alpha[:, k], np.full(n, self.log_c0[k]))
            for k, arch in enumerate(self.archs)
        }
        return np.asarray(quantity(named), dtype=np.float64)


def likelihood(frontier: pd.DataFrame, fit: FrontierFit, level: float = 0.95) -> Likelihood | None:
    """The profile of ``fit``, made from the rows of ``frontier``; None without degrees of freedom or without a law.

    Under a fixed E (``fit.irreducible`` a number) E is not varied. Where ``frontier`` has the column ``match``
    (``with_matches``), matched runs count as correlated. Raises InputError unless 0 < level < 1.
    """
    if not 0 < level < 1:
        raise InputError("bad level", got=level, expected="0 < level < 1")
    if not fit.laws or fit.degrees_of_freedom < 1:
        return None
    from scipy.special import fdtri  # imported here: scipy costs as much as the rest of this folder together

    rows = sort_points(frontier[frontier["arch"].isin(fit.laws)])
    shared = shared_noise(rows, fit)
    one, log_c0 = frontier_problem(rows)
    one = with_prior(replace(one, knee=fit.knee), fit.prior, fit.prior_weight)
    best = solve_fixed(one, np.array([fit.E]))
    quantile = float(fdtri(1.0, float(fit.degrees_of_freedom), level))
    allowed = 0.5 * quantile * scale(best.laws, one, fit) * shared.scale_factor()
    lowest = float(best.objective[0])
    grid = np.array([fit.E])
    if isinstance(fit.irreducible, str):
        # No quantity's variance factor is larger: K - 1 is the largest eigenvalue of the matches.
        grid = _grid(one, fit.E, lowest + allowed * (1.0 + shared.rho * (len(fit.archs) - 1)))
    many = one.take(np.zeros(grid.size, dtype=np.intp))
    found = solve_fixed(many, grid)
    # Rounding may leave a neighbour of the optimum below it by 1e-16.
    above = np.maximum(found.objective - lowest, 0.0)
    inverse = _inverse_hessian(found.laws, many)
    freedom = fit.degrees_of_freedom
    return Likelihood(fit.archs, log_c0, found.laws, above, allowed, inverse, best.laws, shared, freedom, level)


def _moved(laws: Laws, which: int, step: FloatArray) -> Laws:
    return replace(laws, rho=laws.rho + step) if which == 0 else replace(laws, alpha=laws.alpha + step)


def scale(laws: Laws, problem: Problem, fit: FrontierFit) -> float:
    """``s^2`` of the module docstring, from one problem at its optimum."""
    z, w = residuals(laws, problem), problem.w
    psi = np.clip(z, -problem.knee, problem.knee)
    inside = max(float(np.sum(w * (np.abs(z) <= problem.knee)) / np.sum(w)), 0.5)
    small = 1.0 + fit.n_parameters / z.size * (1.0 - inside) / inside
    return small**2 * float(np.sum(w * psi**2)) / fit.degrees_of_freedom / inside


def _grid(one: Problem, best: float, limit: float) -> FloatArray:
    """Values of E that fill the set: first found roughly, then gridded finely between its neighbours outside."""
    lowest = float(one.lowest_loss[0])
    coarse = np.unique(np.append(lowest * (1.0 - (1.0 - np.linspace(0.0, 0.99, COARSE)) ** 1.5), best))
    many = one.take(np.zeros(coarse.size, dtype=np.intp))
    inside = np.flatnonzero(solve_fixed(many, coarse).objective <= limit)
    low, high = max(int(inside[0]) - 1, 0), min(int(inside[-1]) + 1, coarse.size - 1)
    return np.unique(np.append(np.linspace(coarse[low], coarse[high], FINE), best))


def _inverse_hessian(laws: Laws, problem: Problem) -> FloatArray:
    """Inverse Gauss-Newton Hessian of Q in (rho, alpha) of each architecture, shape (B, K, 2, 2)."""
    r = reducible(laws, problem)
    fitted = laws.e[:, None] + r
    s, x, own = r / fitted, problem.x, problem.own
    inside = np.abs(problem.y - np.log(fitted)) <= problem.knee
    share = (problem.w * inside).sum(axis=1, keepdims=True) / problem.w.sum(axis=1, keepdims=True)
    w = problem.w * np.maximum(share, 0.5) * s**2
    a, b, c = w @ own, -(w * x) @ own, (w * x**2) @ own
    determinant = np.maximum(a * c - b**2, 1e-300)
    inverse: FloatArray = np.stack([np.stack([c, -b], -1), np.stack([-b, a], -1)], -2) / determinant[..., None, None]
    return inverse
