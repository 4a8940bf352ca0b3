"""A table of runs, checked once at the door: every later step relies on what this module has refused.

Columns: ``arch`` (text), ``flops`` (training FLOPs, > 0), ``loss`` (nats per token, > 0) are required. Optional:
``run`` (name of the run), ``step`` (the row's optimiser step), ``state`` (``done``, ``diverged``, ...),
``flop_convention`` (text) and the numbers ``width, depth, params, tokens, seed, lr, vocab, bits_per_byte, seconds``.
Other columns are ignored unless they are asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from algoprog.scaling.errors import InputError
from algoprog.scaling.runs.cells import DONE, parse_cells
from algoprog.scaling.runs.columns import REQUIRED, nearest, rename, require_columns
from algoprog.scaling.runs.read import RawTable, read_table
from algoprog.scaling.runs.unit_checks import check_units
from algoprog.scaling.runs.units import convert, validate
from algoprog.scaling.runs.wandb_export import translate

__all__ = ["DONE", "REQUIRED", "excluded_runs", "final_points", "load_runs", "nearest", "require_arch"]


def load_runs(
    path: str | Path,
    mapping: Mapping[str, str] | None = None,
    *,
    units: Mapping[str, str] | None = None,
    keep: Sequence[str] = (),
    required: Sequence[str] = REQUIRED,
) -> pd.DataFrame:
    """Read and check a table of runs.

    ``path``: a sweep's directory (its ``store.sqlite`` is opened read-only), a CSV file (UTF-8, commas, one header
    line), a JSON file (a list of objects, one object per line, or pandas' columns) or a Parquet file (needs the extra
    ``parquet``). Exports of Weights & Biases are recognised (``wandb_export``). ``mapping`` renames columns, theirs ->
    ours, before anything else; it wins over a column that already has the name.

    ``units`` says in what a column is given, ``{"flops": "pflop-days"}``, and converts it (``units.UNITS``); a column
    named there is not questioned any more, ``{"flops": "flops"}`` included. ``keep``: further columns, carried along
    as text; of a store also keys of the runs' configs, as ``model.activation``. ``required``: the columns that must
    be there, with positive numbers in every row that is done.

    Returns one row per row of the file, in its order, with ``run, arch, flops, loss, state``, the optional columns
    that are there, and those to keep. Without ``run`` each row is its own run, named by its row; without ``state``
    each row is ``done``; without ``arch``, where it is not required, every row is of the architecture ``all``. Rows in
    another state may lack numbers (NaN). Identical rows are kept once.

    Raises InputError, one line, for a file that is missing, empty, binary or not UTF-8; a directory without a store;
    missing columns; an empty table; a number that does not parse, is not finite or not positive (with the row as the
    file counts it); numbers that look like another unit; a run with conflicting values; more than one FLOP
    convention.
    """
    mapping, units = mapping or {}, validate(units or {})
    raw = _named_convention(rename(translate(read_table(Path(path), keep), mapping), mapping), mapping)
    require_columns(raw, required, keep)
    if not raw.rows:
        raise InputError("the table has no rows", where=raw.where, expected="at least one run")
    frame = convert(parse_cells(raw, required, keep), units, raw.where)
    _check_conventions(frame, raw.where)
    frame = _check_runs(frame, raw)
    if not raw.ours:
        headers = {ours: theirs for theirs, ours in mapping.items()}
        check_units(final_points(frame), headers, units, raw.where)
    return frame


def final_points(runs: pd.DataFrame) -> pd.DataFrame:
    """The last step of every run whose last row is ``done``: one row per run, a point of (flops, loss).

    ``runs`` as from :func:`load_runs`; a table without ``step`` (``run``, ``state``) is one final point (own run,
    ``done``) per row. The order of rows is kept. May be empty.
    """
    last = _last_rows(runs)
    return last[last["state"] == DONE].reset_index(drop=True) if "state" in last else last.reset_index(drop=True)


def excluded_runs(runs: pd.DataFrame) -> dict[str, int]:
    """Number of runs that are not ``done``, by state, for example ``{"diverged": 1}``."""
    last = _last_rows(runs)
    counts = Counter(str(state) for state in last["state"] if state != DONE) if "state" in last else Counter[str]()
    return dict(sorted(counts.items()))


def require_arch(arch: str, known: Iterable[str]) -> None:
    """Raise InputError, with the nearest name, if ``arch`` is not one of ``known``."""
    choices = sorted(known)
    if arch not in choices:
        near = nearest(arch, choices)
        remedy = f"did you mean {near}?" if near else None
        raise InputError("unknown architecture", got=arch, expected=f"one of {', '.join(choices)}", remedy=remedy)


def _named_convention(raw: RawTable, mapping: Mapping[str, str]) -> RawTable:
    """A store's column ``flops_NAME`` taken as ``flops`` is counted in the convention NAME."""
    for theirs, ours in mapping.items():
        if raw.ours and ours == "flops" and theirs.startswith("flops_"):
            named: list[object] = [theirs.removeprefix("flops_")] * len(raw.rows)
            return replace(raw, columns={**raw.columns, "flop_convention": named})
    return raw


