"""The store of a sweep: one SQLite file, written by one driver, readable by anyone at any time.

Every state change is one durable transaction, so a crash at any instant leaves the last committed state. A driver holds an
operating-system lock beside the file; a second one is refused with the holder's name. A folder that vanishes under its driver
is noticed at the next write. Nothing here imports torch.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import socket
import sqlite3
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from algoprog.config import InputError
from algoprog.flops.conventions import CONVENTIONS, DEFAULT, named
from algoprog.sweep.schema import FINISHED, check_schema, prepare_schema, seal

FILE, LOCK = "store.sqlite", "store.lock"

# What readers rely on: a foreign or damaged file may lack any column.
_NUMBERS = ("width", "seed", "params", "steps", "tokens", "flops")
_TEXTS = {
    "runs": {"digest", "arch", "state", "config", "result"},
    "attempts": {"digest", "outcome", "message", "provenance"},
}


class Store:
    """Access to one store; use :func:`open_for_driving` or :func:`open_for_reading`."""

    def __init__(self, connection: sqlite3.Connection, folder: Path, lock: IO[str] | None) -> None:
        connection.row_factory = sqlite3.Row
        self.folder = folder
        self._db, self._lock = connection, lock
        self._file = (folder / FILE).stat().st_ino if lock else None
        self._clocks: dict[str, tuple[float, float]] = {}

    def close(self) -> None:
        self._db.close()
        if self._lock:
            self._lock.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Writing: the driver only.

    def set_meta(self, values: Mapping[str, Any]) -> None:
        """Store JSON values under keys, replacing older ones."""
        with self._transaction() as db:
            db.executemany("REPLACE INTO meta VALUES (?, ?)", [(k, json.dumps(v)) for k, v in values.items()])

    def add_runs(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add planned runs (digest, arch, width, seed, config JSON, params, steps, tokens, flops); known ones are kept.

        Raises:
            InputError: a known one has another config under the same name; a run is never trained on that.
        """
        names = ("digest", "position", "arch", "width", "seed", "config", "params", "steps", "tokens", "flops")
        with self._transaction() as db:
            base = db.execute("SELECT COALESCE(MAX(position), -1) + 1 FROM runs").fetchone()[0]
            db.executemany(
                f"INSERT OR IGNORE INTO runs ({', '.join(names)}, state) VALUES ({', '.join('?' * len(names))}, 'planned')",
                [tuple({**row, "position": base + i}[name] for name in names) for i, row in enumerate(rows)],
            )
            for row in rows:
                if (
                    db.execute("SELECT config FROM runs WHERE digest = ?", (row["digest"],)).fetchone()[0]
                    != row["config"]
                ):
                    raise self._unreadable(f"the config of run {row['digest']} is not the one that its name stands for")

    def reset_interrupted(self) -> None:
        """Runs that a dead driver left running, and failed ones, are planned again; their attempts are closed."""
        with self._transaction() as db:
            # When they ended is not known: their driver did not live to say it.
            db.execute("UPDATE attempts SET outcome = 'interrupted' WHERE outcome IS NULL")
            db.execute("UPDATE runs SET state = 'planned' WHERE state IN ('running', 'failed')")

    def start_attempt(self, digest: str, worker: str, provenance: Mapping[str, Any]) -> None:
        """Open an attempt of a run that is not finished."""
        self._clocks[digest] = (time.time(), time.monotonic())
        with self._transaction() as db:
            n = db.execute("SELECT COUNT(*) FROM attempts WHERE digest = ?", (digest,)).fetchone()[0] + 1
            db.execute(
                "INSERT INTO attempts (digest, n, worker, provenance, started) VALUES (?, ?, ?, ?, ?)",
                (digest, n, worker, json.dumps(provenance), self._clocks[digest][0]),
            )
            db.execute("UPDATE runs SET state = 'running' WHERE digest = ?", (digest,))

    def end_attempt(
        self, digest: str, outcome: str, message: str | None = None, result: Mapping[str, Any] | None = None
    ) -> None:
        """Close the open attempt. ``outcome``: done, diverged, failed, retry (planned again) or interrupted."""
        state = outcome if outcome in (*FINISHED, "failed") else "planned"
        text = None if result is None else json.dumps(result, allow_nan=False)
        # The stamp of the end is that of the start plus what a steady clock counted: a wall clock may be set in between.
        wall, steady = self._clocks.pop(digest, (time.time(), time.monotonic()))
        ended = wall + time.monotonic() - steady
        with self._transaction() as db:
            db.execute(
                "UPDATE attempts SET ended = ?, outcome = ?, message = ? WHERE digest = ? AND outcome IS NULL",
                (ended, outcome, message, digest),
            )
            config = db.execute("SELECT config FROM runs WHERE digest = ?", (digest,)).fetchone()
            sealed = None if text is None or config is None else seal(digest, config[0], text)
            db.execute(
                "UPDATE runs SET state = ?, result = ?, result_sha256 = ? "
                "WHERE digest = ? AND state NOT IN ('done', 'diverged')",
                (state, text, sealed, digest),
            )

    def add_metrics(self, digest: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add training metrics; a resumed run replaces the rows that it repeats."""
        names = ("step", "tokens", "flops", "loss", "grad_norm", "lr")
        with self._transaction() as db:
            db.executemany(
                f"REPLACE INTO metrics (digest, {', '.join(names)}) VALUES (?{', ?' * len(names)})",
                [(digest, *(row[name] for name in names)) for row in rows],
            )

    # Reading: anyone.

    def meta(self) -> dict[str, Any]:
        """What the sweep says about itself, by key."""
        return {row["key"]: self._parsed(row["value"]) for row in self._select("SELECT key, value FROM meta")}

    def runs(self) -> list[dict[str, Any]]:
        """All runs in planned order, ``config`` and ``result`` parsed."""
        rows = self._select("SELECT * FROM runs ORDER BY position")
        for row in rows:
            if not _TEXTS["runs"] <= set(row) or not all(isinstance(row.get(name), int) for name in _NUMBERS):
                raise self._unreadable("a run without its name or numbers")
            row["config"] = self._parsed(row["config"], dict)
            row["result"] = self._parsed(row["result"], dict) if row["result"] else None
        return rows

    def points(self, convention: str = DEFAULT) -> list[dict[str, Any]]:
        """One row per finished run: the view ``points`` with ``flops`` in the named convention.

        Raises:
            InputError: there is no such convention, or the store is too old to know any but the default.
        """
        column = f"flops_{named(convention).name}"
        rows = self._select("SELECT * FROM points")
        if convention != DEFAULT and any(row.get(column) is None for row in rows):
            raise InputError(
                f"this store keeps FLOPs as {DEFAULT} alone",
                where=self.folder / FILE,
                got=convention,
                remedy="start its sweep again: that repeats no run and brings the store up to date",
            )
        for row in rows:
            row["flops"] = row.get("flops" if convention == DEFAULT else column)
            row["flop_convention"] = convention
        others = {f"flops_{name}" for name in CONVENTIONS}
        return [{name: value for name, value in row.items() if name not in others} for row in rows]

    def losses(self) -> dict[str, float]:
        """Final loss (nats per token) of every finished run by its canonical config; infinite where it diverged."""
        query = "SELECT config, json_extract(result, '$.loss') AS loss FROM runs WHERE state IN ('done', 'diverged')"
        return {row["config"]: math.inf if row["loss"] is None else row["loss"] for row in self._select(query)}

    def curves(self) -> list[dict[str, Any]]:
        """Training curves: run, arch, width, step, tokens, flops, loss (mean training loss of the interval)."""
        query = """SELECT m.digest AS run, r.arch, r.width, m.step, m.tokens, m.flops, m.loss
                   FROM metrics m JOIN runs r USING (digest) ORDER BY r.position, m.step"""
        return self._select(query)

    def attempts(self) -> list[dict[str, Any]]:
        """All attempts, ``provenance`` parsed."""
        rows = self._select("SELECT * FROM attempts ORDER BY started, digest, n")
        for row in rows:
            times = (("started", float), ("ended", float | None))
            if not _TEXTS["attempts"] <= set(row) or not all(isinstance(row.get(name), kind) for name, kind in times):
                raise self._unreadable("an attempt without its run or times")
            row["provenance"] = self._parsed(row["provenance"], dict)
        return rows

    def _select(self, query: str) -> list[dict[str, Any]]:
        try:
            return [dict(row) for row in self._db.execute(query)]
        except (sqlite3.Error, UnicodeDecodeError) as error:  # SQLite quotes damaged bytes in its messages
            raise self._unreadable(error) from None

    def _parsed(self, text: object, kind: type = object) -> Any:
        try:
            value = json.loads(text)  # type: ignore[arg-type]  # a foreign file may hold anything in any column
        except (ValueError, TypeError, RecursionError) as error:
            raise self._unreadable(error) from None
        if not isinstance(value, kind):
            raise self._unreadable(f"{type(value).__name__} where a {kind.__name__} belongs")
        return value

    def _unreadable(self, why: object) -> InputError:
        return InputError(
            f"not the store of a sweep ({why})", where=self.folder / FILE, remedy="`algoprog status --verify` says more"
        )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            self._check_still_there()
            with self._db:
                yield self._db
        except (OSError, sqlite3.OperationalError) as error:
            raise InputError(
                f"the store could not be written ({error}); everything committed before is intact",
                where=self.folder / FILE,
                remedy="free some disk space or make the folder writable, then run the same command again",
            ) from None

    def _check_still_there(self) -> None:
        """SQLite goes on writing into a file that has been removed or replaced; nobody would ever read that."""
        if (self.folder / FILE).stat().st_ino != self._file:
            raise OSError("another file has taken its place")


def open_for_driving(folder: Path) -> Store:
    """Open or create the store in ``folder`` as its only driver. A warning says if there was one and it is gone.

    Raises:
        InputError: another driver holds it, the schema is newer than ours, the file is no store, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = _take_lock(folder)
        _warn_if_lost(folder)
        connection = sqlite3.connect(folder / FILE)
    except (OSError, sqlite3.Error) as error:
        raise InputError(f"the output folder cannot be written ({error})", where=folder) from None
    try:
        prepare_schema(connection, folder / FILE)
        return Store(connection, folder, lock)
    except BaseException:
        connection.close()
        lock.close()
        raise


def open_for_reading(folder: Path) -> Store:
    """Open an existing store without writing to it, also while a sweep runs.

    Raises:
        InputError: there is none, it is no store, or its schema is newer than ours.
    """
    path = folder / FILE
    if not path.is_file():
        raise InputError("no store here", where=folder, expected=f"a folder with {FILE}, as made by `algoprog sweep`")
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        if check_schema(connection, path) == 0:
            raise InputError("the store is still empty", where=path, remedy="wait until its sweep has started")
    except BaseException:
        connection.close()
        raise
    return Store(connection, folder, None)


def _warn_if_lost(folder: Path) -> None:
    """Results are kept in the store alone: a sweep that has left other traces but no store begins anew, and shall say so."""
    path = folder / FILE
    if path.exists() and path.stat().st_size:
        return
    traces = [name for name in ("checkpoints", "logs") if (folder / name).is_dir() and any((folder / name).iterdir())]
    if traces:
        print(
            f"warning: {path}: the store of an earlier sweep is gone, but its {' and '.join(traces)} are here: runs that had "
            "finished will be trained again; to keep them, stop this sweep and put back a copy of the store",
            file=sys.stderr,
            flush=True,
        )


def _take_lock(folder: Path) -> IO[str]:
    lock = (folder / LOCK).open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        holder = lock.read().strip() or "unknown"
        lock.close()
        raise InputError(
            f"a live sweep holds this store ({holder})",
            where=folder,
            remedy="wait for it, stop it, or choose another --out",
        ) from None
    lock.truncate(0)
    lock.write(f"pid {os.getpid()} on {socket.gethostname()}\n")
    lock.flush()
    return lock
