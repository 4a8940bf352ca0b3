"""How one bootstrap draw of one architecture is made: its runs anew, then its frontier anew.

* :func:`cluster_sample`: runs are drawn with replacement, within a budget that holds at least 3 runs. A run drawn m
  times weighs m, except in such a budget, which is always there and always counts once: what varies there is which
  run wins.
* :func:`parametric_sample`: every run gets a new loss, ``ln L* = ln L_hat + excess + sigma* noise``. ``excess`` is how
  far a run that is not on the frontier lies above its architecture's law (never below 0), so a run that clearly lost its
  budget keeps losing and near-ties compete again. The lowest of near-ties lies below their mean, and the frontier that the
  law was fitted to has been lowered so once; :func:`choice_shift` says by how much a draw lowers it, and is taken off, or
  the band of a law would lie below the points that it was fitted to.

The scale sigma of a *run* is not that of the frontier's residuals: the lowest of k near-ties varies less than each of
them (variance .68 and .56 of one for k = 2, 3), and a draw that chooses the lowest once more would shrink it twice.
:func:`run_scale` finds the sigma whose chosen runs scatter as the residuals do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from algoprog.scaling.fit import FrontierFit
from algoprog.scaling.frontier import budget_groups, select_frontier
from algoprog.scaling.laws import FloatArray

BUDGET_RUNS = 3  # a budget with this many runs is resampled within itself
PILOT, ROUNDS = 256, 8  # draws and steps that find the scale of a run
LARGEST_SCALE = 3.0  # the lowest of 40 independent runs has a third of their standard deviation
PILOT_SEED = 0
SHIFT_PILOT = 1024  # draws that measure it: its own error is 2 % of the scale of a run
SHIFT_GRID = 12  # scales between which the expected lowering by choice is interpolated


@dataclass(frozen=True)
class Sample:
    """The frontier of one architecture in every draw, shape (draws, budgets): ln C, ln L, weight (0: not on it)."""

    log_flops: FloatArray
    log_loss: FloatArray
    weight: FloatArray


def draw_sigma(fit: FrontierFit, draws: int, rng: np.random.Generator) -> FloatArray:
    """One residual scale of ln L per draw, ``sqrt(RSS/chi2(n - p))``; NaN without degrees of freedom.

    Drawn anew in every draw, so that the interval admits that sigma itself comes from few residuals (a t interval in
    the linear case).
    """
    freedom = fit.degrees_of_freedom
    if not fit.laws or freedom < 1:
        return np.full(draws, np.nan)
    return np.asarray(fit.sigma * np.sqrt(freedom / rng.chisquare(freedom, draws)))


def draw_counts(groups: NDArray[np.intp], draws: int, rng: np.random.Generator) -> FloatArray:
    """How often each run of a cluster draw was drawn, (draws, runs); ``groups``: its budget, shape (runs,)."""
    stratum = np.where(np.bincount(groups)[groups] >= BUDGET_RUNS, groups, -1)
    counts = np.zeros((draws, groups.size))
    for name in np.unique(stratum):
        members = np.flatnonzero(stratum == name)
        counts[:, members] = rng.multinomial(members.size, np.full(members.size, 1.0 / members.size), size=draws)
    return np.where((stratum >= 0) & (counts > 0), 1.0, counts)


def cluster_sample(rows: pd.DataFrame, tolerance: float, counts: FloatArray) -> Sample:
    """Draws with ``counts`` (draws, runs) of the runs ``rows`` of one architecture, in canonical order."""
    flops, log_loss = rows["flops"].to_numpy(dtype=np.float64), np.log(rows["loss"].to_numpy(dtype=np.float64))
    # The budgets are the design of the study, not a choice made by looking at losses: they stay as they are.
    return _select(np.log(flops), log_loss[None, :], budget_groups(flops, tolerance), counts)


def parametric_sample(
    rows: pd.DataFrame, fit: FrontierFit, arch: str, tolerance: float, sigma: FloatArray, noise: FloatArray
) -> Sample:
    """Draws with frontier residual scale ``sigma`` (draws,) and standard normal ``noise`` (draws, runs)."""
    flops, log_loss = rows["flops"].to_numpy(dtype=np.float64), np.log(rows["loss"].to_numpy(dtype=np.float64))
    groups = budget_groups(flops, tolerance)
    winners, on_frontier = select_frontier(log_loss[None, :], groups)
    fitted = np.log(fit.laws[arch].loss(flops))
    excess = np.maximum(log_loss - fitted, 0.0)
    excess[winners[0][on_frontier[0]]] = 0.0
    inflate = run_scale(fitted, excess, groups, fit.sigma) if np.isfinite(fit.sigma) else 1.0
    scale = inflate * sigma
    drawn = fitted + excess + scale[:, None] * noise - choice_shift(fitted, excess, groups, scale)[:, groups]
    counts = np.broadcast_to(np.where(np.isnan(sigma), 0.0, 1.0)[:, None], drawn.shape)
    return _select(np.log(flops), drawn, groups, counts)


def choice_shift(fitted: FloatArray, excess: FloatArray, groups: NDArray[np.intp], scale: FloatArray) -> FloatArray:
    """How much choosing the lowest run of a budget lowers it on average, in ln L, shape (draws, budgets); never above 0.

    ``fitted``, ``excess``, ``groups`` as in :func:`run_scale`; ``scale``: standard deviation of a run's ln L, (draws,), NaN
    for a draw that is not made.
    """
    budgets = int(groups[-1]) + 1
    if np.bincount(groups).max() == 1 or not np.isfinite(scale).any():
        return np.zeros((scale.size, budgets))
    noise = np.random.default_rng([PILOT_SEED, 1]).standard_normal((SHIFT_PILOT, fitted.size))
    grid = np.quantile(scale[np.isfinite(scale)], np.linspace(0.0, 1.0, SHIFT_GRID))
    lowest = np.empty((SHIFT_GRID, budgets))
    for i, one in enumerate(grid):
        drawn = excess + one * noise
        lowest[i] = [drawn[:, groups == group].min(axis=1).mean() for group in range(budgets)]
    lowest -= [excess[groups == group].min() for group in range(budgets)]
    return np.stack([np.interp(scale, grid, lowest[:, group]) for group in range(budgets)], axis=1)


def run_scale(fitted: FloatArray, excess: FloatArray, groups: NDArray[np.intp], sigma: float) -> float:
    """The factor, 1 to 3, on ``sigma`` at which the chosen runs scatter with ``sigma`` about their mean.

    ``fitted``: ln L of the law, ``excess`` in ln L, ``groups``: the budget; shape (runs,), ascending in flops.
    """
    if sigma <= 0 or np.bincount(groups).max() == 1 or groups[-1] == 0:
        return 1.0
    noise = np.random.default_rng(PILOT_SEED).standard_normal((PILOT, fitted.size))
    factor = 1.0
    for _ in range(ROUNDS):
        drawn = fitted + excess + factor * sigma * noise
        winners, on_frontier = select_frontier(drawn, groups)
        z = np.where(on_frontier, np.take_along_axis(drawn - fitted, winners, axis=1), 0.0)
        number = on_frontier.sum(axis=1)
        about = np.where(on_frontier, z - (z.sum(axis=1) / number)[:, None], 0.0)
        scatter = np.sqrt(np.sum(about**2) / max(float(np.sum(number - 1)), 1.0))
        factor = float(np.clip(factor * sigma / scatter, 1.0, LARGEST_SCALE)) if scatter > 0 else 1.0
    return factor


def _select(log_flops: FloatArray, log_loss: FloatArray, groups: NDArray[np.intp], counts: FloatArray) -> Sample:
    """Budgets and frontier of every draw; ``counts`` (draws, runs): weight of each run, 0 where it was not drawn."""
    present = np.where(counts > 0, log_loss, np.inf)
    winners, on_frontier = select_frontier(present, groups)
    weight = np.where(on_frontier, np.take_along_axis(counts, winners, axis=1), 0.0)
    chosen = np.take_along_axis(np.broadcast_to(log_loss, counts.shape), winners, axis=1)
    return Sample(log_flops[winners], chosen, weight)
