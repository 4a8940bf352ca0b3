"""Find the irreducible loss: scan E, refine every basin, keep the best, and say honestly how it ended."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from algoprog.scaling.laws import FloatArray
from algoprog.scaling.solve import (
    ALPHA_BOUNDS,
    NOISE_FLOOR,
    Inner,
    Laws,
    Problem,
    fit_given_e,
    gradient,
    log_linear_start,
    reducible,
    scaled_gradient,
)

# Values of E that are scanned, as fractions of the lowest loss; denser where the lowest point starts to dominate.
SCAN = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.88, 0.94, 0.97, 0.99, 0.999, 1.0 - 1e-6)
MAX_OUTER = 60
FLAT = 1e-6  # scaled gradient above which an end is no optimum
EXACT = 1e-9  # residuals of ln L that are arithmetic, not misfit
AT_BOUND = 1e-6
SMALLEST_TERM = 1e-3  # a term of the law that never reaches this part of the loss is not determined
SAME_OBJECTIVE, SAME_EXPONENT = 1e-6, 0.01


class Status(enum.StrEnum):
    """How a fit ended; the first that applies wins.

    ``too_few``: fewer runs than parameters + 2, or an architecture with fewer than 3 distinct compute values.
    ``did_not_move``: no step was accepted and the start is not an optimum. ``abnormal``: a non-finite value, or the
    scaled gradient of the best end above 1e-6. ``bound_hit``: a parameter at a bound, E below a thousandth of the
    lowest loss, or a reducible term that never reaches a thousandth of the loss. ``max_iter``: iterations exhausted,
    best point returned. ``multimodal``: two basins equally good, with exponents more than 1 % apart. ``converged``:
    otherwise.
    """

    TOO_FEW = "too_few"
    DID_NOT_MOVE = "did_not_move"
    ABNORMAL = "abnormal"
    BOUND_HIT = "bound_hit"
    MAX_ITER = "max_iter"
    MULTIMODAL = "multimodal"
    CONVERGED = "converged"


@dataclass(frozen=True)
class Best:
    """The best end of each of B problems: ``laws``, Q (B,), B statuses, and the number of basins in E (B,)."""

    laws: Laws
    objective: FloatArray
    status: tuple[Status, ...]
    basins: NDArray[np.intp]


def solve_fixed(problem: Problem, e: FloatArray) -> Best:
    """The best laws at fixed E, shape (B,), in nats."""
    inner = fit_given_e(problem, log_linear_start(problem, e))
    no = np.zeros(e.size, dtype=bool)
    status = _statuses(problem, inner, done=inner.settled, several=no, e_free=no)
    return Best(inner.laws, inner.objective, status, np.ones(e.size, dtype=np.intp))


def solve_shared(problem: Problem) -> Best:
    """The best laws with one E per problem, ``0 <= E < lowest loss``. Deterministic; never raises."""
    batch, n_scan = problem.y.shape[0], len(SCAN)
    e = np.asarray(SCAN)[:, None] * problem.lowest_loss
    tiled = problem.take(np.tile(np.arange(batch), n_scan))
    scan = fit_given_e(tiled, log_linear_start(tiled, e.ravel()))
    slope = gradient(scan.laws, tiled)[0].reshape(n_scan, batch)
    # A basin lies in a cell with Q falling on its left and rising on its right, or at an end of the scan that Q falls
    # towards. Rows of the scan are numbered cell * batch + problem; an end is a cell of no width.
    cell, owner = np.nonzero((slope[:-1] < 0) & (slope[1:] >= 0))
    high_end = np.flatnonzero(slope[-1] < 0)
    low_end = np.flatnonzero((slope[0] >= 0) | (np.bincount(owner, minlength=batch) + (slope[-1] < 0) == 0))
    owner = np.concatenate([owner, low_end, high_end])
    left = np.concatenate([cell, np.zeros_like(low_end), np.full_like(high_end, n_scan - 1)]) * batch + owner
    right = np.concatenate([cell + 1, np.zeros_like(low_end), np.full_like(high_end, n_scan - 1)]) * batch + owner
    ends, found = _refine(problem.take(owner), scan.laws, slope.ravel(), left, right)
    return _pick(problem, ends, found, owner)


def _refine(
    part: Problem, scan: Laws, slope: FloatArray, left: NDArray[np.intp], right: NDArray[np.intp]
) -> tuple[Inner, NDArray[np.bool_]]:
    """The root of dQ/dE between scan rows ``left`` and ``right`` (equal at an end of the scan): the Illinois rule.

    Returns the optimum there and whether the root was found, one per bracket.
    """
    low, high, f_low, f_high = scan.e[left], scan.e[right], slope[left], slope[right]
    start = scan.take(left)
    e, rho, alpha = start.e, start.rho, start.alpha
    settled, moved, found = (np.zeros(left.size, dtype=bool) for _ in range(3))
    value, side = np.full(left.size, np.inf), np.zeros(left.size, dtype=np.intp)
    live = np.arange(left.size)
    for _ in range(MAX_OUTER):
        if live.size == 0:
            break
        a, b, fa, fb = low[live], high[live], f_low[live], f_high[live]
        wide = fb > fa
        trial = np.clip(np.where(wide, b - fb * (b - a) / np.where(wide, fb - fa, 1.0), a), a, b)
        sub = part.take(live)
        inner = fit_given_e(sub, Laws(trial, rho[live], alpha[live]))
        f = gradient(inner.laws, sub)[0]
        found[live] = (np.abs(trial - e[live]) <= 1e-13 * b) | (f == 0)
        e[live], rho[live], alpha[live] = trial, inner.laws.rho, inner.laws.alpha
        value[live], settled[live], moved[live] = inner.objective, inner.settled, inner.moved
        up = f >= 0
        # Illinois: an end that stays put twice has its slope halved, so that the other end gets its turn.
        f_low[live] = np.where(up, np.where(side[live] == 1, 0.5 * fa, fa), f)
        f_high[live] = np.where(up, f, np.where(side[live] == -1, 0.5 * fb, fb))
        low[live], high[live] = np.where(up, a, trial), np.where(up, trial, b)
        side[live] = np.where(up, 1, -1)
        live = live[~found[live]]
    return Inner(Laws(e, rho, alpha), value, settled, moved), found


def _pick(problem: Problem, ends: Inner, found: NDArray[np.bool_], owner: NDArray[np.intp]) -> Best:
    """The lowest of all basins of each problem; ``owner`` names the problem of each basin."""
    batch = problem.y.shape[0]
    order = np.lexsort((ends.laws.e, ends.objective, owner))
    best = order[np.searchsorted(owner[order], np.arange(batch))]
    same = ends.objective <= ends.objective[best][owner] * (1.0 + SAME_OBJECTIVE) + NOISE_FLOOR
    apart = np.abs(ends.laws.alpha / ends.laws.alpha[best][owner] - 1.0).max(axis=1) > SAME_EXPONENT
    several = np.bincount(owner[same & apart], minlength=batch) > 0
    inner = Inner(ends.laws.take(best), ends.objective[best], ends.settled[best], ends.moved[best])
    free = np.ones(batch, dtype=bool)
    status = _statuses(problem, inner, done=inner.settled & found[best], several=several, e_free=free)
    return Best(inner.laws, inner.objective, status, np.bincount(owner, minlength=batch))


def _statuses(
    problem: Problem, inner: Inner, *, done: NDArray[np.bool_], several: NDArray[np.bool_], e_free: NDArray[np.bool_]
) -> tuple[Status, ...]:
    """One status per problem; the order of the list is the order of precedence."""
    laws, lowest = inner.laws, problem.lowest_loss
    finite = np.isfinite(inner.objective) & np.isfinite(laws.rho).all(axis=1) & np.isfinite(laws.alpha).all(axis=1)
    at_edge = (laws.e < SMALLEST_TERM * lowest) | (laws.e >= SCAN[-1] * (1.0 - AT_BOUND) * lowest)
    # Residuals at rounding level point nowhere in particular: an exact fit is flat.
    exact = inner.objective <= EXACT**2 * problem.w.sum(axis=1)
    steep = ~(scaled_gradient(laws, problem, e_free & ~at_edge) <= FLAT) & ~exact
    conditions = [
        (Status.DID_NOT_MOVE, ~inner.moved & steep),
        (Status.ABNORMAL, ~finite | (done & steep)),
        (Status.BOUND_HIT, (e_free & at_edge) | _term_lost(problem, laws)),
        (Status.MAX_ITER, ~done),
        (Status.MULTIMODAL, several),
    ]
    names = [name for name, _ in conditions] + [Status.CONVERGED]
    always = np.ones(laws.e.size, dtype=bool)
    first = np.argmax(np.stack([hit for _, hit in conditions] + [always]), axis=0)
    return tuple(names[i] for i in first)


def _term_lost(problem: Problem, laws: Laws) -> NDArray[np.bool_]:
    """An exponent at a bound, or a reducible term whose largest share of the loss is negligible; shape (B,)."""
    low, high = ALPHA_BOUNDS
    at_bound = (laws.alpha <= low + AT_BOUND) | (laws.alpha >= high - AT_BOUND)
    r = reducible(laws, problem)
    share = np.where(problem.w > 0, r / (laws.e[:, None] + r), 0.0)
    largest = np.stack([share[:, mine > 0].max(axis=1) for mine in problem.own.T], axis=1)
    return np.asarray((at_bound | (largest < SMALLEST_TERM)).any(axis=1))
