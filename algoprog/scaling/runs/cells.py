"""Cells of a table of runs -> a typed frame, one clear line for the first cell that is none."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from algoprog.scaling.errors import InputError
from algoprog.scaling.runs.columns import KNOWN, NUMBERS, TEXT
from algoprog.scaling.runs.read import RawTable

DONE = "done"
MEANING = {"flops": "FLOPs", "loss": "nats per token", "params": "parameters", "tokens": "tokens"}


def is_blank(cell: object) -> bool:
    """True for None and for text of white space."""
    return cell is None or (isinstance(cell, str) and not cell.strip())


def parse_cells(raw: RawTable, required: Sequence[str], keep: Sequence[str]) -> pd.DataFrame:
    """A frame with the known columns and those of ``keep`` (as text, blank where there is nothing).

    A row whose state is not ``done`` may leave numbers blank, any row a number that is not in ``required``. Without
    ``run`` each row is its own run, without ``state`` it is done, without ``arch`` (where not required) it is of the
    architecture ``all``.
    """
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
            needed = name in required
            columns[name] = [
                _number(cell, name, raw, i, needed and done[i]) for i, cell in enumerate(raw.columns[name])
            ]
    columns.setdefault("run", list(raw.rows))
    columns.setdefault("state", [DONE] * count)
    columns.setdefault("arch", ["all"] * count)
    frame = {name: columns[name] for name in KNOWN if name in columns}
    kept = {name: [_label(cell) for cell in raw.columns[name]] for name in keep if name not in frame}
    return pd.DataFrame(frame | kept)


def _text(cell: object, name: str, raw: RawTable, i: int) -> str:
    if is_blank(cell) or (isinstance(cell, float) and math.isnan(cell)):
        raise InputError(f"blank {name}", where=f"{raw.where} {raw.rows[i]}", expected="a name")
    return str(cell).strip()


def _label(cell: object) -> str:
    """A cell of a kept column as text; a whole number reads the same from CSV, Parquet and a store."""
    if is_blank(cell) or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell).strip()


def _number(cell: object, name: str, raw: RawTable, i: int, needed: bool) -> float:
    where = f"{raw.where} {raw.rows[i]}"
    if is_blank(cell):
        if needed or name == "step":
            raise InputError(f"blank {name}", where=where, expected="a number")
        return math.nan
    try:
        # Text with underscores is a number to Python and to nobody else.
        value = float(str(cell).replace("_", "?"))
    except ValueError:
        raise InputError(f"{name} is not a number", where=where, got=str(cell)) from None
    if needed and name in MEANING and not (math.isfinite(value) and value > 0):
        expected = f"a finite number > 0, in {MEANING[name]}"
        raise InputError(f"bad {name}", where=where, got=str(cell), expected=expected)
    if name == "step" and not math.isfinite(value):
        raise InputError("bad step", where=where, got=str(cell), expected="a finite number")
    return value
