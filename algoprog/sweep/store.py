"""The store of a sweep: one SQLite file, written by one driver, readable by anyone at any time.

Every state change is one durable transaction, so a crash at any instant leaves the last committed state. A driver holds an
operating-system lock beside the file; a second one is refused with the holder's name. Nothing here imports torch.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from algoprog.config import InputError
from algoprog.flops.conventions import CONVENTIONS, DEFAULT, named
from algoprog.sweep.migrate import add_conventions

SCHEMA = 2
FILE, LOCK = "store.sqlite", "store.lock"
FINISHED = ("done", "diverged")

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE runs (
    digest TEXT PRIMARY KEY, position INTEGER NOT NULL, arch TEXT NOT NULL, width INTEGER NOT NULL, seed INTEGER NOT NULL,
    config TEXT NOT NULL, params INTEGER NOT NULL, steps INTEGER NOT NULL, tokens INTEGER NOT NULL, flops INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('planned', 'running', 'done', 'diverged', 'failed')), result TEXT
) WITHOUT ROWID;
CREATE TABLE attempts (
    digest TEXT NOT NULL REFERENCES runs, n INTEGER NOT NULL, worker TEXT NOT NULL, provenance TEXT NOT NULL,
    started REAL NOT NULL, ended REAL, outcome TEXT, message TEXT, PRIMARY KEY (digest, n)
) WITHOUT ROWID;
CREATE TABLE metrics (
    digest TEXT NOT NULL REFERENCES runs, step INTEGER NOT NULL, tokens INTEGER NOT NULL, flops INTEGER NOT NULL,
    loss REAL NOT NULL, grad_norm REAL NOT NULL, lr REAL NOT NULL, PRIMARY KEY (digest, step)
) WITHOUT ROWID;
"""

# One row per finished run; besides `flops`, which is causal_exact, the same work in every convention as `flops_NAME`.
_POINTS = f"""
CREATE VIEW points AS SELECT
    digest AS run, arch, width, json_extract(config, '$.model.depth') AS depth, params,
    json_extract(result, '$.tokens') AS tokens, seed, json_extract(config, '$.optim.lr') AS lr,
    json_extract(result, '$.flops') AS flops, json_extract(result, '$.loss') AS loss,
    json_extract(result, '$.bits_per_byte') AS bits_per_byte, json_extract(result, '$.loss_windowed') AS loss_windowed,
    json_extract(result, '$.loss_streaming') AS loss_streaming, json_extract(result, '$.epochs') AS epochs,
    json_extract(result, '$.seconds.train') AS seconds, '{DEFAULT}' AS flop_convention, state,
    {", ".join(f"json_extract(result, '$.flops_by_convention.{name}') AS flops_{name}" for name in CONVENTIONS)}
  FROM runs WHERE state IN ('done', 'diverged') ORDER BY position;
"""


