"""Units of a table of runs as a user states them: ``flops=pflop-days``, ``loss=bits``; converted to ours.

``unit_checks`` asks about columns that look like another unit; nothing is converted unasked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from algoprog.scaling.errors import InputError
from algoprog.scaling.runs.columns import nearest

PER_TOKEN = "per-token"
UNITS: dict[str, tuple[str, ...]] = {
    "flops": (
        "flops", "kiloflops", "megaflops", "gigaflops", "teraflops", "petaflops", "exaflops", "zettaflops",
        "pflop-days", PER_TOKEN,
    ),
    "tokens": ("tokens", "thousands", "millions", "billions", "trillions"),
    "params": ("params", "thousands", "millions", "billions"),
    "loss": ("nats", "bits", "bits-per-byte", "perplexity"),
}  # fmt: skip
"""Units by column, ours first. Loss: ``bits`` are per token; ``bits-per-byte`` becomes nats per byte; ``perplexity``
per token. ``per-token`` FLOPs are multiplied by the run's tokens."""

SCALE = {
    "kiloflops": 1e3, "megaflops": 1e6, "gigaflops": 1e9, "teraflops": 1e12, "petaflops": 1e15, "exaflops": 1e18,
    "zettaflops": 1e21, "pflop-days": 1e15 * 86400.0, "thousands": 1e3, "millions": 1e6, "billions": 1e9,
    "trillions": 1e12,
}  # fmt: skip


def parse_units(items: Sequence[str]) -> dict[str, str]:
    """``["flops=pflop-days"]`` -> ``{"flops": "pflop-days"}``. Raises InputError for anything else."""
    units: dict[str, str] = {}
    for item in items:
        column, equals, unit = item.partition("=")
        if not (column and equals and unit):
            raise InputError("bad unit", where="--unit", got=item, expected="column=unit, for example flops=pflop-days")
        if column in units:
            raise InputError(f"unit of {column} given twice", where="--unit", got=item)
        units[column] = unit
    return validate(units)


def validate(units: Mapping[str, str]) -> dict[str, str]:
    """``units`` in their canonical spelling. Raises InputError, with the nearest name, for an unknown one."""
    found = {}
    for column, unit in units.items():
        where = f"--unit {column}={unit}"
        if column not in UNITS:
            raise InputError("no unit can be given for this column", where=where, expected=f"one of {', '.join(UNITS)}")
        name = unit.strip().lower().replace("_", "-")
        if name not in UNITS[column]:
            near = nearest(name, UNITS[column])
            remedy = f"did you mean --unit {column}={near}?" if near else None
            raise InputError("unknown unit", where=where, expected=f"one of {', '.join(UNITS[column])}", remedy=remedy)
        found[column] = name
    return found


def convert(frame: pd.DataFrame, units: Mapping[str, str], where: str) -> pd.DataFrame:
    """``frame`` in FLOPs, tokens, parameters and nats. ``units`` as from :func:`validate`.

    Raises InputError for a unit of a column that is not there, FLOPs per token without tokens, and a perplexity of 1
    or less.
    """
    frame = frame.copy()
    for column, unit in units.items():
        at = f"{where}, --unit {column}={unit}"
        if column not in frame:
            raise InputError(f"no column {column}", where=at, got=f"columns {', '.join(map(str, frame.columns))}")
        values = frame[column]
        if unit == PER_TOKEN:
            if "tokens" not in frame or not bool((frame["tokens"] > 0).all()):
                raise InputError("FLOPs per token need the tokens of every run", where=at, remedy="--map THEIRS=tokens")
            # The scale of tokens is known whichever of the two units was named first.
            scale = SCALE.get(units.get("tokens", ""), 1.0)
            converted = "tokens" in list(units)[: list(units).index(column)]
            frame[column] = values * frame["tokens"] * (1.0 if converted else scale)
        elif unit == "perplexity":
            if bool((values <= 1).any()):
                raise InputError("a perplexity is above 1", where=at, got=f"{values.min():g}")
            frame[column] = np.log(values)
        else:
            frame[column] = values * (math.log(2.0) if unit.startswith("bits") else SCALE.get(unit, 1.0))
    return frame
