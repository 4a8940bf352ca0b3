"""Tables of the store, and how an older store becomes one of today: in one transaction, so a crash leaves the old or the new.

Schema 1 had FLOPs in one convention; 2 has them in every convention; 3 seals every result with a hash over the run's name,
config and result, and has triggers that refuse to change or delete a finished run, whoever asks.
"""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path

from algoprog.config import InputError
from algoprog.flops.conventions import CONVENTIONS, DEFAULT
from algoprog.sweep.migrate import add_conventions

SCHEMA = 3
FINISHED = ("done", "diverged")

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE runs (
    digest TEXT PRIMARY KEY, position INTEGER NOT NULL, arch TEXT NOT NULL, width INTEGER NOT NULL, seed INTEGER NOT NULL,
    config TEXT NOT NULL, params INTEGER NOT NULL, steps INTEGER NOT NULL, tokens INTEGER NOT NULL, flops INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('planned', 'running', 'done', 'diverged', 'failed')), result TEXT,
    result_sha256 TEXT
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

_TRIGGERS = """
CREATE TRIGGER finished_runs_stay BEFORE UPDATE ON runs WHEN OLD.state IN ('done', 'diverged')
BEGIN SELECT RAISE(ABORT, 'a finished run is never rewritten'); END;
CREATE TRIGGER finished_runs_remain BEFORE DELETE ON runs WHEN OLD.state IN ('done', 'diverged')
BEGIN SELECT RAISE(ABORT, 'a finished run is never deleted'); END;
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


def seal(digest: str, config: str, result: str) -> str:
    """sha256 that ties a result's JSON to the run's name and config, so that a damaged one is noticed."""
    return hashlib.sha256("\n".join((digest, config, result)).encode()).hexdigest()


def prepare_schema(connection: sqlite3.Connection, path: Path) -> None:
    """Make an empty file a store, or bring an older store up to date.

    Raises:
        InputError: the file is no store, was written by a newer algoprog, or cannot be written.
    """
    version = check_schema(connection, path)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        if version == 0:
            connection.executescript(f"BEGIN; {_TABLES} {_TRIGGERS} {_POINTS} PRAGMA user_version = {SCHEMA}; COMMIT;")
        elif version < SCHEMA:
            _migrate(connection, version)
    except (sqlite3.Error, ValueError, KeyError, TypeError) as error:
        raise InputError(f"the store could not be created or brought up to date ({error})", where=path) from None


def _migrate(connection: sqlite3.Connection, version: int) -> None:
    with connection:
        connection.execute("BEGIN")
        if version == 1:
            add_conventions(connection)
            connection.execute("DROP VIEW points")
            connection.execute(_POINTS)
        connection.execute("ALTER TABLE runs ADD COLUMN result_sha256 TEXT")
        connection.create_function("seal", 3, seal, deterministic=True)
        connection.execute("UPDATE runs SET result_sha256 = seal(digest, config, result) WHERE result IS NOT NULL")
        for statement in _TRIGGERS.split("END;")[:-1]:
            connection.execute(f"{statement}END;")
        connection.execute(f"PRAGMA user_version = {SCHEMA}")


def check_schema(connection: sqlite3.Connection, path: Path) -> int:
    """The file's schema version; 0 means that nothing has been written yet.

    Raises:
        InputError: the file is no store, or was written by a newer algoprog.
    """
    try:
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # SQLite quotes the damaged bytes in its message
        raise InputError(
            f"not a readable store ({error})",
            where=path,
            remedy="put back a copy; without one, move it away, and its sweep will train all runs again",
        ) from None
    if not 0 <= version <= SCHEMA:
        raise InputError(
            "the store was written by a newer algoprog",
            where=path,
            got=f"schema {version}",
            expected=f"at most {SCHEMA}",
            remedy="upgrade algoprog",
        )
    return version
