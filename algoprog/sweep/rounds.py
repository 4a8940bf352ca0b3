"""What a sweep does next, given what its store holds: first the grids, then what follows from their losses.

Learning-rate searches add runs to what they know (:mod:`algoprog.sweep.lr_search`). Runs of at least ``predict_from`` FLOPs
wait for the smaller ones; before the first of them starts, their losses are predicted and the predictions stored, once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from algoprog.sweep.plan import PlannedRun, Precision, expand, may_start, next_runs
from algoprog.sweep.provenance import software
from algoprog.sweep.store import Store
from algoprog.sweep.sweep_file import SweepConfig

PREDICTIONS = "predictions"
Predict = Callable[[Path, float, Sequence[tuple[str, float]]], dict[str, Any]]
"""Predictions for (architecture, FLOPs) from the runs below a number of FLOPs in the store of a folder, as JSON."""


class Rounds:
    """Ask it for the first round, then call it with the store for every later one."""

    def __init__(self, sweep: SweepConfig, precision: Precision, where: object, predict: Predict) -> None:
        self._sweep, self._precision, self._where, self._predict = sweep, precision, where, predict

    def first(self) -> list[PlannedRun]:
        """What can start before anything has ended."""
        return may_start(self._sweep, expand(self._sweep, self._precision, self._where), {})

    def __call__(self, store: Store) -> list[PlannedRun]:
        losses, limit = store.losses(), self._sweep.predict_from
        runs = next_runs(self._sweep, self._precision, losses, self._where)
        ready = may_start(self._sweep, runs, losses)
        large = [run for run in ready if limit is not None and run.work.flops >= limit]
        if limit is not None and large and PREDICTIONS not in store.meta():
            targets = sorted({(run.config.arch, float(run.config.budget.flops or run.work.flops)) for run in large})
            store.set_meta({PREDICTIONS: self._predict(store.folder, float(limit), targets) | {"software": software()}})
        return ready
