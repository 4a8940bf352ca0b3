"""The optimal learning rate of one architecture, width and budget, with an interval, and what the rate used has cost.

Near its optimum the final loss is a parabola in the logarithm of the learning rate, ``L = L0 + k (x - x0)^2`` with x in
decades. It is fitted by least squares to the rates within :data:`WINDOW` decades of the best one. Noise of one run is its
spread over seeds, else the residuals of the parabolas themselves, pooled over the searches of the architecture, or over all
of them where its own give fewer than :data:`FEWEST_FREEDOM` degrees of freedom: recipes differ in noise by a factor of ten and
more. The intervals are those of a parametric bootstrap under that noise.

What is left on the table is ``k (x_used - x0)^2``, in nats per token: at most how much lower the loss would have been at the
optimum. Rates at the end of what was tried have no optimum, which is said and not guessed. Beyond the edge of stability the
loss rises in a step, which no parabola describes: rates more than :data:`CLIFF_NATS` above the best count as diverged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from algoprog.scaling.errors import InputError
from algoprog.scaling.frontier import BUDGET_TOLERANCE, budget_groups
from algoprog.scaling.laws import FloatArray

WINDOW = 0.76  # decades on either side of the best rate: three steps of a quarter of a decade
FEWEST_RATES = 3
# At a curvature of 1 nat per decade^2, which is steep, the end of the window lies 0.56 above the optimum.
CLIFF_NATS = 0.5
FEWEST_FREEDOM = 4  # from which an architecture's own noise is used
FLAT_SHARE = 0.025
"""A share of draws without a minimum beyond which the optimum has no interval."""

State = Literal["found", "edge", "flat", "no noise"]
Interval = tuple[float, float]


@dataclass(frozen=True)
class Optimum:
    """The best learning rate of one search.

    ``flops``: the cheapest run of the budget; ``rates``, ``losses``: what was tried, ascending (lowest loss per rate,
    infinite where it diverged); ``used``: the rate of the lowest loss. ``state``: ``found``; ``edge``: the best rate is the
    lowest or highest tried, or its neighbour diverged or fell off the cliff; ``flat``: no minimum is resolved from noise;
    ``no noise``: there is a minimum, but nothing repeats and no residual is left, so there are no intervals. ``rate`` with
    ``interval``; ``curvature`` in nats per decade^2; ``left``: nats per token left on the table at ``used``, with
    ``left_interval``. None where there is no such thing.
    """

    arch: str
    width: float
    flops: float
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    used: float
    state: State
    rate: float | None = None
    interval: Interval | None = None
    curvature: float | None = None
    left: float | None = None
    left_interval: Interval | None = None


@dataclass(frozen=True)
class _Search:
    arch: str
    width: float
    flops: float
    runs: pd.DataFrame


def find_optima(
    points: pd.DataFrame, tolerance: float = BUDGET_TOLERANCE, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> tuple[Optimum, ...]:
    """The optimum of every search in ``points``: finished runs with ``arch, width, flops, loss, lr`` and, if known, ``seed``.

    A search is a group of one architecture, width and budget (within ``tolerance``) with at least three rates. Diverged
    runs may be among the rows, their loss not finite. Ordered by architecture, width, budget.

    Raises:
        InputError: a column is missing, or a rate is not a positive number.
    """
    searches = _searches(points, tolerance)
    noise = noise_by_arch(searches)
    rng = np.random.default_rng(seed)
    return tuple(_optimum(search, noise[search.arch], level, draws, rng) for search in searches)


def _searches(points: pd.DataFrame, tolerance: float) -> list[_Search]:
    missing = [name for name in ("arch", "width", "flops", "loss", "lr") if name not in points.columns]
    if missing:
        raise InputError(f"missing column {', '.join(missing)}", where="runs", expected="learning rates of all runs")
    rates = points["lr"].to_numpy(dtype=np.float64)
    if not np.all(np.isfinite(rates) & (rates > 0)):
        raise InputError("bad lr", where="runs", expected="a finite number > 0 for every run")
    found = []
    for (arch, width), rows in points.groupby(["arch", "width"], sort=True):
        ordered = rows.sort_values("flops", kind="stable")
        groups = budget_groups(ordered["flops"].to_numpy(dtype=np.float64), tolerance)
        for number in np.unique(groups):
            runs = ordered[groups == number]
            finite = runs[np.isfinite(runs["loss"].to_numpy(dtype=np.float64))]
            if finite["lr"].nunique() >= FEWEST_RATES:
                found.append(_Search(str(arch), float(str(width)), float(runs["flops"].min()), runs))
    return found


@dataclass(frozen=True)
class Noise:
    """Standard deviation ``sd`` of a run's loss in nats per token, known to ``freedom`` degrees of freedom."""

    sd: float
    freedom: int

    def draw(self, draws: int, runs: int, rng: np.random.Generator) -> FloatArray:
        """Shape (draws, runs). The scale is drawn, too, so that few degrees of freedom make wider intervals (Student's t)."""
        scale = self.sd * np.sqrt(self.freedom / rng.chisquare(self.freedom, draws))
        return np.asarray(scale[:, None] * rng.standard_normal((draws, runs)))


