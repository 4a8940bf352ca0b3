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


def print_step(found: Mapping[str, Any]) -> None:
    """Ways of each problem, then where the time of our step goes."""
    print(
        f"{found['device']}, {found['cores']} cores, torch {found['provenance']['torch']}, load {found['load']['before']}"
    )
    print(
        f"{'arch, width, batch x context':<30} {'way':<18} {'tokens/s':>9} {'IQR':>7}  {'MFU causal, full, roofline':<27} ratio"
    )
    for row in found["rows"]:
        name = f"{row['arch']} {row['width']}, {row['batch']} x {row['context']}"
        if row["reason"] is not None:
            print(f"{name:<30} {row['way']:<18} cannot run: {row['reason']}")
            continue
        shares = row["mfu"] or {}
        mfu = ", ".join(_percent(shares.get(key)) for key in ("mfu_causal", "mfu_full", "roofline_share"))
        speed = f"{row['tokens_per_s']:>9,.0f} {row['iqr_tokens_per_s']:>7,.0f}"
        print(f"{name:<30} {row['way']:<18} {speed}  {mfu:<27} {_comparison(row)}")
    print("\nms per step: gather, forward, head, backward, optimiser, gaps (least of all rounds); loop over bare step")
    for split in found["parts"]:
        cells = "  ".join(f"{1e3 * seconds:7.3f}" for seconds in split["parts"].values())
        print(f"{split['arch']} {split['width']:<24} {cells}   {100 * split['loop_overhead']:+.1f} %")
    for row in {row["way"]: row for row in found["rows"]}.values():
        print(f"  {row['way']}: {row['about']}")
    if any(row["arch"] == "gpt2-124M" for row in found["rows"]):
        for anchor in found["anchors"]:
            speed = (
                f"{anchor['tokens_per_s_per_gpu']:,} tokens/s per GPU, {_percent(anchor['mfu_causal'])} by causal FLOPs"
            )
            print(f"  published, not measured here: {anchor['source']}: {anchor['setting']}: {speed}")


def _comparison(row: Mapping[str, Any]) -> str:
    if not row["same_losses"]:
        return f"computes something else: losses differ by {row['loss_difference']:.1e}"
    words = []
    for key, name in (("loop_over_this", "loop"), ("sweep_over_this", "sweep")):
        if row[key] is not None and row["way"] != name:
            words.append(f"{name} / this = {_ratio(row[key])}")
    return ", ".join(words) or "-"


def _ratio(found: Mapping[str, Any]) -> str:
    interval = found["interval"]
    spread = "too few rounds for an interval" if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}"
    return f"{found['ratio']:.2f} ({spread})"


def _percent(share: float | None) -> str:
    return "n/a" if share is None else f"{100 * share:.1f} %"


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
