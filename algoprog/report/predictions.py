"""Predictions made before the runs they are about, and the same beside what came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from algoprog.scaling import InputError, analyse, load_runs
from algoprog.scaling.predict import Check, Prediction, check, predict

Json = dict[str, Any]


def predict_store(folder: Path, limit_flops: float, targets: Sequence[tuple[str, float]]) -> Json:
    """What the finished runs of at most ``limit_flops`` say about ``targets`` (architecture, FLOPs), for the store to keep.

    Where no law can be fitted the reason is kept instead, so that nobody can say later what would have been predicted.
    """
    head = {"made": datetime.now(UTC).isoformat(timespec="seconds"), "from_runs_below": limit_flops}
    try:
        analysis = analyse(load_runs(folder), max_flops=limit_flops)
    except InputError as error:
        return {**head, "predictions": [], "problem": str(error)}
    laws = {row.arch: {"E": row.law.E, "A": row.law.A, "alpha": row.law.alpha} for row in analysis.laws}
    method = analysis.boot.describe(*analysis.fit.archs) if laws else None
    made = [asdict(one) for one in predict(analysis, targets)] if laws else []
    return {**head, "runs": len(analysis.points), "laws": laws, "method": method, "predictions": made}


def check_store(stored: Mapping[str, Any] | None, points: pd.DataFrame) -> tuple[Check, ...]:
    """The stored predictions beside what came; empty where nothing was predicted, or the entry is of another make."""
    try:
        made = [_read(one) for one in (stored or {}).get("predictions", [])]
    except (AttributeError, KeyError, TypeError, ValueError):
        return ()
    return check(made, points)


def _read(one: Mapping[str, Any]) -> Prediction:
    intervals = {
        name: None if one[name] is None else (float(one[name][0]), float(one[name][1]))
        for name in ("law_interval", "interval")
    }
    return Prediction(arch=str(one["arch"]), flops=float(one["flops"]), loss=float(one["loss"]), **intervals)
