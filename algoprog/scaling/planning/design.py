"""Where to put runs: the design that makes one quantity's error smallest (c-optimal).

Elfving (1952): the smallest variance of ``c . theta`` over all designs is ``(min sum |u_i|)^2 sigma^2/n`` over u with
``sum u_i J_i = c``, and the shares ``|u_i|/sum |u|`` reach it. That is a linear programme. A budget of FLOPs instead of
runs divides each row J_i by the square root of its cost; the shares are then shares of the budget.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from algoprog.scaling.errors import InputError
from algoprog.scaling.laws import FloatArray

SMALLEST_SHARE = 1e-6


def c_optimal(jacobian: FloatArray, contrast: FloatArray, cost: FloatArray | None = None) -> FloatArray:
    """Shares (m,) of the candidate runs ``jacobian`` (m, p) that minimise the variance of ``contrast`` (p,).

    Shares of runs; with ``cost`` (m,) > 0 in any unit, shares of the budget. Raises InputError if no design of these
    candidates determines the contrast.
    """
    # Imported here: scipy costs as much to import as the rest of this folder together.
    from scipy.optimize import linprog

    rows = jacobian if cost is None else jacobian / np.sqrt(cost)[:, None]
    scale = np.abs(rows).max(axis=0)
    if not np.all(scale > 0):
        raise InputError("these runs do not determine the quantity", got="a parameter that none of them touches")
    rows, target = rows / scale, contrast / scale
    size = float(np.abs(target).max())
    found = linprog(
        np.ones(2 * len(rows)),
        A_eq=np.hstack([rows.T, -rows.T]),
        b_eq=target / size,
        bounds=(0, None),
        method="highs-ds",
    )
    if not found.success:
        raise InputError("these runs do not determine the quantity", got=found.message)
    size_of = found.x[: len(rows)] + found.x[len(rows) :]
    return np.asarray(size_of / size_of.sum())


def contrast_variance(
    jacobian: FloatArray, contrast: FloatArray, shares: FloatArray, cost: FloatArray | None = None
) -> float:
    """Variance of ``contrast`` under ``shares`` (m,), for one run in all (one unit of cost with ``cost``) and sigma 1.

    ``inf`` where the design does not determine the contrast.
    """
    rows = jacobian if cost is None else jacobian / np.sqrt(cost)[:, None]
    used = shares > 0
    # A support of fewer runs than parameters can still determine the contrast: least norm instead of an inverse.
    weighted = rows[used] * np.sqrt(shares[used])[:, None]
    solution, _, _, _ = np.linalg.lstsq(weighted.T, contrast, rcond=None)
    missed = np.abs(weighted.T @ solution - contrast).max()
    return float(solution @ solution) if missed <= 1e-6 * np.abs(contrast).max() else float("inf")


@dataclass(frozen=True)
class Spot:
    """A budget that the design uses: ``arch``, ``flops``, and its share of the runs or of the FLOPs."""

    arch: str
    flops: float
    share: float


def merge_neighbours(arch: str, flops: FloatArray, shares: FloatArray) -> list[Spot]:
    """The budgets with a share, those that are neighbours on the grid as one at their weighted geometric mean.

    ``flops`` (m,) ascending. The optimum lies between grid values; the programme then splits it between two of them.
    """
    spots: list[Spot] = []
    used = np.flatnonzero(shares > SMALLEST_SHARE)
    for group in np.split(used, np.flatnonzero(np.diff(used) > 1) + 1):
        if group.size:
            total = float(shares[group].sum())
            mean = float(np.exp(np.sum(shares[group] * np.log(flops[group])) / total))
            spots.append(Spot(arch, mean, total))
    return spots


def whole_runs(shares: FloatArray, runs: int) -> list[int]:
    """``runs`` as whole numbers close to ``shares`` (m,): the efficient rounding of Pukelsheim and Rieder (1992).

    Every budget of the design keeps at least one run. Raises InputError for fewer runs than budgets.
    """
    if runs < shares.size:
        raise InputError("too few runs for the design", got=runs, expected=f"at least {shares.size}, one per budget")
    counts = np.ceil((runs - shares.size / 2) * shares).astype(int)
    while counts.sum() < runs:
        counts[np.argmin(counts / shares)] += 1
    while counts.sum() > runs:
        counts[np.argmax((counts - 1) / shares)] -= 1
    return [int(count) for count in counts]
