"""Predictions, learning-rate searches, ablations, failures and throughput on the page."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from algoprog.report import content_extras, throughput
from algoprog.report.figure_ablations import ablations_figure, ablations_of
from algoprog.report.figure_predictions import predictions_figure, relative
from algoprog.report.figure_rates import MOST, rates_figure, shown_of
from algoprog.report.page import Written
from algoprog.report.record import Record, read_record
from algoprog.report.searches import Extras, extras
from algoprog.report.style import looks
from algoprog.scaling import InputError

BEST_RATE, CURVATURE = 0.0116, 0.15  # of the fixture's runs


@pytest.fixture(scope="module")
def record(searched: Path) -> Record:
    return read_record(searched)


@pytest.fixture(scope="module")
def found(searched_report: Written, record: Record) -> Extras:
    return extras(searched_report.analysis, record)


def marked(figure: Figure, name: str) -> list[Line2D]:
    return [line for line in figure.findobj(Line2D) if line.get_gid() == name]


def test_every_search_finds_the_known_optimum(found: Extras) -> None:
    assert len(found.optima) == 4 * 5
    inside = [one.interval is not None and one.interval[0] <= BEST_RATE <= one.interval[1] for one in found.optima]
    assert {one.state for one in found.optima} == {"found"}
    assert np.mean(inside) >= 0.8
    assert np.median([one.curvature for one in found.optima if one.curvature]) == pytest.approx(CURVATURE, rel=0.1)


def test_a_run_that_diverged_is_part_of_its_search(found: Extras) -> None:
    [search] = [one for one in found.optima if len(one.rates) == 6]
    assert search.arch == "modern" and search.rates[-1] == 0.056 and search.losses[-1] == float("inf")


def test_rates_are_drawn_with_parabola_optimum_and_what_diverged(found: Extras) -> None:
    look = looks(one.arch for one in found.optima)
    figure = rates_figure(found.optima, look)
    shown = shown_of(found.optima)
    assert len(figure.axes) == len(shown) == MOST
    left_out = [one for one in found.optima if one not in shown]
    assert len(left_out) == 2 and max(one.flops for one in left_out) <= min(one.flops for one in shown)
    optimum = [float(line.get_xdata()[0]) for line in marked(figure, "optimum")]  # type: ignore[index]
    assert optimum == [one.rate for one in shown]
    assert len(marked(figure, "diverged")) == 1 and len(marked(figure, "parabola")) == MOST
    edge = replace(
        found.optima[0], state="edge", rate=None, interval=None, curvature=None, left=None, left_interval=None
    )
    bare = rates_figure([edge], look)
    assert (
        not marked(bare, "optimum") and not marked(bare, "parabola") and ": edge" in bare.axes[0].get_title(loc="left")
    )
    with pytest.raises(InputError, match="no learning-rate search"):
        rates_figure([], look)


def test_predictions_are_drawn_beside_what_came(found: Extras) -> None:
    figure = predictions_figure(found.checks)
    assert [check.inside for check in found.checks] == [True, False, None]
    measured = marked(figure, "measured")
    assert [float(line.get_xdata()[0]) for line in measured] == [  # type: ignore[index]
        relative(check.measured, check) for check in found.checks if check.measured is not None
    ]
    assert [line.get_marker() for line in measured] == ["o", "X"]
    assert len(marked(figure, "interval")) == 3
    assert "not run yet" in [label.get_text() for label in figure.axes[0].get_yticklabels()][-1]
    table = content_extras.predictions_table(found.checks, {})
    assert "1 of 2 measured losses are inside" in table.caption
    assert [row[-1].text for row in table.rows] == ["yes", "no", "–"]
    with pytest.raises(InputError, match="no prediction"):
        predictions_figure([])


def test_ablations_are_ordered_bars_with_intervals(found: Extras, searched_report: Written) -> None:
    assert [pair.a for pair in found.ablations] == ["post-norm", "gelu", "<b>x</b>"]
    figure = ablations_figure(searched_report.analysis, found.ablations)
    gains = [pair.at_largest for pair in found.ablations]
    bars = [patch for patch in figure.findobj(Rectangle) if patch.get_gid() == "bar"]
    assert [bar.get_x() + bar.get_width() for bar in bars] == pytest.approx([g.gain for g in gains if g])
    drawn = [tuple(line.get_xdata()) for line in marked(figure, "interval")]  # type: ignore[arg-type]
    assert drawn == [gain.interval for gain in gains if gain]
    none = [replace(found.ablations[0], at_largest=None), *found.ablations[1:]]
    assert len(marked(ablations_figure(searched_report.analysis, none), "none")) == 1
    assert not figure.findobj(PolyCollection)
    with pytest.raises(InputError, match="no ablation"):
        ablations_figure(searched_report.analysis, [])


def test_few_pairs_are_no_ablation(searched_report: Written) -> None:
    assert ablations_of(searched_report.analysis, [("gelu", "modern"), ("post-norm", "modern")]) == ()
    assert ablations_of(searched_report.analysis, []) == ()


def test_states_failures_and_speed_are_told(record: Record) -> None:
    look = looks(run["arch"] for run in record.runs)
    states = throughput.states_table(record, look)
    assert sum(int(cell.value or 0) for row in states.rows for cell in row[1:]) == len(record.runs)
    [failure] = throughput.failures_table(record).rows
    assert [cell.text for cell in failure] == ["wild", "modern", "diverged", "the loss is not finite at step 7"]
    for row in throughput.throughput_table(record, look).rows:
        assert row[1].value == 30 and row[2].value == pytest.approx(409_600 / 20.0) and row[4].value == 600
    assert "runs per hour" in throughput.rate_sentence(record)
    nothing = Record(runs=record.runs, curves=[], attempts=[], meta={})
    assert "no rate" in throughput.rate_sentence(nothing)


def test_the_page_has_the_sections(searched_report: Written) -> None:
    html = searched_report.page.read_text()
    for title in ("Explore", "Ablations", "Predictions", "Learning-rate searches", "Runs and failures", "Throughput"):
        assert re.search(f"<h2[^>]*>{title}</h2>", html), title
    names = {path.stem for path in searched_report.figures}
    assert {"predictions", "rates", "ablations"} <= names
    assert "<b>x</b>" not in html


def test_predictions_that_could_not_be_made_are_told(searched_report: Written, record: Record) -> None:
    meta = {"predictions": {"predictions": [], "problem": "three runs are too few"}}
    told = extras(searched_report.analysis, replace(record, meta=meta))
    assert told.checks == () and told.problem == "three runs are too few"
    odd = extras(searched_report.analysis, replace(record, meta={"predictions": json.loads("[1]")}))
    assert odd.checks == () and odd.problem == ""
