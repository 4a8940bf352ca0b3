"""Newton's method for many small robust fits of a surface at once.

The Hessian of a log-sum-exp is known in closed form, so each step is Newton's, with negative curvature turned positive
and Levenberg damping. Huber's function of a small knee is nearly an absolute value, whose basin is narrow: the knee
shrinks step by step, each optimum the start of the next. B problems are solved together as arrays with a leading axis
of length B; the single fit is the case B = 1, so a bootstrap draw and the full fit cannot differ in method.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from algoprog.scaling.laws import FloatArray
from algoprog.scaling.surface.model import (
    ALPHA,
    BETA,
    PARAMETERS,
    A,
    B,
    E,
    SurfaceProblem,
    columns_of,
    model,
    objective,
    point_residuals,
    point_weights,
)

KNEES = (0.1, 0.01)  # continuation, in ln L (in nats if raw)
SHRINK = 10.0  # below them the knee shrinks by this factor at a time
WARM_KNEE = 1e-3  # a start near the optimum skips larger knees
MAX_STEPS = 200
SETTLED = 1e-14
NOISE_FLOOR = 1e-26
LEAST_DAMPING, LARGEST_DAMPING = 1e-12, 1e10
CHUNK_ELEMENTS = 1 << 16  # points of one chunk of problems: a chunk's arrays stay in the cache


@dataclass(frozen=True)
class _Local:
    """Second-order model of Q at p: gradient (B, 5), Hessian (B, 5, 5), and the lengths of the columns of the weighted
    Jacobian (B, 5), which make steps independent of the units."""

    gradient: FloatArray
    hessian: FloatArray
    length: FloatArray
    fit: FloatArray  # root of the weighted sum of squares of z, (B,)


def _local(p: FloatArray, problem: SurfaceProblem) -> _Local:
    m, s = model(p, problem)
    z, u, v = point_residuals(m, problem), problem.u, problem.v
    w, slope = point_weights(z, problem), np.exp(np.minimum(m, 300.0)) if problem.raw else 1.0
    size = np.abs(z)
    pull = w * np.clip(z, -problem.knee, problem.knee) * slope
    bend = np.where(size <= problem.knee, w, 0.0) * slope * slope
    soft = w * np.minimum(1.0, problem.knee / np.maximum(size, 1e-300))
    columns = columns_of(s, problem)
    across = np.swapaxes(columns, 1, 2)
    # The second derivative of ln sum exp(t_k) is sum s_k c_k c_kᵀ - j jᵀ with c_k = dt_k/dp; exp(m) lacks the last term.
    hessian = across @ (columns * (bend if problem.raw else bend + pull)[..., None])
    q = pull * s
    q1u, q2v = q[0] * u, q[1] * v
    for row, column, value in (
        (A, A, q[0].sum(axis=1)),
        (B, B, q[1].sum(axis=1)),
        (E, E, q[2].sum(axis=1)),
        (A, ALPHA, -q1u.sum(axis=1)),
        (B, BETA, -q2v.sum(axis=1)),
        (ALPHA, ALPHA, q1u @ u),
        (BETA, BETA, q2v @ v),
    ):
        hessian[:, row, column] -= value
        if row != column:
            hessian[:, column, row] -= value
    g = -np.einsum("bn,bnk->bk", pull, columns)
    length = np.sqrt(np.einsum("bn,bnk->bk", soft * slope * slope, columns**2)) + 1e-150
    return _Local(g, hessian, length, np.sqrt(np.einsum("bn,bn->b", soft, z**2) + NOISE_FLOOR))


def scaled_gradient(p: FloatArray, problem: SurfaceProblem, free: NDArray[np.bool_]) -> FloatArray:
    """Largest cosine between the residuals and a free column of the Jacobian, shape (B,): 0 at an optimum.

    ``free`` (5,) or (B, 5); a parameter at a bound that Q pushes against does not count.
    """
    here = _local(p, problem)
    counts = free & ~_held(p, here.gradient, problem)
    return np.asarray((np.where(counts, np.abs(here.gradient), 0.0) / here.length).max(axis=1) / here.fit)


def _held(p: FloatArray, g: FloatArray, problem: SurfaceProblem) -> NDArray[np.bool_]:
    low, high = problem.bounds
    return np.asarray(((p <= low) & (g > 0)) | ((p >= high) & (g < 0)))


def _step(here: _Local, held: NDArray[np.bool_], damping: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Damped Newton step (B, 5) and the decrease of Q that it promises (B,)."""
    g = np.where(held, 0.0, here.gradient / here.length)
    h = here.hessian / (here.length[:, :, None] * here.length[:, None, :])
    h = np.where(held[:, :, None] | held[:, None, :], np.eye(PARAMETERS), h)
    values, vectors = np.linalg.eigh(np.where(np.isfinite(h), h, np.eye(PARAMETERS)))
    along = np.einsum("bki,bk->bi", vectors, g)
    move = -along / (np.abs(values) + damping[:, None])
    return np.einsum("bki,bi->bk", vectors, move) / here.length, -0.5 * np.einsum("bi,bi->b", along, move)


