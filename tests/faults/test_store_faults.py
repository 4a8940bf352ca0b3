"""The store under crashes, full disks, vanished folders, clock jumps and rows that nobody should believe."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from algoprog.cli import app
from algoprog.config import InputError
from algoprog.sweep.schema import seal
from algoprog.sweep.store import FILE, open_for_driving, open_for_reading
from algoprog.sweep.verify import verify
from benchmarks.faults import store_crashes, store_session
from benchmarks.faults.shim import KINDS, Shim, compiler

NEEDS_COMPILER = pytest.mark.skipif(compiler() is None, reason="faults in system calls need a C compiler")


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole store of eight finished runs."""
    folder = tmp_path_factory.mktemp("session")
    store_session.live(folder)
    return folder


@pytest.fixture()
def copy(session: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(session, tmp_path / "copy"))


# ---- crashes and full disks


@NEEDS_COMPILER
@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_at_any_operation_leaves_a_store_that_continues(kind: str, tmp_path: Path) -> None:
    points = store_crashes.run([kind], 20, tmp_path)
    assert len(points) >= 8 and not [point for point in points if point.wrong]
    assert sum(point.struck for point in points) >= len(points) - 2, "the fault must strike"


@pytest.mark.slow
@NEEDS_COMPILER
@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_at_every_operation_leaves_a_store_that_continues(kind: str, tmp_path: Path) -> None:
    assert not [point for point in store_crashes.run([kind], 1, tmp_path) if point.wrong]


@NEEDS_COMPILER
def test_the_shim_counts_and_spares_other_folders(tmp_path: Path) -> None:
    shim = Shim.build(tmp_path / "shim")
    assert store_crashes.count_operations(shim, tmp_path) > 100
    with pytest.raises(ValueError, match="no fault"):
        shim.environment(tmp_path, "earthquake", 1)


def test_a_vanished_folder_is_noticed_at_the_next_write(tmp_path: Path) -> None:
    with open_for_driving(tmp_path / "out") as store:
        store.add_runs(store_session.planned())
        shutil.rmtree(tmp_path / "out")
        with pytest.raises(InputError, match="could not be written .*No such file"):
            store.set_meta({"a": 1})
    with open_for_driving(tmp_path / "out") as store:
        shutil.copy(tmp_path / "out" / FILE, tmp_path / "other")
        (tmp_path / "other").replace(tmp_path / "out" / FILE)
        with pytest.raises(InputError, match="another file has taken its place"):
            store.set_meta({"a": 1})


