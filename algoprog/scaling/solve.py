"""Many small robust fits at once, of laws that share one irreducible loss E.

One *problem* is n points of K architectures with laws ``L = E + exp(rho_k - alpha_k x)``, x = ln(C/C0_k) centred per
architecture (uncentred, ln a and alpha would be nearly collinear). The objective is ``Q = sum w h(z)``,
z = ln L - ln L_hat, with Huber's function h (knee in ln L; ``inf`` for plain squares). Sums, never means.

Given E the architectures are independent problems in two well-conditioned parameters, which Gauss-Newton solves in a
few steps. What is badly conditioned is E alone, so E is found last and in one dimension: scan it, then find the roots
of ``dQ/dE`` (by the envelope theorem the partial derivative at the inner optimum). Joint Gauss-Newton creeps along
the curved valley of (rho, alpha, E) for hundreds of steps on a decade of data; this does not, and it sees every
basin.

B problems are solved together as arrays with a leading axis of length B, because a bootstrap is a thousand of them.
The single fit is the case B = 1, so a draw and the full fit cannot differ in method.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from algoprog.scaling.laws import FloatArray

ALPHA_BOUNDS = (1e-4, 10.0)
MAX_INNER = 100
SETTLED = 1e-14  # stop when the promised decrease of Q is below this part of Q ...
NOISE_FLOOR = 1e-26  # ... or below rounding: residuals of 1e-13 in ln L
LARGEST_DAMPING = 1e10
BEYOND_KNEE = 0.01  # curvature given to a point beyond the knee


@dataclass(frozen=True)
class Prior:
    """What is known about E beforehand, as ``weight (E - mean)^2 / 2`` added to Q: ``mean`` (B,) in nats; ``weight`` is
    the noise variance of ln L over the prior's variance, so that both terms count in the same unit."""

    mean: FloatArray
    weight: float


@dataclass(frozen=True)
class Problem:
    """B problems of n points. ``x`` = ln(C/C0), ``y`` = ln(loss in nats) and the weights ``w`` (0 marks padding) have
    shape (B, n); ``own`` (n, K) holds 1 where the point belongs to the architecture."""

    x: FloatArray
    y: FloatArray
    w: FloatArray
    own: FloatArray
    knee: float = np.inf
    prior: Prior | None = None

    def take(self, rows: NDArray[np.intp]) -> Problem:
        """The problems ``rows``, in that order; a row may be taken more than once."""
        prior = None if self.prior is None else replace(self.prior, mean=self.prior.mean[rows])
        return replace(self, x=self.x[rows], y=self.y[rows], w=self.w[rows], prior=prior)

    @property
    def lowest_loss(self) -> FloatArray:
        """The lowest loss (nats) among the points that count, shape (B,)."""
        return np.asarray(np.exp(np.min(np.where(self.w > 0, self.y, np.inf), axis=1)))


@dataclass(frozen=True)
class Laws:
    """Parameters of B problems: ``e`` (B,) in nats, ``rho`` and ``alpha`` (B, K)."""

    e: FloatArray
    rho: FloatArray
    alpha: FloatArray

    def take(self, rows: NDArray[np.intp]) -> Laws:
        """The laws of the problems ``rows``."""
        return Laws(self.e[rows], self.rho[rows], self.alpha[rows])


def reducible(laws: Laws, problem: Problem) -> FloatArray:
    """``L_hat - E`` at every point, shape (B, n)."""
    # Every point has exactly one architecture, so the product with ``own`` is a selection.
    log_r = laws.rho @ problem.own.T - (laws.alpha @ problem.own.T) * problem.x
    # The clip only bites on absurd trial steps, which are then rejected; it keeps them finite.
    return np.exp(np.clip(log_r, -700.0, 700.0))


def residuals(laws: Laws, problem: Problem) -> FloatArray:
    """``z = ln L - ln L_hat``, shape (B, n)."""
    return problem.y - np.log(laws.e[:, None] + reducible(laws, problem))


