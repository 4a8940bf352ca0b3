"""A table of runs, checked once at the door: every later step relies on what this module has refused.

Columns: ``arch`` (text), ``flops`` (training FLOPs, > 0), ``loss`` (nats per token, > 0) are required. Optional:
``run`` (name of the run), ``step`` (the row's optimiser step), ``state`` (``done``, ``diverged``, ...),
``flop_convention`` (text) and the numbers ``width, depth, params, tokens, seed, lr, bits_per_byte, seconds``. Other
columns are ignored.
"""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from algoprog.scaling.errors import InputError
from algoprog.scaling.read import RawTable, read_table

REQUIRED = ("arch", "flops", "loss")
TEXT = ("run", "arch", "state", "flop_convention")
NUMBERS = ("width", "depth", "params", "tokens", "seed", "lr", "step", "flops", "loss", "bits_per_byte", "seconds")
KNOWN = (*TEXT, *NUMBERS)
DONE = "done"

# Names that other people's tables use, in lower case; only ever a suggestion, never applied without being asked.
ALIASES = {
    "arch": ("architecture", "model", "class", "name", "model_class"),
    "flops": ("c", "compute", "flop", "budget", "training_flops", "total_flops", "cumulative_flops"),
    "loss": ("l", "val_loss", "validation_loss", "valid_loss", "eval_loss", "test_loss", "final_loss", "ce"),
}