@dataclass(frozen=True)
class Ends:
    """Where B descents ended: parameters (B, 5), Q, and whether they settled and moved (B,)."""

    p: FloatArray
    objective: FloatArray
    settled: NDArray[np.bool_]
    moved: NDArray[np.bool_]

    @staticmethod
    def joined(parts: list[Ends]) -> Ends:
        """The ends of several descents, one after the other."""
        return Ends(
            np.concatenate([part.p for part in parts]),
            np.concatenate([part.objective for part in parts]),
            np.concatenate([part.settled for part in parts]),
            np.concatenate([part.moved for part in parts]),
        )

    def shaped(self, *shape: int) -> Ends:
        """The same ends with the leading axis split into ``shape``."""
        return Ends(
            self.p.reshape(*shape, PARAMETERS),
            self.objective.reshape(shape),
            self.settled.reshape(shape),
            self.moved.reshape(shape),
        )


def descend(problem: SurfaceProblem, start: FloatArray, *, e_free: bool = True, warm: bool = False) -> Ends:
    """Minimise Q from ``start`` (B, 5), one descent per problem; deterministic, never raises.

    ``e_free=False`` keeps e at its start. ``warm``: the start is near the optimum, large knees are skipped.
    """
    free = np.ones(PARAMETERS, dtype=bool)
    free[E] = e_free
    chunk = max(1, CHUNK_ELEMENTS // problem.y.size)
    parts = []
    for first in range(0, start.shape[0], chunk):
        rows = np.arange(first, min(first + chunk, start.shape[0]))
        parts.append(_descend(problem.take(rows), start[rows], free, warm))
    return Ends.joined(parts)


def _descend(problem: SurfaceProblem, start: FloatArray, free: NDArray[np.bool_], warm: bool) -> Ends:
    low, high = problem.bounds
    p = np.where(free, np.clip(start, low, high), start)
    knees = [knee for knee in schedule(problem.knee) if knee <= WARM_KNEE or not warm] or [problem.knee]
    ends = _newton(replace(problem, knee=knees[0]), p, free)
    moved, before = ends.moved, None
    for last, knee in zip(knees[:-1], knees[1:], strict=True):
        part = replace(problem, knee=knee)
        # The path of optima is piecewise linear in a small knee, so the line through the last two predicts the next.
        ahead = ends.p if before is None else ends.p + (ends.p - before) * (last - knee) / (last * (SHRINK - 1.0))
        ahead = np.where(free, np.clip(ahead, low, high), ends.p)
        better = objective(ahead, part) < objective(ends.p, part)
        before = ends.p
        ends = _newton(part, np.where(better[:, None], ahead, ends.p), free)
        moved = moved | ends.moved
    return replace(ends, moved=moved)


def schedule(knee: float) -> list[float]:
    """The knees of the continuation, the last one ``knee``."""
    if np.isinf(knee):
        return [knee]
    knees = [value for value in KNEES if value > knee]
    while knees and knees[-1] > knee * SHRINK * (1 + 1e-9):
        knees.append(knees[-1] / SHRINK)
    return [*knees, knee]


def _newton(problem: SurfaceProblem, start: FloatArray, free: NDArray[np.bool_]) -> Ends:
    low, high = problem.bounds
    p, value = start.copy(), objective(start, problem)
    damping = np.full(p.shape[0], 1e-3)
    settled, moved = np.zeros(p.shape[0], dtype=bool), np.zeros(p.shape[0], dtype=bool)
    live = np.arange(p.shape[0])
    for _ in range(MAX_STEPS):
        if live.size == 0:
            break
        part, here = problem.take(live), p[live]
        local = _local(here, part)
        step, promised = _step(local, ~free | _held(here, local.gradient, part), damping[live])
        trial = np.where(free, np.clip(here + step, low, high), here)
        trial_value = objective(trial, part)
        # Below this the decrease drowns in rounding: take the last step on trust, it is tiny and Newton-like.
        last = (promised <= SETTLED * value[live] + NOISE_FLOOR) & (damping[live] <= 1e-6)
        accept = (trial_value < value[live]) | (last & (trial_value <= value[live] * (1 + 1e-12) + NOISE_FLOOR))
        p[live] = np.where(accept[:, None], trial, here)
        value[live] = np.where(accept, trial_value, value[live])
        moved[live] |= accept
        damping[live] = np.clip(damping[live] * np.where(accept, 0.1, 10.0), LEAST_DAMPING, None)
        settled[live] |= last
        live = live[~(last | (damping[live] > LARGEST_DAMPING))]
    return Ends(p, value, settled, moved)