def _huber(z: FloatArray, knee: float) -> FloatArray:
    size = np.abs(z)
    if np.isinf(knee):
        return 0.5 * size**2
    return np.where(size <= knee, 0.5 * size**2, knee * (size - 0.5 * knee))


def objective(laws: Laws, problem: Problem) -> FloatArray:
    """Q of each problem, shape (B,)."""
    data = np.sum(problem.w * _huber(residuals(laws, problem), problem.knee), axis=1)
    prior = problem.prior
    return np.asarray(data if prior is None else data + 0.5 * prior.weight * (laws.e - prior.mean) ** 2)


def gradient(laws: Laws, problem: Problem) -> tuple[FloatArray, FloatArray, FloatArray]:
    """``dQ/de`` (B,), ``dQ/drho`` and ``dQ/dalpha`` (B, K): with psi = w h'(z) and s = r/L_hat they are the sums
    -psi/L_hat over all points, and -psi s and psi s x over the points of each architecture."""
    r = reducible(laws, problem)
    fitted = laws.e[:, None] + r
    psi = problem.w * np.clip(problem.y - np.log(fitted), -problem.knee, problem.knee)
    s = r / fitted
    d_e = -np.sum(psi / fitted, axis=1)
    if problem.prior is not None:
        d_e = d_e + problem.prior.weight * (laws.e - problem.prior.mean)
    return d_e, -(psi * s) @ problem.own, (psi * s * problem.x) @ problem.own


def scaled_gradient(laws: Laws, problem: Problem, e_free: NDArray[np.bool_]) -> FloatArray:
    """Largest cosine between the residuals and a free column of the Jacobian, shape (B,): 0 at an optimum."""
    r = reducible(laws, problem)
    fitted = laws.e[:, None] + r
    z = problem.y - np.log(fitted)
    weight = problem.w * np.minimum(1.0, problem.knee / np.maximum(np.abs(z), 1e-300))
    length = np.sqrt(np.sum(weight * z**2, axis=1) + NOISE_FLOOR)
    s = r / fitted
    d_e, d_rho, d_alpha = gradient(laws, problem)
    norm_rho = np.sqrt((weight * s**2) @ problem.own) + 1e-300
    norm_alpha = np.sqrt((weight * (s * problem.x) ** 2) @ problem.own) + 1e-300
    inside = (laws.alpha > ALPHA_BOUNDS[0]) & (laws.alpha < ALPHA_BOUNDS[1])
    inner = np.maximum(np.abs(d_rho) / norm_rho, np.where(inside, np.abs(d_alpha) / norm_alpha, 0.0)).max(axis=1)
    outer = np.where(e_free, np.abs(d_e) / np.sqrt(np.sum(weight / fitted**2, axis=1)), 0.0)
    return np.asarray(np.maximum(inner, outer) / length)


def log_linear_start(problem: Problem, e: FloatArray) -> Laws:
    """Given E (B,), weighted least squares of ``ln(L - E)`` on x per architecture.

    The weight ``((L - E)/L)^2`` turns an error of ln(L - E) into one of ln L, which is what the fit minimises.
    """
    loss = np.exp(problem.y)
    # Points without weight may lie below E; the floor keeps their logarithm finite, and they count for nothing.
    r = np.maximum(loss - e[:, None], 1e-9 * loss)
    w, t, own = problem.w * (r / loss) ** 2, np.log(r), problem.own
    total = np.maximum(w @ own, 1e-300)
    x0, t0 = (w * problem.x) @ own / total, (w * t) @ own / total
    dx, dt = problem.x - x0 @ own.T, t - t0 @ own.T
    slope = (w * dx * dt) @ own / np.maximum((w * dx**2) @ own, 1e-300)
    alpha = np.clip(-slope, 1e-3, 5.0)
    return Laws(e, t0 + alpha * x0, alpha)


