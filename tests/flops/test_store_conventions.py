"""The store keeps the vector and every convention; points come in the one that is asked for; older stores are brought up."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from algoprog.cli import app
from algoprog.config import BudgetConfig, InputError
from algoprog.flops import FlopCount
from algoprog.flops.conventions import CONVENTIONS, DEFAULT
from algoprog.models import model_flops
from algoprog.recipes import resolve
from algoprog.scaling import load_runs
from algoprog.sweep import commands
from algoprog.sweep.plan import PlannedRun
from algoprog.sweep.schema import SCHEMA
from algoprog.sweep.store import FILE, open_for_driving, open_for_reading
from algoprog.training.budget import plan_work

RUN = resolve("modern", 16, BudgetConfig(flops=10**10), overrides={"batch": 4})
WORK = plan_work(RUN)
VECTOR = model_flops(RUN.model) * (RUN.batch * WORK.steps)
BY_CONVENTION = {name: flops * RUN.batch * WORK.steps for name, flops in WORK.sequence_flops.items()}
RESULT = {
    "steps": WORK.steps, "tokens": WORK.tokens, "flops": WORK.flops, "loss": 4.5, "seconds": {"train": 1.0}, "epochs": 0.1,
    "flops_vector": VECTOR.as_dict(), "flops_by_convention": BY_CONVENTION,
}  # fmt: skip

# The schema before conventions were kept, as its stores have it.
SCHEMA_1 = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE runs (
    digest TEXT PRIMARY KEY, position INTEGER NOT NULL, arch TEXT NOT NULL, width INTEGER NOT NULL, seed INTEGER NOT NULL,
    config TEXT NOT NULL, params INTEGER NOT NULL, steps INTEGER NOT NULL, tokens INTEGER NOT NULL, flops INTEGER NOT NULL,
    state TEXT NOT NULL, result TEXT
) WITHOUT ROWID;
CREATE VIEW points AS SELECT digest AS run, arch, width, json_extract(result, '$.flops') AS flops,
    json_extract(result, '$.loss') AS loss, 'causal_exact' AS flop_convention, state FROM runs ORDER BY position;
PRAGMA user_version = 1;
"""


def finished(folder: Path, result: dict[str, Any]) -> None:
    row = PlannedRun(RUN, WORK).row("data")
    with open_for_driving(folder) as store:
        store.add_runs([row])
        store.start_attempt(row["digest"], "w", {})
        store.end_attempt(row["digest"], "done", None, result)


def old_store(folder: Path) -> None:
    row = {**PlannedRun(RUN, WORK).row("data"), "position": 0, "state": "done"}
    kept = {name: value for name, value in RESULT.items() if name != "flops_by_convention"}
    with sqlite3.connect(folder / FILE) as db:
        db.executescript(SCHEMA_1)
        names = ", ".join(row)
        marks = ", ".join("?" * len(row))
        db.execute(f"INSERT INTO runs ({names}, result) VALUES ({marks}, ?)", (*row.values(), json.dumps(kept)))
    db.close()


@pytest.mark.parametrize("convention", list(CONVENTIONS))
def test_points_in_every_convention(tmp_path: Path, convention: str) -> None:
    finished(tmp_path, RESULT)
    with open_for_reading(tmp_path) as store:
        (point,) = store.points(convention)
        (default,) = store.points()
    assert point["flops"] == BY_CONVENTION[convention] and point["flop_convention"] == convention
    assert {**point, "flops": 0, "flop_convention": ""} == {**default, "flops": 0, "flop_convention": ""}
    assert default["flops"] == BY_CONVENTION[DEFAULT] == VECTOR.training_total == WORK.flops


def test_the_vector_survives_the_store(tmp_path: Path) -> None:
    finished(tmp_path, RESULT)
    with open_for_reading(tmp_path) as store:
        kept = FlopCount.from_dict(store.runs()[0]["result"]["flops_vector"])
    assert kept.as_dict() == VECTOR.as_dict() and kept.of("attn_scores_full", "recompute") > 0


def test_the_view_has_a_column_per_convention(tmp_path: Path) -> None:
    """Readers that know SQL but not this package choose by column."""
    finished(tmp_path, RESULT)
    with sqlite3.connect(tmp_path / FILE) as db:
        for name, flops in BY_CONVENTION.items():
            assert db.execute(f"SELECT flops_{name} FROM points").fetchone() == (flops,)
    db.close()


def test_export_in_a_convention(tmp_path: Path) -> None:
    finished(tmp_path, RESULT)
    exported = commands.export(tmp_path, "csv", None, "kaplan_6n")
    header, line = (tmp_path / "runs.csv").read_text().splitlines()
    row = dict(zip(header.split(","), line.split(","), strict=True))
    assert exported["flop_convention"] == row["flop_convention"] == "kaplan_6n"
    assert int(row["flops"]) == BY_CONVENTION["kaplan_6n"] and not any(name.startswith("flops_") for name in row)
    with pytest.raises(InputError, match="did you mean 'six_n_total'"):
        commands.export(tmp_path, "csv", None, "6n_total")


def test_an_older_store_reads_as_before_and_is_brought_up_by_its_next_driver(tmp_path: Path) -> None:
    old_store(tmp_path)
    with open_for_reading(tmp_path) as store:
        assert store.points()[0]["flops"] == WORK.flops
        with pytest.raises(InputError, match="keeps FLOPs as causal_exact alone.*start its sweep again"):
            store.points("full_attention")
    open_for_driving(tmp_path).close()
    with open_for_reading(tmp_path) as store:
        assert store._db.execute("PRAGMA user_version").fetchone()[0] == SCHEMA
        assert store.points("full_attention")[0]["flops"] == BY_CONVENTION["full_attention"]
        before = {**RESULT, "flops_by_convention": BY_CONVENTION}
        assert store.runs()[0]["result"] == before


def test_a_crash_while_bringing_up_leaves_the_old_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old_store(tmp_path)
    monkeypatch.setattr("algoprog.sweep.schema._POINTS", "CREATE VIEW points AS SELECT nothing FROM nowhere, (")
    with pytest.raises(InputError, match="could not be"):
        open_for_driving(tmp_path)
    with open_for_reading(tmp_path) as store:
        assert store.points()[0]["flops"] == WORK.flops


def test_budgets_are_spent_to_less_than_a_step() -> None:
    assert WORK.unspent_flops == 10**10 - WORK.flops and 0 <= WORK.unspent_flops < WORK.flops_per_step
    assert plan_work(resolve("lstm", 16, BudgetConfig(tokens=10**5), overrides={"batch": 4})).unspent_flops is None


def test_an_analysis_chooses_a_convention_by_name(tmp_path: Path) -> None:
    finished(tmp_path, RESULT)
    for convention in ("causal_exact", "chinchilla_f"):
        renaming = {} if convention == DEFAULT else {f"flops_{convention}": "flops"}
        assert load_runs(tmp_path, renaming)["flops"].tolist() == [BY_CONVENTION[convention]]
    for command in (["fit"], ["ceg", "--from", "a", "--to", "modern", "--at-flops", "1e9"]):
        result = CliRunner().invoke(app, [*command, str(tmp_path), "--flops", "chinchila_f"])
        assert result.exit_code == 2 and "did you mean --map flops_chinchilla_f=flops" in result.stderr