def _check_conventions(frame: pd.DataFrame, where: str) -> None:
    """One table, one way of counting FLOPs: between two, the same run differs by more than most gains."""
    if "flop_convention" in frame:
        counts = Counter(str(name) for name in frame["flop_convention"])
        if len(counts) > 1:
            got = ", ".join(f"{name} in {rows} row{'s' if rows > 1 else ''}" for name, rows in sorted(counts.items()))
            remedy = "count all runs in one convention, or analyse them in separate files"
            raise InputError("more than one FLOP convention", where=where, got=got, remedy=remedy)


def _check_runs(frame: pd.DataFrame, raw: RawTable) -> pd.DataFrame:
    """Drop exact repeats; refuse a run whose rows disagree."""
    frame = frame.assign(_row=raw.rows)
    values = [name for name in frame.columns if name != "_row"]
    frame = frame.drop_duplicates(subset=values, keep="first")
    remedy = "give each run its own name, or drop the column run"
    mixed = frame.groupby("run", sort=False)["arch"].transform("nunique") > 1
    if mixed.any():
        rows, lines = _first_run(frame[mixed], raw.where)
        what = f"run {rows['run'].iloc[0]} has more than one architecture"
        raise InputError(what, where=lines, got=", ".join(sorted(set(rows["arch"]))), remedy=remedy)
    keys = ["run", "step"] if "step" in frame else ["run"]
    twice = frame[frame.duplicated(keys, keep=False)]
    if len(twice):
        first = twice[(twice[keys] == twice[keys].iloc[0]).all(axis=1)]
        rows, lines = _first_run(first, raw.where)
        what = f"run {rows['run'].iloc[0]} occurs twice with different values"
        what += " for one step" if "step" in frame else ""
        hint = remedy if "step" in frame else f"{remedy}, or add a column step"
        raise InputError(what, where=lines, remedy=hint)
    return frame.drop(columns="_row").reset_index(drop=True)


def _first_run(rows: pd.DataFrame, where: str) -> tuple[pd.DataFrame, str]:
    """The rows of the first run among ``rows``, and where its first two are."""
    mine = rows[rows["run"] == rows["run"].iloc[0]]
    return mine, f"{where} {' and '.join(mine['_row'].iloc[:2])}"


def _last_rows(runs: pd.DataFrame) -> pd.DataFrame:
    if "step" not in runs or "run" not in runs:
        return runs
    # Frames put together from parts may repeat index labels; positions are unique.
    runs = runs.reset_index(drop=True)
    last: pd.DataFrame = runs.loc[runs.groupby("run", sort=False)["step"].idxmax()]
    return last.sort_index()
