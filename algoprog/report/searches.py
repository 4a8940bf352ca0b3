"""What a sweep's store says beyond its laws: learning-rate searches, checked predictions and ablations."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from algoprog.report.ablations import Ablation, ablations_of
from algoprog.report.predictions import check_store
from algoprog.report.record import Record, dig
from algoprog.scaling import Analysis
from algoprog.scaling.predict import Check
from algoprog.scaling.tuning.optimum import Optimum, find_optima


@dataclass(frozen=True)
class Extras:
    """``checks`` of predictions, ``problem`` why there are none although they were asked for, ``optima`` of searches,
    ``ablations``: gains of one common new architecture. Empty where the sweep has none."""

    checks: tuple[Check, ...]
    problem: str
    optima: tuple[Optimum, ...]
    ablations: tuple[Ablation, ...]


def extras(analysis: Analysis, record: Record) -> Extras:
    """Everything of the store that has a section of its own."""
    stored = record.meta.get("predictions")
    stored = stored if isinstance(stored, dict) else None
    return Extras(
        checks=check_store(stored, analysis.points),
        problem=str(dig(stored, "problem") or ""),
        optima=optima_of(record),
        ablations=ablations_of(analysis, record.compare),
    )


def optima_of(record: Record) -> tuple[Optimum, ...]:
    """The optimum of every learning-rate search; a run that diverged counts with an infinite loss at its planned FLOPs.

    Trials of a search over many settings (``tune``) are none: between two of them more changes than the rate.
    """
    tuned = _tuned(record)
    rows = []
    for run in record.runs:
        if (run["arch"], run["width"]) in tuned:
            continue
        lr, loss = dig(run["config"], "optim", "lr"), dig(run["result"], "loss")
        if run["state"] not in ("done", "diverged") or not isinstance(lr, int | float) or not lr > 0:
            continue
        done = run["state"] == "done" and loss is not None
        work = dig(run["result"], "flops") if done else run["flops"]
        rows.append({
            "arch": run["arch"], "width": run["width"], "flops": float(work), "loss": loss if done else math.inf,
            "lr": float(lr), "seed": run["seed"],
        })  # fmt: skip
    return find_optima(pd.DataFrame(rows)) if rows else ()


def _tuned(record: Record) -> set[tuple[str, int]]:
    """Architectures and widths that the sweep tunes over many settings."""
    grids = dig(record.meta, "sweep", "grids") or []
    return {(arch, width) for grid in grids if grid.get("tune") for arch in grid["arch"] for width in grid["width"]}