@dataclass(frozen=True)
class Inner:
    """The optimum over (rho, alpha) at fixed E: ``laws``, Q (B,), and whether every architecture settled or moved
    (B,).
    """

    laws: Laws
    objective: FloatArray
    settled: NDArray[np.bool_]
    moved: NDArray[np.bool_]


def fit_given_e(problem: Problem, start: Laws, iterations: int = MAX_INNER) -> Inner:
    """Minimise Q over rho and alpha with E as in ``start``; one damped Gauss-Newton per problem and architecture."""
    rho, alpha = start.rho.copy(), np.clip(start.alpha, *ALPHA_BOUNDS)
    value = _q_per_arch(Laws(start.e, rho, alpha), problem)
    damping = np.full(rho.shape, 1e-8)
    settled, moved = np.zeros(rho.shape, dtype=bool), np.zeros(rho.shape, dtype=bool)
    live = np.arange(rho.shape[0])
    for _ in range(iterations):
        if live.size == 0:
            break
        part, here = problem.take(live), Laws(start.e[live], rho[live], alpha[live])
        step_rho, new_alpha, promised = _inner_step(here, part, damping[live])
        trial = Laws(here.e, here.rho + step_rho, new_alpha)
        trial_value = _q_per_arch(trial, part)
        # Below this the decrease drowns in rounding: take the last step on trust, it is tiny and Newton-like.
        last = (promised <= SETTLED * value[live] + NOISE_FLOOR) & (damping[live] <= 1e-6)
        accept = ~settled[live] & (last | (trial_value < value[live]))
        rho[live], alpha[live] = np.where(accept, trial.rho, here.rho), np.where(accept, trial.alpha, here.alpha)
        value[live] = np.where(accept, trial_value, value[live])
        moved[live] |= accept
        damping[live] = np.where(accept, np.maximum(damping[live] * 0.1, 1e-10), damping[live] * 10.0)
        settled[live] |= last
        live = live[~(settled[live] | (damping[live] > LARGEST_DAMPING)).all(axis=1)]
    laws = Laws(start.e, rho, alpha)
    return Inner(laws, objective(laws, problem), np.all(settled, axis=1), np.all(moved, axis=1))


def _q_per_arch(laws: Laws, problem: Problem) -> FloatArray:
    """Q split by architecture, shape (B, K)."""
    return np.asarray((problem.w * _huber(residuals(laws, problem), problem.knee)) @ problem.own)


def _inner_step(laws: Laws, problem: Problem, damping: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Step of rho, new alpha inside its bounds, and the promised decrease of Q; each (B, K)."""
    r = reducible(laws, problem)
    fitted = laws.e[:, None] + r
    z, s, x, own = problem.y - np.log(fitted), r / fitted, problem.x, problem.own
    pull = problem.w * np.clip(z, -problem.knee, problem.knee) * s
    g_rho, g_alpha = -pull @ own, (pull * x) @ own
    # Beyond the knee Huber's function is straight. A trace of curvature there keeps the system regular; much more, as
    # in iterated reweighting, would make steps short and the last one look settled long before it is.
    ws = problem.w * s * np.where(np.abs(z) <= problem.knee, 1.0, BEYOND_KNEE)
    h_rr, h_ra, h_aa = (ws * s) @ own, -(ws * s * x) @ own, (ws * s * x**2) @ own
    low, high = ALPHA_BOUNDS
    held = ((laws.alpha <= low) & (g_alpha > 0)) | ((laws.alpha >= high) & (g_alpha < 0))
    a, b = h_rr * (1.0 + damping) + 1e-300, h_aa * (1.0 + damping) + 1e-300
    g_alpha, cross = np.where(held, 0.0, g_alpha), np.where(held, 0.0, h_ra)
    determinant = np.maximum(a * b - cross**2, 1e-300)
    step_rho = -(b * g_rho - cross * g_alpha) / determinant
    step_alpha = -(a * g_alpha - cross * g_rho) / determinant
    promised = -0.5 * (g_rho * step_rho + g_alpha * step_alpha)
    return step_rho, np.clip(laws.alpha + step_alpha, low, high), promised
