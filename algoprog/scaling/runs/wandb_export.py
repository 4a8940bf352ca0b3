"""Exports of Weights & Biases -> a plain table of runs. Recognised by their marks, everything else passes untouched.

* *Table of runs* (the app's "export CSV", or a frame made from ``Api().runs``): one row per run with ``Name`` and
  ``State``, then summary metrics (``val/loss``) and config columns. ``Name`` becomes ``run`` (names repeated by W&B are
  told apart by their row), ``State`` becomes ``state`` with ``finished`` -> ``done``; crashed, failed, killed, running
  and pending runs keep their state and are not done. A finished run whose loss is NaN is ``diverged``, one without a
  loss or FLOPs ``unmeasured``.
* *Chart* (one panel's "export CSV"): an x axis, then ``RUN - METRIC`` with ``__MIN`` and ``__MAX`` beside it. One row
  per run and x with the columns ``run``, ``name`` (the same, free for ``--map name=arch``), ``step`` (the axis Step,
  an exported ``_step``, or the number of the row), the axis, and one column per metric. The app samples long curves.
* *History* (``run.history()`` or the history artifact; CSV, JSON or Parquet): ``_step`` with ``_runtime`` or
  ``_timestamp``. One run, named by the file unless a column ``run``, ``run_id``, ``Name`` or ``name`` tells; rows
  that lack the loss or the FLOPs are left out, as metrics are logged at different steps.

States: https://docs.wandb.ai/models/runs/run-states. Arch, FLOPs and loss are never guessed: what is missing is asked
for with a ready ``--map``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

from algoprog.scaling.errors import InputError
from algoprog.scaling.runs.cells import DONE, is_blank
from algoprog.scaling.runs.columns import plain_name
from algoprog.scaling.runs.read import RawTable

DIVERGED, UNMEASURED = "diverged", "unmeasured"
FINISHED = "finished"
STATES = (FINISHED, "crashed", "failed", "killed", "running", "pending", "preempted", "preempting")
SERIES = re.compile(r"^(?P<run>.+) - (?P<metric>.+?)(?P<part>__MIN|__MAX)?$")
CHART_ADVICE = "a chart holds one metric: choose logged FLOPs as its x axis, or export the table of runs"
HISTORY_ADVICE = "a history holds what was logged: add what was not as a column"
HELD_OUT = ("val", "valid", "validation", "eval", "test", "dev")


def translate(raw: RawTable, mapping: Mapping[str, str]) -> RawTable:
    """``raw`` with the columns of a plain table of runs if it is an export, else ``raw`` itself.

    ``mapping``: what the user renames, theirs -> ours; a column named there is left to the user. Raises InputError for
    a chart of grouped runs and for a table with both a loss and a held-out loss of which none was chosen.
    """
    if raw.ours:
        return raw
    if is_chart(raw):
        return _from_chart(raw)
    if "_step" in raw.columns and ("_runtime" in raw.columns or "_timestamp" in raw.columns):
        if not ({"State", "state"} & set(raw.columns)):
            return _from_history(raw, mapping)
    return _from_runs(raw, mapping) if _state_column(raw) else raw


def is_chart(raw: RawTable) -> bool:
    """True if some column ``RUN - METRIC`` has its ``__MIN`` and ``__MAX`` beside it."""
    return any(
        SERIES.match(name) and f"{name}__MIN" in raw.columns and f"{name}__MAX" in raw.columns for name in raw.columns
    )


def _state_column(raw: RawTable) -> str | None:
    """The column of W&B states: all cells are such states, and one is ``finished`` or the header is the app's."""
    for name in ("State", "state"):
        cells = {str(cell).strip().lower() for cell in raw.columns.get(name, [])}
        if cells and cells <= set(STATES) and (FINISHED in cells or "Name" in raw.columns):
            return name
    return None


def _from_runs(raw: RawTable, mapping: Mapping[str, str]) -> RawTable:
    columns = dict(raw.columns)
    _ask_which_loss(raw, mapping)
    theirs = {ours: name for name, ours in mapping.items()}
    state = _state_column(raw)
    if state is not None and "state" not in theirs:
        loss = columns.get(theirs.get("loss", "loss"))
        flops = columns.get(theirs.get("flops", "flops"))
        cells = columns.pop(state)
        columns["state"] = [_state(cell, loss, flops, i) for i, cell in enumerate(cells)]
    name = next((name for name in ("ID", "id", "run_id", "Name", "name") if name in columns), None)
    if name is not None and name not in mapping and "run" not in {*columns, *mapping.values()}:
        columns["run"] = _unique(columns[name], raw.rows)
    return RawTable(columns, raw.rows, raw.where)


