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
from algoprog.report.ablations import Ablation, ablations_of, sorted_ablations
from algoprog.report.figure_ablations import ablations_figure
from algoprog.report.figure_data import _ablations
from algoprog.report.figure_predictions import predictions_figure, relative
from algoprog.report.figure_rates import MOST, rates_figure, shown_of
from algoprog.report.numbers import with_interval
from algoprog.report.page import Written
from algoprog.report.record import Record, read_record
from algoprog.report.searches import Extras, extras, optima_of
from algoprog.report.style import looks
from algoprog.scaling import InputError, PowerLaw
from algoprog.scaling.interactions.result import RateSearches

BEST_RATE, CURVATURE = 0.0116, 0.15  # of the fixture's runs
MODERN = PowerLaw(2.0, 1.3, 0.16, 1e11)
WORSE = {"post-norm": 1.03, "gelu": 1.012, "<b>x</b>": 1.005}  # loss over that of modern
COMPARE = [(name, "modern") for name in WORSE]


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


def test_trials_over_many_settings_are_no_search_of_the_rate(record: Record) -> None:
    tuned = {"arch": ["gelu"], "width": sorted({run["width"] for run in record.runs}), "tune": {"trials": 24}}
    sweep = {**record.meta["sweep"], "grids": [{"arch": ["modern"], "width": [16], "tune": None}, tuned]}
    left, every = optima_of(replace(record, meta={**record.meta, "sweep": sweep})), optima_of(record)
    assert [(one.arch, one.flops, one.rate) for one in left] == [
        (one.arch, one.flops, one.rate) for one in every if one.arch != "gelu"
    ]
    assert 0 < len(left) < len(every)


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


def test_ablations_are_ordered_bars_of_repeats_over_lines_of_laws(found: Extras) -> None:
    assert [one.old for one in found.ablations] == list(WORSE)
    figure = ablations_figure(found.ablations, 0.95)
    bars = [patch for patch in figure.findobj(Rectangle) if patch.get_gid() == "bar"]
    assert [bar.get_x() + bar.get_width() for bar in bars] == pytest.approx(
        [one.matched.gain for one in found.ablations]
    )
    drawn = [tuple(line.get_xdata()) for line in marked(figure, "interval")]  # type: ignore[arg-type]
    assert drawn == [one.matched.interval for one in found.ablations]
    laws = [one.by_laws for one in found.ablations if one.by_laws is not None]
    assert len(laws) == 3
    assert [float(line.get_xdata()[0]) for line in marked(figure, "by laws")] == [gain.gain for gain in laws]  # type: ignore[index]
    below = [tuple(line.get_xdata()) for line in marked(figure, "interval by laws")]  # type: ignore[arg-type]
    assert below == [gain.interval for gain in laws]
    keys = [text.get_text() for text in figure.legends[0].get_texts()]
    assert keys[0] == "repeated runs at 2.5e12 FLOPs" and keys[1].startswith("laws of both") and len(keys) == 2
    assert not figure.findobj(PolyCollection)
    with pytest.raises(InputError, match="no ablation"):
        ablations_figure([], 0.95)


def test_ablations_by_repeats_are_near_the_truth(found: Extras) -> None:
    """The loss of modern times a factor is reached by the true law at so many times less compute."""
    for one in found.ablations:
        assert one.matched.repeats == (2, 2) and one.matched.flops is not None and one.matched.interval is not None
        truth = one.matched.flops / MODERN.compute(MODERN.loss(one.matched.flops) * WORSE[one.old])
        assert one.matched.interval[0] < truth < one.matched.interval[1]


def without_repeats(one: Ablation) -> Ablation:
    lost = replace(one.matched, gain=None, interval=None, repeats=(1, 2), rates=None, reason="1 run of it")
    return replace(one, matched=lost)