class Store:
    """Access to one store; use :func:`open_for_driving` or :func:`open_for_reading`."""

    def __init__(self, connection: sqlite3.Connection, folder: Path, lock: IO[str] | None) -> None:
        connection.row_factory = sqlite3.Row
        self.folder = folder
        self._db, self._lock = connection, lock

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
        """Add planned runs (digest, arch, width, seed, config JSON, params, steps, tokens, flops); known ones are kept."""
        names = ("digest", "position", "arch", "width", "seed", "config", "params", "steps", "tokens", "flops")
        with self._transaction() as db:
            base = db.execute("SELECT COALESCE(MAX(position), -1) + 1 FROM runs").fetchone()[0]
            db.executemany(
                f"INSERT OR IGNORE INTO runs ({', '.join(names)}, state) VALUES ({', '.join('?' * len(names))}, 'planned')",
                [tuple({**row, "position": base + i}[name] for name in names) for i, row in enumerate(rows)],
            )

    def reset_interrupted(self) -> None:
        """Runs that a dead driver left running, and failed ones, are planned again; their attempts are closed."""
        with self._transaction() as db:
            db.execute("UPDATE attempts SET outcome = 'interrupted', ended = ? WHERE outcome IS NULL", (time.time(),))
            db.execute("UPDATE runs SET state = 'planned' WHERE state IN ('running', 'failed')")

    def start_attempt(self, digest: str, worker: str, provenance: Mapping[str, Any]) -> None:
        with self._transaction() as db:
            n = db.execute("SELECT COUNT(*) FROM attempts WHERE digest = ?", (digest,)).fetchone()[0] + 1
            db.execute(
                "INSERT INTO attempts (digest, n, worker, provenance, started) VALUES (?, ?, ?, ?, ?)",
                (digest, n, worker, json.dumps(provenance), time.time()),
            )
            db.execute("UPDATE runs SET state = 'running' WHERE digest = ?", (digest,))

    def end_attempt(
        self, digest: str, outcome: str, message: str | None = None, result: Mapping[str, Any] | None = None
    ) -> None:
        """Close the open attempt. ``outcome``: done, diverged, failed, retry (planned again) or interrupted."""
        state = outcome if outcome in (*FINISHED, "failed") else "planned"
        with self._transaction() as db:
            db.execute(
                "UPDATE attempts SET ended = ?, outcome = ?, message = ? WHERE digest = ? AND outcome IS NULL",
                (time.time(), outcome, message, digest),
            )
            db.execute(
                "UPDATE runs SET state = ?, result = ? WHERE digest = ? AND state NOT IN ('done', 'diverged')",
                (state, None if result is None else json.dumps(result, allow_nan=False), digest),
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
        return {row["key"]: json.loads(row["value"]) for row in self._db.execute("SELECT key, value FROM meta")}

    def runs(self) -> list[dict[str, Any]]:
        """All runs in planned order, ``config`` and ``result`` parsed."""
        rows = [dict(row) for row in self._db.execute("SELECT * FROM runs ORDER BY position")]
        for row in rows:
            row["config"] = json.loads(row["config"])
            row["result"] = json.loads(row["result"]) if row["result"] else None
        return rows

    def points(self, convention: str = DEFAULT) -> list[dict[str, Any]]:
        """One row per finished run: the view ``points`` with ``flops`` in the named convention.

        Raises:
            InputError: there is no such convention, or the store is too old to know any but the default.
        """
        column = f"flops_{named(convention).name}"
        rows = [dict(row) for row in self._db.execute("SELECT * FROM points")]
        if convention != DEFAULT and any(row.get(column) is None for row in rows):
            raise InputError(
                f"this store keeps FLOPs as {DEFAULT} alone",
                where=self.folder / FILE,
                got=convention,
                remedy="start its sweep again: that repeats no run and brings the store up to date",
            )
        for row in rows:
            row["flops"] = row["flops"] if convention == DEFAULT else row[column]
            row["flop_convention"] = convention
        others = {f"flops_{name}" for name in CONVENTIONS}
        return [{name: value for name, value in row.items() if name not in others} for row in rows]

    def curves(self) -> list[dict[str, Any]]:
        """Training curves: run, arch, width, step, tokens, flops, loss (mean training loss of the interval)."""
        query = """SELECT m.digest AS run, r.arch, r.width, m.step, m.tokens, m.flops, m.loss
                   FROM metrics m JOIN runs r USING (digest) ORDER BY r.position, m.step"""
        return [dict(row) for row in self._db.execute(query)]

    def attempts(self) -> list[dict[str, Any]]:
        """All attempts, ``provenance`` parsed."""
        rows = [dict(row) for row in self._db.execute("SELECT * FROM attempts ORDER BY started")]
        for row in rows:
            row["provenance"] = json.loads(row["provenance"])
        return rows

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._db:
                yield self._db
        except sqlite3.OperationalError as error:
            raise InputError(
                f"the store could not be written ({error}); everything committed before is intact",
                where=self.folder / FILE,
                remedy="free some disk space or make the folder writable, then run the same command again",
            ) from None


def open_for_driving(folder: Path) -> Store:
    """Open or create the store in ``folder`` as its only driver.

    Raises:
        InputError: another driver holds it, the schema is newer than ours, the file is no store, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = _take_lock(folder)
        connection = sqlite3.connect(folder / FILE)
    except (OSError, sqlite3.Error) as error:
        raise InputError(f"the output folder cannot be written ({error})", where=folder) from None
    store = Store(connection, folder, lock)
    try:
        _prepare(connection, folder)
    except BaseException:
        store.close()
        raise
    return store


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
        if _check_schema(connection, path) == 0:
            raise InputError("the store is still empty", where=path, remedy="wait until its sweep has started")
    except BaseException:
        connection.close()
        raise
    return Store(connection, folder, None)


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


def _prepare(connection: sqlite3.Connection, folder: Path) -> None:
    path = folder / FILE
    version = _check_schema(connection, path)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        if version == 0:
            connection.executescript(f"BEGIN; {_TABLES} {_POINTS} PRAGMA user_version = {SCHEMA}; COMMIT;")
        elif version == 1:
            _migrate(connection)
    except sqlite3.OperationalError as error:
        raise InputError(f"the store could not be created or brought up to date ({error})", where=path) from None


def _migrate(connection: sqlite3.Connection) -> None:
    """In one transaction: a crash leaves the old store or the new one."""
    with connection:
        connection.execute("BEGIN")
        add_conventions(connection)
        connection.execute("DROP VIEW points")
        connection.execute(_POINTS)
        connection.execute(f"PRAGMA user_version = {SCHEMA}")


def _check_schema(connection: sqlite3.Connection, path: Path) -> int:
    """The file's schema version; 0 means that nothing has been written yet."""
    try:
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError as error:
        raise InputError(f"not a readable store ({error})", where=path) from None
    if version > SCHEMA:
        raise InputError(
            "the store was written by a newer algoprog",
            where=path,
            got=f"schema {version}",
            expected=f"at most {SCHEMA}",
            remedy="upgrade algoprog",
        )
    return version
