"""Whether a store is whole: what SQLite can tell, and whether every row says what its name, its plan and its seal promise."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from algoprog.config import InputError, RunConfig, canonical_json, parse
from algoprog.sweep.schema import FINISHED, SCHEMA, check_schema, seal
from algoprog.sweep.store import FILE

RESULT_NUMBERS = ("steps", "tokens", "flops")


@dataclass(frozen=True)
class Verification:
    """``problems``: one line each, empty for a store that is whole; ``checked``: how many rows of which kind were read."""

    problems: tuple[str, ...]
    checked: Mapping[str, int]

    @property
    def whole(self) -> bool:
        """Nothing was found."""
        return not self.problems


def verify(folder: Path) -> Verification:
    """Check the store in ``folder`` without writing to it; a sweep may be running.

    What is damaged is a finding, not an error. Checked: SQLite's own integrity and foreign keys; that every run's name is that
    of its config and the data's fingerprint; that every finished run has a result that parses, matches its seal, state and plan
    and was reported done once; that metrics advance to the end of the plan.

    Raises:
        InputError: there is no store, or its schema is newer than ours.
    """
    path = folder / FILE
    if not path.is_file():
        raise InputError("no store here", where=folder, expected=f"a folder with {FILE}, as made by `algoprog sweep`")
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row
    try:
        version = check_schema(connection, path)
        if version == 0:
            raise InputError("the store is still empty", where=path, remedy="wait until its sweep has started")
        connection.execute("BEGIN")  # one moment of a store that may be in use
        problems = tuple(_problems(connection, version))
        return Verification(problems, _counts(connection))
    # SQLite quotes damaged bytes in its messages; a column whose name is damaged is missing.
    except (sqlite3.Error, UnicodeDecodeError, IndexError) as error:
        return Verification((f"SQLite cannot read the store: {error}",), {})
    finally:
        connection.close()


def _counts(db: sqlite3.Connection) -> dict[str, int]:
    tables = ("runs", "attempts", "metrics")
    return {table: db.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0] for table in tables}


def _problems(db: sqlite3.Connection, version: int) -> Iterator[str]:
    for row in db.execute("PRAGMA integrity_check"):
        if row[0] != "ok":
            yield f"SQLite: {row[0]}"
    for row in db.execute("PRAGMA foreign_key_check"):
        yield f"{row['table']}: a row of a run that does not exist"
    fingerprint = _fingerprint(db)
    if (
        fingerprint is None and db.execute("SELECT 1 FROM runs").fetchone()
    ):  # a sweep that died at its start has neither
        yield "meta: no fingerprint of the data"
    for row in db.execute("SELECT * FROM runs ORDER BY position"):
        yield from (f"run {row['digest']}: {problem}" for problem in _run_problems(db, row, fingerprint, version))


def _fingerprint(db: sqlite3.Connection) -> str | None:
    found = db.execute("SELECT value FROM meta WHERE key = 'data'").fetchone()
    try:
        value = json.loads(found[0])["fingerprint"] if found else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return value if isinstance(value, str) else None


def _run_problems(db: sqlite3.Connection, row: sqlite3.Row, fingerprint: str | None, version: int) -> Iterator[str]:
    if not _kinds_fit(row):
        yield "its row holds values of the wrong kind"
        return
    try:
        config = parse(RunConfig, json.loads(row["config"]), "config")
    except (ValueError, TypeError, RecursionError) as error:
        yield f"its config does not parse ({error})"
        return
    if fingerprint is not None and config.digest(fingerprint) != row["digest"]:
        yield f"its config and data are named {config.digest(fingerprint)}"
    if canonical_json(config) != row["config"]:
        yield "its config is not in canonical form"
    said = (config.arch, config.model.width, config.seed)
    if (row["arch"], row["width"], row["seed"]) != said:
        yield f"its columns say {row['arch']}, {row['width']}, {row['seed']}, its config {', '.join(map(str, said))}"
    outcomes = [attempt[0] for attempt in db.execute("SELECT outcome FROM attempts WHERE digest = ?", (row["digest"],))]
    ended = sum(outcome in FINISHED for outcome in outcomes)
    if row["state"] in FINISHED:
        yield from _result_problems(row, version)
        if ended != 1:
            yield f"{ended} attempts report its end, not one"
        elif row["state"] not in outcomes:
            yield f"no attempt reports it {row['state']}"
    elif row["result"] is not None or ended:
        yield f"it is {row['state']}, but has a result"
    yield from _metric_problems(db, row)


def _kinds_fit(row: sqlite3.Row) -> bool:
    """SQLite takes any value in any column; a result may also be missing."""
    texts = [row[name] for name in ("digest", "config", "arch", "state")] + [row["result"] or ""]
    numbers = [row[name] for name in ("width", "seed", "params", *RESULT_NUMBERS)]
    return all(isinstance(text, str) for text in texts) and all(isinstance(number, int) for number in numbers)


def _result_problems(row: sqlite3.Row, version: int) -> Iterator[str]:
    try:
        result = json.loads(row["result"])
        numbers = {name: result[name] for name in RESULT_NUMBERS}
        loss, state = result["loss"], result["state"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        yield f"its result does not parse ({type(error).__name__}: {error})"
        return
    if version == SCHEMA and row["result_sha256"] != seal(row["digest"], row["config"], row["result"]):
        yield "its result does not match its seal"
    if state != row["state"]:
        yield f"its result says {state!r}, its row {row['state']!r}"
    if row["state"] == "done":
        if not _finite(loss):
            yield f"its loss is {loss!r}"
        for name, value in numbers.items():
            if value != row[name]:
                yield f"its result has {value!r} {name}, its plan {row[name]}"


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _metric_problems(db: sqlite3.Connection, row: sqlite3.Row) -> Iterator[str]:
    """Rows advance in step, tokens and FLOPs together, stay inside the plan, and reach its end if the run is done."""
    before = (0, 0, 0)
    query = "SELECT step, tokens, flops, loss, grad_norm, lr FROM metrics WHERE digest = ? ORDER BY step"
    for step, tokens, flops, *values in db.execute(query, (row["digest"],)):
        here = (step, tokens, flops)
        if not all(isinstance(new, int) and new > old for new, old in zip(here, before, strict=True)):
            yield f"its metrics do not advance at step {step}"
            return
        if not all(_finite(value) for value in values):
            yield f"its metrics at step {step} are not finite numbers"
        before = here
    if any(reached > row[name] for reached, name in zip(before, RESULT_NUMBERS, strict=True)):
        yield f"its metrics go on to step {before[0]} of {row['steps']}"
    elif row["state"] == "done" and before[0] != row["steps"]:
        yield f"its metrics end at step {before[0]} of {row['steps']}"
