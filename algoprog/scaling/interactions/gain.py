"""From the loss of an ablation run to a gain in compute, the step before a factorial analysis.

Both ways give one number per run, ``ln`` of a gain in compute up to a constant that cancels in every comparison:

* *law*: the loss of a run is read on the scaling law of a reference architecture, ``ln G = ln(L_ref^-1(L) / C)``.
  Around one loss this is ``d ln G = -d ln(L - E) / alpha``: a loss difference over the local slope of the law. What
  the run spent is divided out, so a choice that costs FLOPs pays for them.
* *curves*: the compute at which a run's running minimum of the loss first reaches a common loss, linear between logged
  points in ``ln C``. Those points lie before the end of the learning-rate schedule, where recipes are not finished.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from algoprog.scaling.errors import InputError
from algoprog.scaling.laws import FloatArray, LogLaw


def by_law(final: pd.DataFrame, law: LogLaw) -> FloatArray:
    """``ln G`` of every run against ``law``; shape (runs,), or (draws, runs) for a law per draw.

    ``inf`` where the loss is at or below the irreducible loss of the law. ``final``: one row per run with ``flops`` and
    ``loss``.
    """
    loss = final["loss"].to_numpy(dtype=np.float64)
    log_flops = np.log(final["flops"].to_numpy(dtype=np.float64))
    columns = LogLaw(*(part[..., None] for part in law)) if np.ndim(law.alpha) else law
    return np.asarray(columns.log_compute(loss - columns.E) - log_flops)


def by_curves(curves: pd.DataFrame, final: pd.DataFrame, loss: float) -> FloatArray:
    """``-ln C`` at which each run of ``final`` reaches ``loss``; shape (runs,).

    ``-inf`` where a run never does, NaN where its first logged point already has. ``curves``: all rows of the runs, with
    ``run``, ``flops`` and ``loss``.
    """
    rows = {str(run): part for run, part in curves.groupby("run", sort=False)}
    return np.array([-_log_flops_at(rows[str(run)], loss) for run in final["run"]])


def common_loss(curves: pd.DataFrame, final: pd.DataFrame) -> float:
    """The lowest loss that every run of ``final`` reaches somewhere on its curve, in nats per token."""
    chosen = curves[curves["run"].isin(final["run"])]
    return float(chosen.groupby("run")["loss"].min().max())


def check_curves(curves: pd.DataFrame) -> None:
    """Raise InputError unless runs are named and some run has more than one row."""
    if "run" not in curves or not curves["run"].duplicated().any():
        raise InputError(
            "no training curves: one row per run",
            expected="rows with run, step, flops and loss along each run",
            remedy="give curves, or a law to read final losses on",
        )


def _log_flops_at(rows: pd.DataFrame, loss: float) -> float:
    """``ln C`` where the running minimum first reaches ``loss``; ``inf``: never, NaN: before the first point."""
    rows = rows.sort_values("flops", kind="stable")
    best = np.minimum.accumulate(rows["loss"].to_numpy(dtype=np.float64))
    x = np.log(rows["flops"].to_numpy(dtype=np.float64))
    reached = np.flatnonzero(best <= loss)
    if reached.size == 0:
        return math.inf
    j = int(reached[0])
    if j == 0:
        return float(x[0]) if best[0] == loss else math.nan
    share = (best[j - 1] - loss) / (best[j - 1] - best[j])
    return float(x[j - 1] + share * (x[j] - x[j - 1]))
