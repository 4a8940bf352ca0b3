"""Tables on a terminal. Everything printed here is also in the command's ``--json``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*(show(value) for value in row))
    Console(soft_wrap=False).print(table)


def show(value: object) -> str:
    """A value as people write it: large and small floats in scientific notation, missing ones as a dash."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}" if 1e-3 <= abs(value) < 1e5 or value == 0 else f"{value:.3e}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}" if abs(value) < 10**9 else f"{value:.3e}"
    return str(value)


def duration(seconds: float) -> str:
    """Seconds as 42 s, 3.5 min or 2.1 h."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def print_mapping(title: str, values: Mapping[str, Any]) -> None:
    """Two columns."""
    _table(title, ("", ""), values.items())


def print_plan(plan: Mapping[str, Any]) -> None:
    """Every run with exact FLOPs and estimated cost, and the totals."""
    columns = ("arch", "width", "depth", "lr", "seed", "params", "steps", "tokens", "epochs", "flops", "seconds", "MB")
    rows = [[*(run[c] for c in columns[:-1]), round(run["memory_bytes"] / 1e6)] for run in plan["runs"]]
    _table(f"plan of {plan['sweep']}", columns, rows)
    print(
        f"{len(rows)} runs, {plan['total_flops']:.3e} FLOPs (exact), about {duration(plan['wall_seconds'])} on "
        f"{plan['workers']} workers (estimate; {plan['seconds_include']})"
    )
    if plan["data"] is None:
        print("the corpus is not prepared yet: run names and epochs follow from `algoprog data prepare`")


def print_status(status: Mapping[str, Any]) -> None:
    """Counts by state, and what went wrong."""
    states = ", ".join(f"{count} {state}" for state, count in sorted(status["states"].items()))
    print(f"sweep {status['sweep']}: {status['total']} runs: {states}")
    print(f"FLOPs done {status['flops_done']:.3e}, left {status['flops_left']:.3e}")
    if status["problems"]:
        columns = ("run", "outcome", "message")
        _table("problems", columns, [[problem[c] for c in columns] for problem in status["problems"]])


RUN_KEYS = (
    "run", "arch", "width", "seed", "state", "message", "loss", "bits_per_byte", "loss_windowed", "loss_streaming",
    "train_loss", "params", "steps", "tokens", "epochs", "flops", "evaluation_flops", "engine", "world", "device", "folder",
)  # fmt: skip


def print_run(record: Mapping[str, Any]) -> None:
    """One finished run."""
    values = {key: record[key] for key in RUN_KEYS if record[key] is not None}
    values |= {f"seconds: {phase}": spent for phase, spent in record["seconds"].items()}
    print_mapping(f"{record['arch']} at width {record['width']}", values)