@pytest.mark.parametrize("how", ["removed", "emptied"])
def test_a_store_that_is_gone_is_missed(copy: Path, how: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing else holds results, so the sweep begins anew; but it says so, once, and where there is something to miss."""
    open_for_driving(copy).close()
    for name in (FILE, f"{FILE}-wal", f"{FILE}-shm"):
        (copy / name).unlink(missing_ok=True)
    if how == "emptied":
        (copy / FILE).touch()
    (copy / "checkpoints").mkdir()  # of runs that were finished: empty
    open_for_driving(copy).close()
    assert capsys.readouterr().err == ""
    (copy / FILE).unlink()
    (copy / "logs").mkdir()
    (copy / "logs" / "local-0.log").touch()
    for _ in range(2):
        open_for_driving(copy).close()
    said = capsys.readouterr().err
    assert said.startswith(
        f"warning: {copy / FILE}: the store of an earlier sweep is gone, but its logs are here: runs"
    )
    assert said.count("\n") == 1 and "put back a copy" in said


def test_a_copy_made_while_the_store_is_driven_takes_its_place(tmp_path: Path) -> None:
    store_session.live(tmp_path / "out")
    (tmp_path / "copy").mkdir()
    with open_for_driving(tmp_path / "out"), sqlite3.connect(tmp_path / "copy" / FILE) as copy:
        with sqlite3.connect(tmp_path / "out" / FILE) as driven:
            driven.backup(copy)
    driven.close()
    copy.close()
    assert verify(tmp_path / "copy").checked == {"runs": 8, "attempts": 8, "metrics": 16}
    store_session.live(tmp_path / "copy")  # nothing is left to do
    with open_for_reading(tmp_path / "copy") as store:
        assert len(store.attempts()) == 8 and verify(tmp_path / "copy").whole


def test_a_store_that_is_no_more_readable_gets_one_line(copy: Path) -> None:
    (copy / FILE).write_bytes(b"x" * 100 + (copy / FILE).read_bytes()[100:])
    with pytest.raises(InputError, match="not a readable store .*put back a copy"):
        open_for_driving(copy)
    shown = CliRunner().invoke(app, ["status", str(copy)])
    assert shown.exit_code == 2 and shown.stderr.count("\n") == 1


def test_a_sweep_that_died_before_its_first_plan_is_whole(tmp_path: Path) -> None:
    with open_for_driving(tmp_path) as store:
        assert verify(tmp_path).whole
        store.add_runs(store_session.planned())
    assert verify(tmp_path).problems[0] == "meta: no fingerprint of the data"


# ---- finished runs


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE runs SET result = '{}'",
        "UPDATE runs SET state = 'planned'",
        "DELETE FROM runs",
        "UPDATE runs SET arch = 'x'",
    ],
)
def test_sqlite_itself_refuses_to_touch_a_finished_run(copy: Path, statement: str) -> None:
    with sqlite3.connect(copy / FILE) as db, pytest.raises(sqlite3.IntegrityError, match="a finished run is never"):
        db.execute(statement)
    db.close()
    assert verify(copy).whole


def test_an_attempt_at_a_finished_run_is_refused(copy: Path) -> None:
    digest = store_session.planned()[0]["digest"]
    with open_for_driving(copy) as store, pytest.raises(sqlite3.IntegrityError, match="never rewritten"):
        store.start_attempt(digest, "w", {})
    assert verify(copy).whole, "the attempt goes with its transaction"


def test_a_run_is_never_trained_on_another_config_than_its_name_says(tmp_path: Path) -> None:
    run = store_session.planned()[0]
    with open_for_driving(tmp_path) as store:
        store.add_runs([{**run, "config": run["config"].replace('"batch":4', '"batch":5')}])
        with pytest.raises(InputError, match="is not the one that its name stands for"):
            store.add_runs([run])


# ---- clocks


@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0])
def test_a_clock_that_jumps_changes_no_duration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: float) -> None:
    run, real = store_session.planned()[0], time.time
    with open_for_driving(tmp_path) as store:
        store.add_runs([run])
        store.start_attempt(run["digest"], "w", {})
        monkeypatch.setattr(time, "time", lambda: real() + jump)
        store.end_attempt(run["digest"], "failed", "x")
        (attempt,) = store.attempts()
    assert 0 <= attempt["ended"] - attempt["started"] < 10


def test_nobody_claims_to_know_when_a_killed_attempt_ended(tmp_path: Path) -> None:
    run = store_session.planned()[0]
    with open_for_driving(tmp_path) as store:
        store.add_runs([run])
        store.start_attempt(run["digest"], "w", {})
    with open_for_driving(tmp_path) as store:
        store.reset_interrupted()
        assert [(a["outcome"], a["ended"]) for a in store.attempts()] == [("interrupted", None)]


# ---- verification


def test_a_whole_store_is_whole(session: Path) -> None:
    found = verify(session)
    assert found.whole and found.checked == {"runs": 8, "attempts": 8, "metrics": 16}
    shown = CliRunner().invoke(app, ["status", str(session), "--verify", "--json"])
    assert shown.exit_code == 0 and json.loads(shown.stdout)["whole"] is True


def without_triggers(folder: Path, statement: str, *values: object) -> None:
    """What an editor or a bit flip does: no trigger stands in the way."""
    with sqlite3.connect(folder / FILE) as db:
        db.execute("DROP TRIGGER finished_runs_stay")
        db.execute("DROP TRIGGER finished_runs_remain")
        db.execute(statement, values)
    db.close()


def resealed(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the first run's result and its seal, as somebody would who knows about the seal."""
    with open_for_reading(folder) as store:
        run = store.runs()[0]
        (config,) = store._db.execute("SELECT config FROM runs WHERE digest = ?", (run["digest"],)).fetchone()
    change(run["result"])
    text = json.dumps(run["result"])
    sealed = seal(run["digest"], config, text)
    without_triggers(
        folder, "UPDATE runs SET result = ?, result_sha256 = ? WHERE digest = ?", text, sealed, run["digest"]
    )


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("UPDATE runs SET result = replace(result, '4.', '3.') WHERE position = 0", "does not match its seal"),
        ("UPDATE runs SET result = 'x' WHERE position = 0", "its result does not parse"),
        ("UPDATE runs SET result = NULL WHERE position = 0", "its result does not parse"),
        ("UPDATE runs SET config = replace(config, '\"batch\":4', '\"batch\":8') WHERE position = 0", "are named"),
        ("UPDATE runs SET config = '{}' WHERE position = 0", "its config does not parse"),
        ("UPDATE runs SET config = config || ' ' WHERE position = 0", "not in canonical form"),
        ("UPDATE runs SET arch = 'lstm' WHERE position = 0", "its columns say lstm"),
        ("UPDATE runs SET state = 'planned' WHERE position = 0", "it is planned, but has a result"),
        ("UPDATE runs SET state = 'diverged' WHERE position = 0", "its result says 'done', its row 'diverged'"),
        ("UPDATE runs SET steps = 99 WHERE position = 0", "its result has 100 steps, its plan 99"),
        ("UPDATE attempts SET outcome = 'failed'", "0 attempts report its end, not one"),
        ("DELETE FROM metrics WHERE step = 100", "its metrics end at step 50 of 100"),
        ("UPDATE metrics SET tokens = 1 WHERE step = 100", "its metrics do not advance at step 100"),
        ("UPDATE metrics SET loss = 9e999 WHERE step = 100", "its metrics at step 100 are not finite"),
        ("UPDATE metrics SET step = 101 WHERE step = 100", "its metrics go on to step 101"),
        ("DELETE FROM runs WHERE position = 0", "a row of a run that does not exist"),
        ("DELETE FROM meta WHERE key = 'data'", "no fingerprint of the data"),
    ],
)  # fmt: skip
def test_every_kind_of_damage_is_named(copy: Path, statement: str, problem: str) -> None:
    without_triggers(copy, statement)
    found = verify(copy)
    assert any(problem in line for line in found.problems), found.problems
    shown = CliRunner().invoke(app, ["status", str(copy), "--verify"])
    assert shown.exit_code == 1 and problem in shown.stdout