def test_an_ablation_without_repeats_is_one_by_laws_and_says_so(found: Extras) -> None:
    first, second, third = found.ablations
    lost = sorted_ablations([first, without_repeats(second), replace(without_repeats(third), by_laws=None)])
    assert [one.bar is None for one in lost] == [False, False, True] and lost[-1].old == third.old
    figure = ablations_figure(lost, 0.95)
    told = [label.get_text() for axes in figure.axes[0].child_axes for label in axes.get_yticklabels()]
    assert [text.endswith(", laws") for text in told] == [False, True, False] and told[-1] == "no gain"
    assert len(marked(figure, "none")) == 1 and len(marked(figure, "by laws")) == 1
    keys = [text.get_text().split(":")[0] for text in figure.legends[0].get_texts()]
    assert keys == ["repeated runs at 2.5e12 FLOPs", "without repeats", "laws of both, at the largest compute in range"]
    assert f"Pale bars ({second.old}) are gains by the laws" in content_extras.ablations_told(lost, 0.95)
    alone = content_extras.ablations_told([without_repeats(one) for one in found.ablations], 0.95)
    assert "Pale bars are gains by the laws" in alone and "repeated runs" not in alone
    nothing = [replace(without_repeats(one), by_laws=None) for one in found.ablations]
    assert not ablations_figure(nothing, 0.95).legends


def test_the_order_is_by_the_bar_and_not_by_the_laws(found: Extras) -> None:
    first, second, third = found.ablations
    assert second.by_laws is not None
    other = replace(second, by_laws=replace(second.by_laws, gain=100.0))
    assert [one.old for one in sorted_ablations([third, other, first])] == [first.old, second.old, third.old]


def test_the_table_of_ablations_has_both_gains(found: Extras) -> None:
    look = looks([*WORSE, "modern"])
    first, second, third = found.ablations
    beyond = replace(third, matched=replace(third.matched, decades_beyond=0.3))
    grid = content_extras.ablations_table([first, without_repeats(second), beyond], look, 0.95)
    rows = [[cell.text for cell in row] for row in grid.rows]
    assert all(len(row) == len(grid.columns) for row in rows)
    assert first.matched.gain is not None and first.by_laws is not None
    assert rows[0][1] == with_interval(first.matched.gain, first.matched.interval) and rows[0][2] == "2 and 2"
    assert rows[0][5] == with_interval(first.by_laws.gain, first.by_laws.interval)
    assert rows[1][1] == "none: 1 run of it" and rows[1][4] == "–"
    assert rows[2][1].endswith("law extrapolated by 0.30 decades")
    rates = RateSearches(2, 2, 0.0, first.matched.rates.at_optimal if first.matched.rates else {})
    for lost, told in ((2, "not known"), (1, ", 1 of 2 searches")):
        one = replace(first, matched=replace(first.matched, rates=replace(rates, without_optimum=lost)))
        assert content_extras.ablations_table([one], look, 0.95).rows[0][7].text.endswith(told)


def test_few_pairs_are_no_ablation(searched_report: Written) -> None:
    analysis = searched_report.analysis
    assert ablations_of(analysis, [("gelu", "modern"), ("post-norm", "modern")]) == ()
    assert ablations_of(analysis, []) == ()
    assert ablations_of(analysis, [("a", "none"), ("b", "none"), ("c", "none")]) == ()
    planned = ablations_of(analysis, [("gelu", "modern"), ("post-norm", "modern"), ("not-run-yet", "modern")])
    assert [one.old for one in planned] == ["post-norm", "gelu"]


def test_an_ablation_needs_no_law_of_its_own(searched_report: Written) -> None:
    """A pair that could not be compared by laws, as with a single budget, is compared by repeats."""
    analysis = replace(searched_report.analysis, gains=searched_report.analysis.gains[1:])
    found = {one.old: one for one in ablations_of(analysis, COMPARE)}
    lone = found[searched_report.analysis.gains[0].a]
    assert lone.by_laws is None and lone.bar is not None and not lone.bar.by_laws


def test_ablations_as_csv(found: Extras) -> None:
    rows = list(_ablations(found))
    assert [row["series"] for row in rows] == ["repeats at one budget", "laws of both"] * 3
    first = found.ablations[0]
    assert first.by_laws is not None
    assert (rows[0]["gain"], rows[0]["low"], rows[0]["high"]) == (first.matched.gain, *(first.matched.interval or ()))
    assert (rows[1]["gain"], rows[1]["flops"]) == (first.by_laws.gain, first.by_laws.flops_b)


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