def load_runs(path: str | Path, mapping: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Read and check a table of runs.

    ``path``: a sweep's directory (its ``store.sqlite`` is opened read-only), a CSV file (UTF-8, commas, one header
    line) or a Parquet file (needs the extra ``parquet``). ``mapping`` renames columns, theirs -> ours, before
    anything else; it wins over a column that already has the name.

    Returns one row per row of the file, in its order, with ``run, arch, flops, loss, state`` and the optional columns
    that are there. Without ``run`` each row is its own run, named by its row; without ``state`` each row is ``done``.
    Rows in another state may lack flops and loss (NaN). Identical rows are kept once.

    Raises InputError, one line, for a file that is missing, empty, binary or not UTF-8; a directory without a store;
    missing columns; an empty table; a number that does not parse, is not finite or not positive (with the row as the
    file counts it); a run with conflicting values; more than one FLOP convention.
    """
    raw = rename(read_table(Path(path)), mapping or {})
    _require_columns(raw)
    if not raw.rows:
        raise InputError("the table has no rows", where=raw.where, expected="at least one run")
    frame = _parse(raw)
    _check_conventions(frame, raw.where)
    return _check_runs(frame, raw)


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


def nearest(name: str, choices: Iterable[str]) -> str | None:
    """The most similar of ``choices``, or None if nothing comes near."""
    lower = {choice.lower(): choice for choice in choices}
    found = difflib.get_close_matches(name.lower(), list(lower), n=1, cutoff=0.5)
    return lower[found[0]] if found else None


def require_arch(arch: str, known: Iterable[str]) -> None:
    """Raise InputError, with the nearest name, if ``arch`` is not one of ``known``."""
    choices = sorted(known)
    if arch not in choices:
        near = nearest(arch, choices)
        remedy = f"did you mean {near}?" if near else None
        raise InputError("unknown architecture", got=arch, expected=f"one of {', '.join(choices)}", remedy=remedy)


def rename(raw: RawTable, mapping: Mapping[str, str]) -> RawTable:
    """Apply ``mapping`` theirs -> ours. Raises InputError for an unknown column on either side or a double target."""
    for theirs, ours in mapping.items():
        where = f"--map {theirs}={ours}"
        if theirs not in raw.columns:
            near = nearest(theirs, raw.columns)
            found = f"columns {', '.join(raw.columns)}"
            remedy = f"did you mean --map {near}={ours}?" if near else None
            raise InputError(f"no column {theirs} in {raw.where}", where=where, got=found, remedy=remedy)
        if ours not in KNOWN:
            near = nearest(ours, KNOWN)
            remedy = f"did you mean --map {theirs}={near}?" if near else None
            raise InputError(f"unknown name {ours}", where=where, expected=f"one of {', '.join(KNOWN)}", remedy=remedy)
    targets = list(mapping.values())
    twice = sorted({name for name in targets if targets.count(name) > 1})
    if twice:
        raise InputError(f"two columns mapped to {', '.join(twice)}", where="--map")
    kept = {name: cells for name, cells in raw.columns.items() if name not in mapping and name not in targets}
    kept |= {ours: raw.columns[theirs] for theirs, ours in mapping.items()}
    return RawTable(kept, raw.rows, raw.where)


def _require_columns(raw: RawTable) -> None:
    missing = [name for name in REQUIRED if name not in raw.columns]
    if missing:
        hints = [f"--map {near}={name}" for name in missing if (near := _suggest(name, raw.columns))]
        what = f"missing column{'s' if len(missing) > 1 else ''} {', '.join(missing)}"
        found = f"columns {', '.join(raw.columns)}" if raw.columns else "no columns"
        raise InputError(
            what, where=raw.where, got=found, remedy=f"try {' '.join(hints)}" if hints else "rename with --map"
        )
    if "step" in raw.columns and "run" not in raw.columns:
        raise InputError(
            "column step without column run", where=raw.where, remedy="name the runs: --map theirs=run; or drop step"
        )


def _suggest(name: str, columns: Iterable[str]) -> str | None:
    """The column that most likely is ``name``: an alias, else similar spelling; never one with its own meaning."""
    free = [column for column in columns if column not in KNOWN]
    for alias in ALIASES[name]:
        for column in free:
            if column.lower() == alias:
                return column
    return nearest(name, free)


def _is_blank(cell: object) -> bool:
    return cell is None or (isinstance(cell, str) and not cell.strip())


def _parse(raw: RawTable) -> pd.DataFrame:
    """Cells -> a typed frame. A row that is not ``done`` may leave numbers blank, any row an optional number."""
    count = len(raw.rows)
    columns: dict[str, list[str] | list[float]] = {}
    done = [True] * count
    for name in TEXT:
        if name in raw.columns:
            columns[name] = [_text(cell, name, raw, i) for i, cell in enumerate(raw.columns[name])]
    if "state" in columns:
        done = [state == DONE for state in columns["state"]]
    for name in NUMBERS:
        if name in raw.columns:
            columns[name] = [_number(cell, name, raw, i, done[i]) for i, cell in enumerate(raw.columns[name])]
    columns.setdefault("run", list(raw.rows))
    columns.setdefault("state", [DONE] * count)
    return pd.DataFrame({name: columns[name] for name in KNOWN if name in columns})


def _text(cell: object, name: str, raw: RawTable, i: int) -> str:
    if _is_blank(cell) or (isinstance(cell, float) and math.isnan(cell)):
        raise InputError(f"blank {name}", where=f"{raw.where} {raw.rows[i]}", expected="a name")
    return str(cell).strip()


def _number(cell: object, name: str, raw: RawTable, i: int, done: bool) -> float:
    where = f"{raw.where} {raw.rows[i]}"
    needed = name == "step" or (done and name in REQUIRED)
    if _is_blank(cell):
        if needed:
            raise InputError(f"blank {name}", where=where, expected="a number")
        return math.nan
    try:
        # Text with underscores is a number to Python and to nobody else.
        value = float(str(cell).replace("_", "?"))
    except ValueError:
        raise InputError(f"{name} is not a number", where=where, got=str(cell)) from None
    if needed and name in ("flops", "loss") and not (math.isfinite(value) and value > 0):
        unit = "FLOPs" if name == "flops" else "nats per token"
        raise InputError(f"bad {name}", where=where, got=str(cell), expected=f"a finite number > 0, in {unit}")
    if name == "step" and not math.isfinite(value):
        raise InputError("bad step", where=where, got=str(cell), expected="a finite number")
    return value


def _check_conventions(frame: pd.DataFrame, where: str) -> None:
    if "flop_convention" in frame:
        names = sorted(set(frame["flop_convention"]))
        if len(names) > 1:
            got = ", ".join(names)
            raise InputError(
                "more than one FLOP convention", where=where, got=got, remedy="compare runs of one convention"
            )


def _check_runs(frame: pd.DataFrame, raw: RawTable) -> pd.DataFrame:
    """Drop exact repeats; refuse a run whose rows disagree."""
    frame = frame.assign(_row=raw.rows)
    values = [name for name in frame.columns if name != "_row"]
    frame = frame.drop_duplicates(subset=values, keep="first")
    remedy = "give each run its own name, or drop the column run"
    for run, rows in frame.groupby("run", sort=False):
        lines = f"{raw.where} {' and '.join(rows['_row'].iloc[:2])}"
        if rows["arch"].nunique() > 1:
            got = ", ".join(sorted(set(rows["arch"])))
            raise InputError(f"run {run} has more than one architecture", where=lines, got=got, remedy=remedy)
        steps = rows["step"] if "step" in rows else pd.Series(0.0, index=rows.index)
        twice = rows[steps.duplicated(keep=False)]
        if len(twice):
            lines = f"{raw.where} {' and '.join(twice['_row'].iloc[:2])}"
            what = f"run {run} occurs twice with different values" + (" for one step" if "step" in rows else "")
            hint = remedy if "step" in rows else f"{remedy}, or add a column step"
            raise InputError(what, where=lines, remedy=hint)
    return frame.drop(columns="_row").reset_index(drop=True)


def _last_rows(runs: pd.DataFrame) -> pd.DataFrame:
    if "step" not in runs or "run" not in runs:
        return runs
    # Frames put together from parts may repeat index labels; positions are unique.
    runs = runs.reset_index(drop=True)
    last: pd.DataFrame = runs.loc[runs.groupby("run", sort=False)["step"].idxmax()]
    return last.sort_index()
