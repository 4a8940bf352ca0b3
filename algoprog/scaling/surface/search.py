"""Fit a surface from several starts, keep the best end, and say honestly how it ended."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from algoprog.scaling.laws import FloatArray
from algoprog.scaling.search import AT_BOUND, EXACT, FLAT, SAME_EXPONENT, SAME_OBJECTIVE, SMALLEST_TERM, Status
from algoprog.scaling.surface.model import ALPHA, BETA, EXPONENT_BOUNDS, PARAMETERS, E, SurfaceProblem, model, residuals
from algoprog.scaling.surface.solve import NOISE_FLOOR, Ends, descend, scaled_gradient

SHARES = ((0.2, 0.2), (0.1, 0.4), (0.4, 0.1))
"""Starting shares (f_A, f_B) of the two reducible terms in a typical loss."""
EXPONENTS = (0.2, 0.5)
EXTRA = (1, 6)  # the two starts of the grid that a draw adds to the optimum of all data: unlike in shares and exponents


@dataclass(frozen=True)
class SurfaceBest:
    """The best end of each of B problems: ``p`` (B, 5), Q (B,), B statuses, and how many of the starts reached it;
    ``ends`` (S, B, 5): where every start ended."""

    p: FloatArray
    objective: FloatArray
    status: tuple[Status, ...]
    agreeing: NDArray[np.intp]
    ends: FloatArray


def start_grid(y: FloatArray) -> FloatArray:
    """Twelve starts, shape (12, 5), from the median of y = ln L: three splits of the loss, two values per exponent."""
    middle = float(np.median(y))
    return np.array(
        [
            [middle + np.log(f_a), middle + np.log(f_b), middle + np.log(1.0 - f_a - f_b), alpha, beta]
            for f_a, f_b in SHARES
            for alpha in EXPONENTS
            for beta in EXPONENTS
        ]
    )


def solve_surface(
    problem: SurfaceProblem, starts: FloatArray, *, warm: int = 0, e: FloatArray | None = None
) -> SurfaceBest:
    """The best fit of every problem over all ``starts``, shape (S, 5) for all problems or (S, B, 5).

    The first ``warm`` starts are near the optimum and skip the continuation of the knee. ``e`` (B,) fixes ln E.
    Deterministic; never raises.
    """
    batch = problem.w.shape[0]
    every = np.arange(batch)
    p = np.stack([np.broadcast_to(start, (batch, PARAMETERS)) for start in starts])
    if e is not None:
        p[..., E] = e
    parts = []
    for some, near in ((p[:warm], True), (p[warm:], False)):
        if len(some):
            part = problem.take(np.tile(every, len(some)))
            parts.append(descend(part, some.reshape(-1, PARAMETERS), e_free=e is None, warm=near))
    ends = Ends.joined(parts).shaped(len(starts), batch)
    best = np.argmin(np.where(np.isfinite(ends.objective), ends.objective, np.inf), axis=0)
    chosen = Ends(ends.p[best, every], *(part[best, every] for part in (ends.objective, ends.settled, ends.moved)))
    same = ends.objective <= chosen.objective * (1.0 + SAME_OBJECTIVE) + NOISE_FLOOR
    apart = np.abs(_gamma(ends.p) / _gamma(chosen.p) - 1.0) > SAME_EXPONENT
    several = np.asarray((same & apart).any(axis=0))
    agreeing = (same & ~apart).sum(axis=0)
    return SurfaceBest(chosen.p, chosen.objective, _statuses(problem, chosen, several, e is None), agreeing, ends.p)


def _gamma(p: FloatArray) -> FloatArray:
    return np.asarray(p[..., ALPHA] * p[..., BETA] / (p[..., ALPHA] + p[..., BETA]))


def _statuses(problem: SurfaceProblem, ends: Ends, several: NDArray[np.bool_], e_free: bool) -> tuple[Status, ...]:
    """One status per problem; the order of the list is the order of precedence."""
    lowest = np.min(np.where(problem.w > 0, problem.y, np.inf), axis=1)
    free = np.ones(PARAMETERS, dtype=bool)
    free[E] = e_free
    # Residuals at rounding level point nowhere in particular: an exact fit is flat.
    z = residuals(ends.p, problem)
    exact = np.einsum("bn,bn->b", problem.w, z**2) <= EXACT**2 * problem.w.sum(axis=1)
    steep = ~(scaled_gradient(ends.p, problem, free) <= FLAT) & ~exact
    finite = np.isfinite(ends.objective) & np.isfinite(ends.p).all(axis=1)
    highest_e = problem.bounds[1][E]
    edge_e = ((ends.p[:, E] < lowest + np.log(SMALLEST_TERM)) | (ends.p[:, E] >= highest_e - AT_BOUND)) & e_free
    conditions = [
        (Status.DID_NOT_MOVE, ~ends.moved & steep),
        (Status.ABNORMAL, ~finite | (ends.settled & steep)),
        (Status.BOUND_HIT, edge_e | _term_lost(problem, ends.p)),
        (Status.MAX_ITER, ~ends.settled & steep),
        (Status.MULTIMODAL, several),
    ]
    names = [name for name, _ in conditions] + [Status.CONVERGED]
    always = np.ones(ends.settled.size, dtype=bool)
    first = np.argmax(np.stack([hit for _, hit in conditions] + [always]), axis=0)
    return tuple(names[i] for i in first)


def _term_lost(problem: SurfaceProblem, p: FloatArray) -> NDArray[np.bool_]:
    """An exponent at a bound, or a reducible term whose largest share of the loss is negligible; shape (B,)."""
    low, high = EXPONENT_BOUNDS
    exponents = p[:, [ALPHA, BETA]]
    at_bound = ((exponents <= low + AT_BOUND) | (exponents >= high - AT_BOUND)).any(axis=1)
    _, shares = model(p, problem)
    largest = np.where(problem.w > 0, shares[:2], 0.0).max(axis=2)
    return np.asarray(at_bound | (largest < SMALLEST_TERM).any(axis=0))
