"""Rows of `algoprog bench`, a line each: there are many, and their names are long."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from algoprog.report.tables import show


def print_kernels(found: Mapping[str, Any]) -> None:
    """Problem, way, accuracy, and the speed if the result is right; on a CPU relative to eager only."""
    absolute = found["device"] != "cpu"
    speed = "us, IQR, of copy, of product" if absolute else "time / eager, IQR / median"
    print(f"{'operation, pass, type, shape':<48} {'way':<24} {'error':>10}  {speed}")
    for row in found["rows"]:
        key = row["key"]
        shape = f"{key['rows']} x {key['width']}" if "rows" in key else f"{key['elements']:,} weights"
        name = " ".join((key["op"], key.get("pass", "step"), key.get("dtype", "fp32"), shape))
        cells = _absolute(row) if absolute else (row["time_over_eager"], row["iqr_over_median"])
        result = (
            "  ".join(show(cell) for cell in cells) if row["reason"] is None else f"{row['status']}: {row['reason']}"
        )
        print(f"{name:<48} {key['variant']:<24} {show(_error(row)):>10}  {result}")
    if not absolute:
        print("On a CPU only ratios are kept: its seconds depend on whatever else it does.")


def _error(row: Mapping[str, Any]) -> float | None:
    """The largest error of the row's own results."""
    checks = (row["accuracy"] or {}).get("checks", [])
    return max(
        (c["error"] for c in checks if not c["name"].startswith("plain") and c["error"] is not None), default=None
    )


def _absolute(row: Mapping[str, Any]) -> tuple[Any, ...]:
    speed = row["speed"] or {}
    shares = (None if speed.get(k) is None else f"{100 * speed[k]:.0f} %" for k in ("copy_share", "matmul_share"))
    seconds = (None if row[k] is None else 1e6 * row[k] for k in ("median_s", "iqr_s"))
    return (*seconds, *shares)
