"""The sup-F statistic of a break in the exponent, with the irreducible loss free on both sides of the comparison.

``F(d) = (RSS0 - RSS1(d)) / (RSS1(d)/(n - 4))`` compares one law (E, a, alpha) with the continuous two-piece law
(E, a, alpha1, alpha2) at a position d, and ``sup F`` is its maximum over positions (Andrews 1993). Because d was chosen
by looking, F tables do not apply: critical values come from data sets simulated under the fitted law, each refitted with
E and d free.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from algoprog.scaling.breakpoints.one_law import OneLawFits, fit_one_law
from algoprog.scaling.breakpoints.two_piece import TwoPieceFits, fit_best
from algoprog.scaling.laws import FloatArray
from algoprog.scaling.planning.information import break_jacobian, covariance

SIDE = 5  # points on each side of a break, at least
MIDDLE = 0.70  # part of the range of ln C that is searched
POSITIONS = 31  # positions that are tried
PIECES = 4  # parameters of the two-piece law at a known position
WIDEST = 5.0  # nats; a wider standard error of E means that the data do not know it at all


@dataclass(frozen=True)
class SupF:
    """Statistics of B data sets: ``value`` (B,) and the two fits it compares; ``two.d`` is the position, ln C - log_c0.

    ``width``: the scale of the scan of E, nats.
    """

    value: FloatArray
    one: OneLawFits
    two: TwoPieceFits
    width: float


def positions(log_flops: FloatArray) -> FloatArray:
    """Positions of ln C at which a break is looked for, shape (POSITIONS,); empty if five points a side leave no room.

    ``log_flops`` (n,) ascending. The middle 70 % of the range, cut to leave five points on each side.
    """
    if log_flops.size < 2 * SIDE:
        return np.empty(0)
    first, last = float(log_flops[0]), float(log_flops[-1])
    margin = 0.5 * (1.0 - MIDDLE) * (last - first)
    low, high = max(first + margin, float(log_flops[SIDE - 1])), min(last - margin, float(log_flops[-SIDE]))
    return np.linspace(low, high, POSITIONS) if low < high else np.empty(0)


def sup_f(log_flops: FloatArray, log_loss: FloatArray, at: FloatArray) -> SupF:
    """sup-F of every row of ``log_loss`` (B, n) over the positions ``at`` (D,), from :func:`positions`."""
    one = fit_one_law(log_flops, log_loss)
    width = _scan_width(log_flops, one, at)
    two = fit_best(log_flops - one.log_c0, log_loss, at - one.log_c0, one.e, width)
    # One law is a two-piece law with equal exponents, so a search that ends above it has ended too early.
    rss = np.minimum(two.rss, one.rss)
    return SupF(f_value(one.rss, rss, log_flops.size), one, two, width)


def f_value(rss0: FloatArray, rss1: FloatArray, points: int) -> FloatArray:
    """F of one exponent more; ``inf`` where the two-piece law is exact and the single law is not, 0 where both are."""
    gain = rss0 - rss1
    exact = rss1 <= 0
    value = gain / (np.where(exact, 1.0, rss1) / (points - PIECES))
    return np.where(exact, np.where(gain > 0, np.inf, 0.0), value)


def simulate_null(
    log_flops: FloatArray, one: OneLawFits, at: FloatArray, draws: int, rng: np.random.Generator
) -> FloatArray:
    """sup-F of ``draws`` data sets made by fit 0 of ``one`` with its own residual scale and normal noise; (draws,)."""
    n = log_flops.size
    noise = one.sigma(n)[0] * rng.standard_normal((draws, n))
    return sup_f(log_flops, one.predict(log_flops)[0] + noise, at).value


def _scan_width(log_flops: FloatArray, one: OneLawFits, at: FloatArray) -> float:
    """Median standard error of E in the two-piece law at the middle position, nats: the scale of the scan of E."""
    d = float(np.exp(np.median(at)))
    flops = np.exp(log_flops)
    sigma = one.sigma(log_flops.size)
    # Data sets of one call are alike: draws of one law. A few of them tell the scale.
    few = range(min(9, one.e.size))
    widths = [np.sqrt(covariance(break_jacobian(one.law(i), flops, d), float(sigma[i]))[2, 2]) for i in few]
    return float(min(np.median(widths), WIDEST))