def _ask_which_loss(raw: RawTable, mapping: Mapping[str, str]) -> None:
    """W&B's ``loss`` is mostly the training loss: beside a held-out one the choice is the user's."""
    if "loss" not in raw.columns or "loss" in mapping.values():
        return
    for name in raw.columns:
        parts = plain_name(name).split("_")
        if "loss" in parts and set(parts) & set(HELD_OUT):
            remedy = f"say --map {name}=loss, or --map loss=loss"
            raise InputError(f"two losses, loss and {name}", where=raw.where, remedy=remedy)


def _state(cell: object, loss: list[object] | None, flops: list[object] | None, i: int) -> str:
    state = str(cell).strip().lower()
    if state != FINISHED:
        return state
    if loss is not None and _is_nan(loss[i]):
        return DIVERGED
    if any(column is not None and _is_missing(column[i]) for column in (loss, flops)):
        return UNMEASURED
    return DONE


def _is_nan(cell: object) -> bool:
    if isinstance(cell, float):
        return math.isnan(cell)
    return isinstance(cell, str) and cell.strip().lower() == "nan"


def _is_missing(cell: object) -> bool:
    return is_blank(cell) or _is_nan(cell)


def _unique(names: list[object], rows: list[str]) -> list[object]:
    """Names of runs, told apart by their row where W&B repeats them."""
    texts = [str(name).strip() for name in names]
    return [text if texts.count(text) == 1 else f"{text} ({row})" for text, row in zip(texts, rows, strict=True)]


def _from_chart(raw: RawTable) -> RawTable:
    """Wide -> long: one row per run and value of the x axis, with one column per metric."""
    axis = next(iter(raw.columns))
    series: dict[str, dict[str, str]] = {}
    for name in raw.columns:
        match = SERIES.match(name)
        if match and not match["part"]:
            series.setdefault(match["run"], {})[match["metric"]] = name
    grouped = sorted(run for run in series if run.lower().startswith("group: "))
    if grouped:
        remedy = "switch grouping off and export again"
        raise InputError("a chart of grouped runs: each line is a mean", where=raw.where, got=grouped[0], remedy=remedy)
    axis_name = "step" if plain_name(axis) == "step" else axis
    metrics = sorted({metric for found in series.values() for metric in found} - {"_step"})
    names = ["run", "name", "step", *([axis] if axis_name == axis else []), *metrics]
    columns: dict[str, list[object]] = {name: [] for name in names}
    rows: list[str] = []
    for run, found in series.items():
        for i, row in enumerate(raw.rows):
            cells = {"step" if metric == "_step" else metric: raw.columns[name][i] for metric, name in found.items()}
            if all(_is_missing(cell) for metric, cell in cells.items() if metric != "step"):
                continue
            # Rows ascend along the axis, so their number is as good as a step where none was exported.
            cells = {"run": run, "name": run, "step": i, axis_name: raw.columns[axis][i]} | cells
            for name in columns:
                columns[name].append(cells.get(name))
            rows.append(f"{row} of run {run}")
    return RawTable(columns, rows, raw.where, advice=CHART_ADVICE)


def _from_history(raw: RawTable, mapping: Mapping[str, str]) -> RawTable:
    columns = dict(raw.columns)
    _ask_which_loss(raw, mapping)
    if "step" not in columns and "_step" not in mapping:
        columns["step"] = columns.pop("_step")
    name = next((name for name in ("run", "run_id", "Name", "name") if name in columns and name not in mapping), None)
    if "run" not in mapping.values():
        columns["run"] = columns[name] if name else [Path(raw.where).stem] * len(raw.rows)
    needed = [theirs for theirs, ours in mapping.items() if ours in ("loss", "flops")]
    needed += [ours for ours in ("loss", "flops") if ours in columns and ours not in mapping.values()]
    kept = [
        i for i in range(len(raw.rows)) if not any(_is_missing(columns[name][i]) for name in needed if name in columns)
    ]
    picked = {name: [cells[i] for i in kept] for name, cells in columns.items()}
    return RawTable(picked, [raw.rows[i] for i in kept], raw.where, advice=HISTORY_ADVICE)
