"""What the terminal shows."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from algoprog.report import tables
from algoprog.report.numbers import with_interval
from algoprog.report.page import Written
from algoprog.scaling import analyse, load_runs


def plain(text: str) -> str:
    return " ".join(text.replace("│", " ").split())


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")


def test_laws_show_intervals_and_warnings(report: Written, capsys: pytest.CaptureFixture[str]) -> None:
    tables.print_laws(report.analysis)
    shown = plain(capsys.readouterr().out)
    for row in report.analysis.laws:
        assert f"{row.arch} {with_interval(row.law.alpha, row.alpha)} 4 of 12 runs" in shown
    for warning in report.analysis.warnings:
        assert f"warning: {warning}" in shown


def test_gain_shows_whether_it_is_in_range(report: Written, capsys: pytest.CaptureFixture[str]) -> None:
    for gain in (report.analysis.gains[0].at_largest, report.analysis.gains[0].at_centre):
        assert gain is not None
        tables.print_gain(gain)
        shown = plain(capsys.readouterr().out)
        assert f"gain {with_interval(gain.gain, gain.interval)}" in shown
        assert ("in range yes" in shown) == gain.in_range
        assert ("decades beyond" in shown) != gain.in_range


def test_quickstart_ends_with_the_page(report: Written, capsys: pytest.CaptureFixture[str]) -> None:
    result = SimpleNamespace(
        analysis=report.analysis,
        report=report,
        summary=SimpleNamespace(planned=38, executed=37, states={"done": 36, "diverged": 1, "planned": 1}),
        seconds={"data": 1.0, "sweep": 300.0, "total": 301.0},
        baselines={"uniform": 6.93, "unigram": 5.95, "bigram": 3.80},
    )
    tables.print_quickstart(result)
    shown = capsys.readouterr().out
    assert shown.rstrip().splitlines()[-1] == f"report: {report.page}"
    assert "38 runs planned, 37 executed now: 1 diverged, 36 done, 1 planned" in shown
    assert "sweep 5.0 min" in shown
    best = report.analysis.points.groupby("arch")["loss"].min()
    for arch, loss in best.items():
        assert f"{arch} {loss:.3f} {tables.digits(3.80 - loss)} {tables.digits(5.95 - loss)}" in plain(shown)
    assert "modern over lstm" in shown and "in range" in shown
    for note in report.notes:
        assert f"warning: {note}" in shown


def test_no_law_prints_the_reason_and_no_table(build: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert callable(build)
    folder: Path = build(budgets=(1e11,))
    tables.print_laws(analyse(load_runs(folder), draws=50))
    shown = capsys.readouterr().out
    assert "No law could be fitted" in shown and "exponent" not in shown


def test_names_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    tables.print_mapping("title", {"[red]name": "[/red] value"})
    shown = capsys.readouterr().out
    assert "[red]name" in shown and "[/red] value" in shown