def test_a_forged_seal_does_not_hide_a_result_that_is_none(copy: Path) -> None:
    resealed(copy, lambda result: result.update(loss=None))
    assert [line.partition(": ")[2] for line in verify(copy).problems] == ["its loss is None"]


def test_bytes_that_sqlite_cannot_read_are_a_finding(copy: Path) -> None:
    data = bytearray((copy / FILE).read_bytes())
    data[4096:8192] = b"\xff" * 4096
    (copy / FILE).write_bytes(data)
    found = verify(copy)
    assert found.problems and "SQLite" in found.problems[0]


def test_a_store_of_schema_2_gets_seals_and_triggers(copy: Path) -> None:
    without_triggers(copy, "ALTER TABLE runs DROP COLUMN result_sha256")
    with sqlite3.connect(copy / FILE) as db:
        db.execute("PRAGMA user_version = 2")
    db.close()
    assert verify(copy).whole, "an older store has no seals to check"
    open_for_driving(copy).close()
    assert verify(copy).whole
    with sqlite3.connect(copy / FILE) as db, pytest.raises(sqlite3.IntegrityError):
        db.execute("DELETE FROM runs")
    db.close()


@pytest.mark.parametrize("column", ["result_sha256", "state", "config", "digest"])
def test_a_column_whose_name_is_damaged_is_a_finding(copy: Path, column: str) -> None:
    with sqlite3.connect(copy / FILE) as db:
        db.executescript("DROP TRIGGER finished_runs_stay; DROP TRIGGER finished_runs_remain; DROP VIEW points;")
        db.execute(f"ALTER TABLE runs RENAME COLUMN {column} TO damaged")
    db.close()
    assert not verify(copy).whole
    shown = CliRunner().invoke(app, ["status", str(copy)])
    assert shown.exit_code in (0, 2) and (shown.exception is None or isinstance(shown.exception, SystemExit))
