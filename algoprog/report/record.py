"""What a sweep's store says about itself, read once and never written: runs, curves, attempts and meta."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from algoprog.config import InputError
from algoprog.sweep.store import FILE, open_for_reading

Row = dict[str, Any]


class NothingYet(InputError):
    """A store without a finished run."""


@dataclass(frozen=True, eq=False)
class Record:
    """Rows of the store: all ``runs`` in planned order, training ``curves``, ``attempts``, and ``meta``."""

    runs: list[Row]
    curves: list[Row]
    attempts: list[Row]
    meta: Row

    @property
    def baselines(self) -> dict[str, float]:
        """Losses of the data's baselines in nats per token, by name; empty if the store does not tell."""
        found = dig(self.meta, "data", "baselines")
        return {name: float(value) for name, value in found.items()} if isinstance(found, Mapping) else {}

    @property
    def compare(self) -> list[tuple[str, str]]:
        """The pairs (old, new) that the sweep asks to compare; empty for the default."""
        return [(str(old), str(new)) for old, new in dig(self.meta, "sweep", "compare") or []]

    @property
    def states(self) -> dict[str, int]:
        """Number of runs by state."""
        counts: dict[str, int] = {}
        for run in self.runs:
            counts[run["state"]] = counts.get(run["state"], 0) + 1
        return dict(sorted(counts.items()))


def read_record(folder: Path) -> Record:
    """Read the store in ``folder``.

    Raises:
        InputError: there is no readable store.
        NothingYet: none of its runs has finished.
    """
    try:
        with open_for_reading(folder) as store:
            record = Record(store.runs(), store.curves(), store.attempts(), store.meta())
    except (sqlite3.Error, json.JSONDecodeError) as error:
        raise InputError(f"not the store of a sweep ({error})", where=folder / FILE) from None
    if "done" not in record.states:
        got = ", ".join(f"{number} {state}" for state, number in record.states.items()) or "no runs"
        remedy = "run `algoprog sweep` on this folder; the report needs one run that is done"
        raise NothingYet("no finished run to report", where=folder, got=got, remedy=remedy)
    return record


def dig(value: Any, *keys: str) -> Any:
    """``value[key][key]...``, or None as soon as a level is not there: a store may come from an older version."""
    for key in keys:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def busy_seconds(attempts: list[Row]) -> tuple[float, float]:
    """(wall, worker) seconds of all attempts that ended; wall time counts overlaps once and pauses not at all."""
    spans = sorted((a["started"], a["ended"]) for a in attempts if a["ended"] is not None)
    wall, until = 0.0, float("-inf")
    for start, end in spans:
        wall += max(0.0, end - max(start, until))
        until = max(until, end)
    return wall, sum(end - start for start, end in spans)
