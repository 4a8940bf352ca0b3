"""The store: durable, single-writer, versioned."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from algoprog.config import BudgetConfig, InputError
from algoprog.recipes import resolve
from algoprog.sweep.plan import PlannedRun
from algoprog.sweep.schema import SCHEMA
from algoprog.sweep.store import FILE, Store, open_for_driving, open_for_reading
from algoprog.training.budget import plan_work


def planned(width: int = 16, seed: int = 0) -> dict[str, Any]:
    config = resolve("modern", width, BudgetConfig(flops=10**10), seed=seed, overrides={"batch": 4})
    return PlannedRun(config, plan_work(config)).row("data")


RESULT = {"tokens": 10, "flops": 20, "loss": 4.5, "bits_per_byte": 2.0, "seconds": {"train": 1.5}, "epochs": 0.1}
ROW = {"step": 1, "tokens": 5, "flops": 7, "loss": 5.0, "grad_norm": 1.0, "lr": 0.1}


@pytest.fixture()
def store(tmp_path: Path) -> Iterator[Store]:
    with open_for_driving(tmp_path) as store:
        yield store


def test_life_of_a_run(store: Store, tmp_path: Path) -> None:
    run = planned()
    store.add_runs([run, planned(32)])
    store.start_attempt(run["digest"], "w", {"torch": "x"})
    store.add_metrics(run["digest"], [ROW, {**ROW, "step": 2}])
    store.add_metrics(run["digest"], [{**ROW, "step": 2, "loss": 4.0}])
    assert [r["state"] for r in store.runs()] == ["running", "planned"]
    store.end_attempt(run["digest"], "done", None, RESULT)
    with open_for_reading(tmp_path) as reader:
        (point,) = reader.points()
        assert (
            point["run"] == run["digest"] and point["loss"] == 4.5 and point["seconds"] == 1.5 and point["depth"] == 1
        )
        assert point["flop_convention"] == "causal_exact" and point["state"] == "done"
        assert [(c["step"], c["loss"]) for c in reader.curves()] == [(1, 5.0), (2, 4.0)]
        assert reader.attempts()[0]["provenance"] == {"torch": "x"}


def test_finished_runs_are_never_rewritten(store: Store) -> None:
    run = planned()
    store.add_runs([run])
    store.start_attempt(run["digest"], "w", {})
    store.end_attempt(run["digest"], "done", None, RESULT)
    store.add_runs([run])
    store.reset_interrupted()
    store.end_attempt(run["digest"], "failed", "late message", None)
    assert store.points()[0]["loss"] == 4.5 and store.runs()[0]["state"] == "done"


def test_interrupted_and_failed_runs_are_planned_again(store: Store) -> None:
    for seed, outcome in enumerate([None, "failed", "retry", "interrupted", "diverged"]):
        run = planned(seed=seed)
        store.add_runs([run])
        store.start_attempt(run["digest"], "w", {})
        if outcome:
            store.end_attempt(run["digest"], outcome, "why")
    store.reset_interrupted()
    assert [run["state"] for run in store.runs()] == ["planned"] * 4 + ["diverged"]
    assert store.attempts()[0]["outcome"] == "interrupted"


def test_diverged_runs_have_no_number(store: Store) -> None:
    run = planned()
    store.add_runs([run])
    store.start_attempt(run["digest"], "w", {})
    store.end_attempt(run["digest"], "diverged", "not finite", {**RESULT, "loss": None})
    assert store.points()[0]["loss"] is None
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.end_attempt(run["digest"], "done", None, {**RESULT, "loss": float("nan")})


def test_second_driver_is_refused_with_the_holders_name(store: Store, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a live sweep holds this store.*pid"):
        open_for_driving(tmp_path)
    with open_for_reading(tmp_path) as reader:
        assert reader.runs() == []


def test_lock_goes_with_the_driver(tmp_path: Path) -> None:
    open_for_driving(tmp_path).close()
    open_for_driving(tmp_path).close()


@pytest.mark.parametrize("opener", [open_for_driving, open_for_reading])
def test_newer_schema_and_foreign_files(tmp_path: Path, opener: Any) -> None:
    open_for_driving(tmp_path).close()
    with sqlite3.connect(tmp_path / FILE) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    db.close()
    with pytest.raises(InputError, match=f"newer algoprog; got 'schema {SCHEMA + 1}'"):
        opener(tmp_path)
    (tmp_path / FILE).write_bytes(b"not a database at all" * 100)
    with pytest.raises(InputError, match="not a readable store"):
        opener(tmp_path)


def test_no_store_and_unwritable_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no store here"):
        open_for_reading(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        open_for_driving(tmp_path / "file" / "sub")


def test_disk_full_loses_nothing(store: Store) -> None:
    """A page limit makes SQLite report a full disk."""
    store.add_runs([planned()])
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(InputError, match="could not be written .*full.*free some disk space"):
        store.add_runs([planned(seed=seed) for seed in range(1, 200)])
    assert len(store.runs()) == 1
    store._db.execute("PRAGMA max_page_count = 100000")
    store.add_runs([planned(seed=7)])
    assert len(store.runs()) == 2
