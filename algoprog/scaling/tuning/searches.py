"""Learning-rate searches among finished runs: only those at the chosen rate are repeats of one another.

A search makes one run at each of several rates and then repeats the best one with every seed. The other runs measure the
rate and not the recipe; taken for repeats they would inflate the noise, and the lowest of them would be that of a lucky run.
A search is a group of finished runs of one cell, architecture, width, depth and budget with at least three learning
rates, as in :mod:`algoprog.scaling.tuning.optimum`. Its chosen rate is the one with the most runs, among equals the one of the
lowest mean loss.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from algoprog.scaling.frontier import BUDGET_TOLERANCE, budget_groups
from algoprog.scaling.laws import FloatArray
from algoprog.scaling.tuning.optimum import FEWEST_RATES, Optimum, find_optima

REASON = "at another learning rate of a search"


@dataclass(frozen=True, eq=False)
class Tuned:
    """What the searches among some runs say.

    ``keep`` (runs,): False for those at another rate than the chosen one of their search. ``left`` (runs,): nats per token
    that the search left on the table at the chosen rate, 0 where no optimum was found. ``searches``: their number;
    ``without_optimum``: of how many of them the best rate is the lowest or highest tried, or lost in noise.
    """

    keep: NDArray[np.bool_]
    left: FloatArray
    searches: int
    without_optimum: int

    def of(self, rows: NDArray[np.bool_]) -> Tuned:
        """The same for some of the runs; the number of searches stays that of all."""
        return replace(self, keep=self.keep[rows], left=self.left[rows])


def tuned_runs(final: pd.DataFrame, cell: NDArray[np.intp], tolerance: float = BUDGET_TOLERANCE) -> Tuned:
    """Which finished runs count. ``final``: one row per run with ``flops, loss`` and, where known, ``lr, arch, width, depth``.

    ``cell`` (runs,): the number of each run's cell. ``tolerance``: relative width of the budget of one search, far narrower
    than that of a block. Runs without a known, positive rate are in no search; without a search every run is kept.
    """
    count = len(final)
    none = Tuned(np.ones(count, dtype=bool), np.zeros(count), 0, 0)
    if "lr" not in final:
        return none
    rates = final["lr"].to_numpy(dtype=np.float64)
    known = np.isfinite(rates) & (rates > 0)
    keep, left = none.keep.copy(), none.left.copy()
    losses = final["loss"].to_numpy(dtype=np.float64)
    searches = [rows for rows in _groups(final, cell, known, tolerance) if np.unique(rates[rows]).size >= FEWEST_RATES]
    if not searches:
        return none
    for rows in searches:
        keep[rows] = rates[rows] == _chosen(rates[rows], losses[rows])
    names = final["arch"].to_numpy() if "arch" in final else np.full(count, "")
    optima = _optima(searches, names, rates, losses)
    for number, one in optima.items():
        rows = searches[number]
        used = float(rates[rows][keep[rows]][0])
        left[rows] = (one.curvature or 0.0) * math.log10(used / (one.rate or used)) ** 2
    return Tuned(keep, left, len(searches), len(searches) - len(optima))


def without_search(final: pd.DataFrame, tolerance: float = BUDGET_TOLERANCE) -> pd.DataFrame:
    """The rows of ``final`` that count: of every search those at its chosen rate, and all that are in no search."""
    kept = tuned_runs(final, np.zeros(len(final), dtype=np.intp), tolerance).keep
    return final if kept.all() else final[kept].reset_index(drop=True)


def _groups(
    final: pd.DataFrame, cell: NDArray[np.intp], known: NDArray[np.bool_], tolerance: float
) -> list[NDArray[np.intp]]:
    """Positions of the runs of every possible search, in order of compute."""
    keys = pd.DataFrame({"cell": cell} | {name: final[name] for name in ("arch", "width", "depth") if name in final})
    flops = final["flops"].to_numpy(dtype=np.float64)
    found = []
    for _, rows in keys[known].groupby(list(keys.columns), sort=True, dropna=False):
        places = np.asarray(rows.index, dtype=np.intp)
        places = places[np.argsort(flops[places], kind="stable")]
        groups = budget_groups(flops[places], tolerance)
        found += [places[groups == number] for number in np.unique(groups)]
    return found


def _chosen(rates: FloatArray, losses: FloatArray) -> float:
    by_rate = pd.DataFrame({"lr": rates, "loss": losses}).groupby("lr")["loss"].agg(["size", "mean"])
    most = by_rate[by_rate["size"] == by_rate["size"].max()]
    return float(str(most["mean"].idxmin()))


def _optima(
    searches: list[NDArray[np.intp]], archs: NDArray[np.object_], rates: FloatArray, losses: FloatArray
) -> dict[int, Optimum]:
    """The searches with an optimum between the rates tried, by number."""
    # To `find_optima` a search is one architecture at one width and budget: a number for a width keeps the cells apart.
    parts = [
        pd.DataFrame(
            {"arch": archs[rows], "width": float(number), "flops": 1.0, "lr": rates[rows], "loss": losses[rows]}
        )
        for number, rows in enumerate(searches)
    ]
    found = find_optima(pd.concat(parts, ignore_index=True))
    return {int(one.width): one for one in found if one.rate is not None and one.state != "flat"}