def noise_by_arch(searches: list[_Search]) -> dict[str, Noise | None]:
    """The noise of one run of every architecture: its own, or that of all where its own is hardly known."""
    pooled = run_noise(searches)
    found: dict[str, Noise | None] = {}
    for arch in {search.arch for search in searches}:
        own = run_noise([search for search in searches if search.arch == arch])
        found[arch] = own if own is not None and own.freedom >= FEWEST_FREEDOM else pooled
    return found


def run_noise(searches: list[_Search]) -> Noise | None:
    """The noise of one run: over repeats, else of the parabolas' residuals; None without either."""
    squares, freedom = 0.0, 0
    for search in searches:
        for _, repeats in search.runs.groupby("lr"):
            losses = _finite(repeats)
            squares += float(np.sum((losses - losses.mean()) ** 2)) if losses.size else 0.0
            freedom += max(losses.size - 1, 0)
    if freedom == 0:
        for search in searches:
            x, y = _near(search)
            if x.size > FEWEST_RATES:
                squares += float(np.sum((y - np.polyval(np.polyfit(x, y, 2), x)) ** 2))
                freedom += x.size - FEWEST_RATES
    return Noise(math.sqrt(squares / freedom), freedom) if freedom else None


def _finite(runs: pd.DataFrame) -> FloatArray:
    losses = runs["loss"].to_numpy(dtype=np.float64)
    return np.asarray(losses[np.isfinite(losses)])


def _near(search: _Search) -> tuple[FloatArray, FloatArray]:
    """Decades and losses of the runs whose rate is within the window of the best one."""
    runs = search.runs[np.isfinite(search.runs["loss"].to_numpy(dtype=np.float64))]
    x, y = np.log10(runs["lr"].to_numpy(dtype=np.float64)), runs["loss"].to_numpy(dtype=np.float64)
    near = (np.abs(x - x[np.argmin(y)]) <= WINDOW) & (y <= y.min() + CLIFF_NATS)
    return x[near], y[near]


def _optimum(search: _Search, noise: Noise | None, level: float, draws: int, rng: np.random.Generator) -> Optimum:
    tried = search.runs.assign(loss=search.runs["loss"].where(np.isfinite(search.runs["loss"]), np.inf))
    lowest = tried.groupby("lr")["loss"].min().sort_index()
    rates, losses = tuple(map(float, lowest.index)), tuple(map(float, lowest))
    best = int(np.argmin(losses))
    edge = Optimum(search.arch, search.width, search.flops, rates, losses, rates[best], state="edge")
    if best in (0, len(rates) - 1) or max(losses[best - 1], losses[best + 1]) > losses[best] + CLIFF_NATS:
        return edge
    x, y = _near(search)
    used = math.log10(rates[best])
    fitted = np.polyfit(x - used, y, 2)
    if np.unique(x).size < FEWEST_RATES or fitted[0] <= 0:
        return replace(edge, state="flat")
    offset, left = _vertex(fitted[None, :])
    rate, curvature = float(10 ** (used + offset[0])), float(fitted[0])
    found = replace(edge, state="no noise", rate=rate, curvature=curvature, left=float(left[0]))
    if noise is None:
        return found
    drawn = np.polyfit(x - used, (np.polyval(fitted, x - used) + noise.draw(draws, x.size, rng)).T, 2).T
    bowls = drawn[drawn[:, 0] > 0]
    if len(bowls) < (1 - FLAT_SHARE) * draws:
        return replace(found, state="flat")
    offsets, lefts = _vertex(bowls)
    ends = [50 * (1 - level), 50 * (1 + level)]
    low, high = 10 ** (used + np.percentile(offsets, ends))
    least, most = np.percentile(lefts, ends)
    return replace(found, state="found", interval=(float(low), float(high)), left_interval=(float(least), float(most)))


def _vertex(parabolas: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Of parabolas (draws, 3) about the used rate: decades to the vertex, and how far it lies below the value at 0."""
    a, b = parabolas[:, 0], parabolas[:, 1]
    return np.asarray(-b / (2 * a)), np.asarray(b**2 / (4 * a))
