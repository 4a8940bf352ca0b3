"""The page says what the figures say, and figures have a fixed shape."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.faults import page
from benchmarks.faults.rows import FIELDS, bound_text, failure_bound, read_rows, write_row

GOOD = {"name": "x", "figure": "f", "target": "t", "measured": "0 of 60", "met": True, "n": 60, "command": "c"}


def test_the_page_is_made_from_the_figures() -> None:
    assert page.PAGE.read_text(encoding="utf-8") == page.render(read_rows()), "run: python benchmarks/faults/page.py"


def test_every_figure_names_a_command_that_exists() -> None:
    for row in read_rows():
        script = next((word for word in row["command"].split() if word.endswith(".py")), None)
        assert row["command"].startswith("make ") or (script and (page.ROOT / script).is_file()), row["name"]
        assert row["provenance"]["date"] and row["provenance"]["versions"]["python"]


def test_rows_are_whole_and_replace_each_other(tmp_path: Path) -> None:
    for failures in (3, 0):
        path = write_row(**GOOD, failures=failures, folder=tmp_path)
    (row,) = read_rows(tmp_path)
    assert path.name == "x.json" and set(row) == set(FIELDS) and row["failures"] == 0
    assert row["spread"] == "failure rate below 4.9 % (95 %, Clopper-Pearson)"


def test_a_time_needs_a_spread_and_a_figure_cases(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs its spread"):
        write_row(**GOOD, folder=tmp_path)
    with pytest.raises(ValueError, match="at least one case"):
        write_row(**{**GOOD, "n": 0}, failures=0, folder=tmp_path)
    (tmp_path / "y.json").write_text(json.dumps({"name": "y"}))
    with pytest.raises(ValueError, match="y: no figure"):
        read_rows(tmp_path)


def test_the_bound_is_the_exact_one() -> None:
    assert failure_bound(0, 200) == pytest.approx(1 - 0.05 ** (1 / 200))
    assert failure_bound(5, 5) == 1.0 and failure_bound(1, 100) > failure_bound(0, 100)
    assert bound_text(0, 1000).startswith("failure rate below 0.3 %")


def test_a_missed_target_says_so() -> None:
    (row,) = [{**GOOD, "met": False, "spread": "s", "failures": 1, "provenance": read_rows()[0]["provenance"]}]
    assert "| not met |" in page.render([row])
