"""Tables of `algoprog flops` on a terminal: the vector, the conventions, and counters side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from algoprog.report.tables import _table as print_table


def print_flops(counted: Mapping[str, Any], conventions: Sequence[Mapping[str, str]]) -> None:
    """FLOPs per token by component, then in every convention."""
    title = (
        f"{counted['arch']} at width {counted['width']}, depth {counted['depth']}, sequence {counted['seq']}, "
        f"vocabulary {counted['vocab']}: {counted['params']:,} parameters"
    )
    entries = {**counted["per_token"], **{f"({name})": e for name, e in counted["outside_model_flops"].items()}}
    rows = [
        (name, f"{e['forward']:,}", f"{e['backward']:,}", f"{e['forward'] + e['backward']:,}")
        for name, e in entries.items()
    ]
    print_table(title, ("FLOPs per token", "forward", "backward", "training"), rows)
    print("(in brackets: outside model FLOPs)")
    exact = counted["conventions"]["causal_exact"]
    named = [
        (c["name"], f"{counted['conventions'][c['name']]:,}", f"{counted['conventions'][c['name']] / exact:.3f}")
        for c in conventions
    ]
    print_table("training FLOPs per token by convention", ("convention", "FLOPs per token", "ratio"), named)
    for c in conventions:
        print(f"{c['name']}: {c['includes']} [{c['source']}]")
    step = counted["per_step"]
    print(
        f"a step of {step['batch']} sequences, {step['tokens']:,} tokens: {step['causal_exact']:,} FLOPs (causal_exact), "
        f"and {step['optimizer']:,} for the update (outside model FLOPs)"
    )


def print_comparison(rows: Sequence[Mapping[str, Any]]) -> None:
    """Every counter with its reasons; an unexplained rest stands in the table."""
    cells = [
        (
            row["counter"],
            "-" if row["flops"] is None else f"{row['flops']:,}",
            "-" if row["ratio"] is None else f"{row['ratio']:.4f}",
            f"{row['unexplained']:,}",
        )
        for row in rows
    ]
    columns = ("counter", "FLOPs of one step", "ratio", "unexplained")
    print_table("one training step of one sequence, counted on this machine", columns, cells)
    for row in rows:
        reasons = [f"{d['reason']} ({d['flops']:+,})" for d in row["differences"]]
        print(f"{row['counter']}: {'; '.join([row['note'], *reasons])}")
