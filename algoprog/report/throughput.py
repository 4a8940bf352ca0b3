"""How fast the runs went and what went wrong: the tables of throughput, states and failures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from algoprog.report.content import Cell, Grid
from algoprog.report.numbers import count, digits, flops
from algoprog.report.record import Record, Row, busy_seconds, dig
from algoprog.report.style import Look

STATES = ("done", "diverged", "failed", "running", "planned")
ENDED = ("done", "diverged")
MOST = 100


def rate_sentence(record: Record) -> str:
    """Runs per hour in which any was under way, and attempts besides the runs that ended."""
    ended = sum(attempt["outcome"] in ENDED for attempt in record.attempts)
    wall, _ = busy_seconds(record.attempts)
    if not ended or not wall:
        return "No attempt has ended, so there is no rate."
    others = len(record.attempts) - ended
    return (
        f"{digits(3600 * ended / wall)} runs per hour while any was under way ({count(ended, 'run')} in {digits(wall)} s; "
        f"{count(others, 'attempt')} did not end in a result)."
    )


def throughput_table(record: Record, look: Mapping[str, Look]) -> Grid:
    """Tokens and FLOPs per second of training, per architecture: median and range over its finished runs."""
    columns = (
        "architecture",
        "finished runs",
        "tokens per second, median (range)",
        "FLOP/s, median (range)",
        "training, s",
    )
    caption = "Speed of training: tokens and FLOPs of a run over its seconds of training, evaluation not included."
    rows = []
    for arch in look:
        found = [run for run in record.runs if run["arch"] == arch and run["state"] == "done"]
        speeds = [_speed(run) for run in found]
        known = np.array([speed for speed in speeds if speed is not None])
        if not known.size:
            continue
        tokens, work, seconds = known.T
        rows.append([
            Cell(arch, look=look[arch]), Cell(str(len(known)), len(known)), _spread(tokens / seconds),
            _spread(work / seconds), Cell(digits(float(seconds.sum())), float(seconds.sum())),
        ])  # fmt: skip
    return Grid("throughput", caption, columns, rows)


def _speed(run: Row) -> tuple[float, float, float] | None:
    tokens, work, seconds = (dig(run["result"], *keys) for keys in (("tokens",), ("flops",), ("seconds", "train")))
    return (float(tokens), float(work), float(seconds)) if tokens and work and seconds else None


def _spread(values: np.ndarray) -> Cell:
    middle = float(np.median(values))
    show = flops if middle >= 1e5 else digits
    return Cell(f"{show(middle)} ({show(float(values.min()))} to {show(float(values.max()))})", middle)


def states_table(record: Record, look: Mapping[str, Look]) -> Grid:
    """Number of runs by architecture and state."""
    rows = []
    for arch in look:
        states = [run["state"] for run in record.runs if run["arch"] == arch]
        counts = [states.count(state) for state in STATES]
        kinds = ["", *("bad" if number else "" for number in counts[1:3]), *("open" if n else "" for n in counts[3:])]
        cells = [Cell(str(number), number, kind=kind) for number, kind in zip(counts, kinds, strict=True)]
        rows.append([Cell(arch, look=look[arch]), *cells])
    return Grid("states", "Runs by state.", ("architecture", *STATES), rows)


def failures_table(record: Record) -> Grid:
    """Every attempt that ended without a loss, with its message; the first hundred."""
    bad: Sequence[Row] = [a for a in record.attempts if a["outcome"] in ("failed", "retry", "diverged", "interrupted")]
    archs = {run["digest"]: run["arch"] for run in record.runs}
    rows = [
        [
            Cell(a["digest"]),
            Cell(archs.get(a["digest"], "–")),
            Cell(a["outcome"], kind="bad"),
            Cell(a["message"] or "–"),
        ]
        for a in bad[:MOST]
    ]
    more = f" The first {MOST} of {len(bad):,}." if len(bad) > MOST else ""
    return Grid(
        "failures", "Attempts that ended without a loss." + more, ("run", "architecture", "outcome", "why"), rows
    )
