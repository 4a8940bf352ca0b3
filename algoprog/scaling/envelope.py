"""The envelope of training curves: the running minimum of the loss over compute, over all logged points of all runs.

The rule of many published compute-efficient frontiers (Kaplan et al. 2020; Hoffmann et al. 2022, Approach 1). It needs
no grid of budgets, and for that it pays with the five biases below.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from algoprog.scaling.errors import InputError
from algoprog.scaling.frontier import check_points, select_frontier, sort_points

WARMUP = 0.02
"""Default part of a run's compute that counts as warmup and cannot be on the frontier."""


def envelope_frontier(points: pd.DataFrame, *, warmup: float = WARMUP) -> pd.DataFrame:
    """The lower-left set of all logged points of every architecture.

    ``points``: rows with ``run, arch, flops, loss, step``, several per run. Points before ``warmup`` times the run's
    last FLOPs are left out. Returns the surviving rows with all their columns and two more: ``arch_runs`` and
    ``arch_points``, the runs and points that they were chosen from. Raises InputError where no run has two points, for
    missing columns and for a ``warmup`` outside [0, 1).
    """
    check_points(points)
    if not 0 <= warmup < 1:
        raise InputError("bad warmup", got=warmup, expected="a part of each run's compute, 0 <= warmup < 1")
    missing = [name for name in ("run", "step") if name not in points.columns]
    if missing or not points["run"].duplicated().any():
        got = f"no column {', '.join(missing)}" if missing else "one point per run"
        raise InputError(
            "no training curves for an envelope", got=got, expected="several rows per run, with run and step"
        )
    last = points.groupby("run")["flops"].transform("max")
    admissible = points[points["flops"] > warmup * last] if warmup > 0 else points
    kept = []
    for _, rows in sort_points(admissible).groupby("arch", sort=True):
        # Only equal compute is one value: an envelope lives from points that are close together.
        groups = np.unique(rows["flops"].to_numpy(dtype=np.float64), return_inverse=True)[1]
        winners, on_frontier = select_frontier(rows["loss"].to_numpy(dtype=np.float64)[None, :], groups)
        chosen = rows.iloc[winners[0][on_frontier[0]]]
        kept.append(chosen.assign(arch_runs=rows["run"].nunique(), arch_points=len(rows)))
    frontier: pd.DataFrame = pd.concat(kept, ignore_index=True)
    return frontier


def winners_curse(k: int) -> float:
    """How far, in units of the noise, the minimum of ``k`` equal values with normal noise lies below them on average.

    ``k ∫ x phi(x) Phi(x)^(k-1) dx``, by quadrature.
    """
    if k < 1:
        raise InputError("bad number of values", got=k, expected="at least 1")
    # Imported here: scipy costs as much to import as the rest of this folder together.
    from scipy.integrate import quad
    from scipy.special import ndtr

    def density(x: float) -> float:
        return k * x * math.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi) * float(ndtr(x)) ** (k - 1)

    return float(quad(density, -12.0, 12.0, epsabs=1e-12, epsrel=1e-12)[0])


def envelope_biases(rivals: int) -> tuple[str, ...]:
    """The five biases of an envelope, in sentences; ``rivals``: runs that typically compete at one compute."""
    low = winners_curse(max(rivals, 1))
    return (
        f"Winner's curse: the minimum of near-ties is low by chance, of {rivals} equal runs by {low:.3g} times the noise "
        "of one point; the number of rivals varies with compute, so the slope bends.",
        "Grid: between the sizes that were trained nothing is measured, and the ends bracket no optimum.",
        "Unfinished schedules: points before the learning rate has decayed lie above an annealed run of equal compute.",
        "Dependence: many points come from few runs, and points of one run are not independent.",
        "Warmup: points before the end of warmup are inadmissible; the cut is a choice.",
    )
