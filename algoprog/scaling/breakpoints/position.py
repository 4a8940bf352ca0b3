"""Where a break is and how well that is known: a parametric bootstrap of the two-piece law."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from algoprog.scaling.breakpoints.sup_f import PIECES, SupF
from algoprog.scaling.breakpoints.two_piece import fit_best
from algoprog.scaling.intervals.bootstrap import percentiles
from algoprog.scaling.laws import FloatArray

ENDS = 0.10  # share of draws at an end of the search above which the position is not interior


@dataclass(frozen=True)
class BreakPosition:
    """``flops`` of the best break, its 95 % ``interval``, the share of draws that ended at either end of the search, the
    change ``alpha2 - alpha1`` with its 95 % interval, and the 95 % intervals of both exponents and of E. All intervals
    suppose that there is a break.

    ``interior``: neither the position itself nor more than a tenth of the draws lie at an end of the search.
    """

    flops: float
    interval: tuple[float, float]
    share_at_ends: float
    change: float
    change_interval: tuple[float, float]
    alpha_intervals: tuple[tuple[float, float], tuple[float, float]]
    E_interval: tuple[float, float]
    interior: bool


def break_position(
    log_flops: FloatArray, found: SupF, at: FloatArray, draws: int, rng: np.random.Generator
) -> BreakPosition:
    """Bootstrap the two-piece law of data set 0: normal noise of its residual scale, then E, exponents, position anew.

    ``log_flops`` (n,); ``at`` (D,): the positions of ln C that ``found`` was searched over.
    """
    two, log_c0, n = found.two, found.one.log_c0, log_flops.size
    fitted = np.log(np.asarray(two.law(0, log_c0).loss(np.exp(log_flops))))
    # One degree of freedom less than at a known position: the position was fitted, too.
    sigma = math.sqrt(float(two.rss[0]) / (n - PIECES - 1))
    simulated = fitted + sigma * rng.standard_normal((draws, n))
    again = fit_best(log_flops - log_c0, simulated, at - log_c0, np.full(draws, two.e[0]), found.width)
    interval, change_interval = _ends(again.d), _ends(again.alpha[:, 1] - again.alpha[:, 0])
    ends = np.isin(again.d, (at[0] - log_c0, at[-1] - log_c0))
    own_end = bool(np.isin(two.d[0], (at[0] - log_c0, at[-1] - log_c0)))
    return BreakPosition(
        flops=math.exp(float(two.d[0]) + log_c0),
        interval=(math.exp(interval[0] + log_c0), math.exp(interval[1] + log_c0)),
        share_at_ends=float(ends.mean()),
        change=float(two.alpha[0, 1] - two.alpha[0, 0]),
        change_interval=change_interval,
        alpha_intervals=(_ends(again.alpha[:, 0]), _ends(again.alpha[:, 1])),
        E_interval=_ends(again.e),
        interior=not own_end and float(ends.mean()) <= ENDS,
    )


def _ends(values: FloatArray) -> tuple[float, float]:
    ends = percentiles(values)
    assert ends is not None  # there is at least one draw
    return ends
