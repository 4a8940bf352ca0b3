"""Figures: what is solid was measured, what is dashed was not, and every text can be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from algoprog.report.figures import exponents_figure, gain_figure, loss_figure, render_pdf, render_png
from algoprog.report.page import Written
from algoprog.report.style import KNOWN, looks, power_of_ten, ratio_ticks
from algoprog.scaling import Analysis, InputError, analyse, gain_at_flops, load_runs
from algoprog.sweep.store import open_for_reading

BASELINES = {"uniform": 6.93, "unigram": 5.0, "bigram": 3.80}


@pytest.fixture(scope="module")
def analysis(report: Written) -> Analysis:
    return report.analysis


@pytest.fixture(scope="module")
def curves(demo: Path) -> list[dict[str, object]]:
    with open_for_reading(demo) as store:
        return store.curves()


def lines(figure: Figure, name: str) -> list[Line2D]:
    return [line for line in figure.findobj(Line2D) if line.get_gid() == name]


def pairs(analysis: Analysis) -> list[tuple[str, str]]:
    return [(pair.a, pair.b) for pair in analysis.gains]


def crowd(analysis: Analysis) -> Analysis:
    """Six architectures, and so fifteen pairs in two columns."""
    twins = analysis.points.assign(arch=analysis.points["arch"] + "-2", run=analysis.points["run"] + "-2")
    twins["loss"] *= 1.002
    return analyse(pd.concat([analysis.points, twins], ignore_index=True), draws=20)


def draw_all(analysis: Analysis, curves: list[dict[str, object]]) -> Iterator[Figure]:
    yield loss_figure(analysis, curves, BASELINES)
    yield gain_figure(analysis, pairs(analysis))
    yield gain_figure(analysis, pairs(analysis)[:1])
    yield exponents_figure(analysis)
    many = crowd(analysis)
    yield loss_figure(many, [], BASELINES)
    yield gain_figure(many, pairs(many))
    yield exponents_figure(many)


@pytest.fixture(scope="module")
def drawn(analysis: Analysis, curves: list[dict[str, object]]) -> list[Figure]:
    """Every kind of figure, with few and with many architectures, laid out."""
    figures = list(draw_all(analysis, curves))
    for figure in figures:
        figure.draw_without_rendering()
    return figures


def test_gain_is_solid_exactly_where_both_sides_have_data(analysis: Analysis) -> None:
    figure = gain_figure(analysis, pairs(analysis))
    assert len(figure.axes) == len(analysis.gains) == 3
    for (old, new), axes in zip(pairs(analysis), figure.axes, strict=True):
        solid, *rest = [line for line in axes.get_lines() if line.get_gid() == "in-range"]
        assert not rest and solid.get_linestyle() == "-"
        for x, y in zip(*solid.get_data(), strict=True):
            gain = gain_at_flops(analysis.fit, old, new, float(x))
            assert gain.in_range and y == pytest.approx(gain.gain)
        dashed = [line for line in axes.get_lines() if line.get_gid() == "extrapolated"]
        assert len(dashed) == 2 and all(line.is_dashed() for line in dashed)
        for line in dashed:
            gains = [gain_at_flops(analysis.fit, old, new, float(x)) for x in line.get_xdata()]
            # All but the end that is shared with the solid part lie outside, by a decade at most.
            assert sum(gain.in_range for gain in gains) == 1
            assert max(gain.decades_beyond for gain in gains) == pytest.approx(1.0)


def test_solid_part_ends_at_the_largest_gain_in_range(analysis: Analysis) -> None:
    figure = gain_figure(analysis, pairs(analysis))
    for pair, solid in zip(analysis.gains, lines(figure, "in-range"), strict=True):
        assert pair.at_largest is not None
        assert solid.get_xdata()[-1] == pytest.approx(pair.at_largest.flops)
        assert solid.get_ydata()[-1] == pytest.approx(pair.at_largest.gain)


def test_gain_figure_holds_a_line_at_one_and_bands_of_the_stated_level(analysis: Analysis) -> None:
    figure = gain_figure(analysis, pairs(analysis)[:1])
    (equal,) = lines(figure, "equal")
    assert list(equal.get_ydata()) == [1.0, 1.0]
    low, high = figure.axes[0].get_ylim()
    assert low < 1.0 < high
    largest = analysis.gains[0].at_largest
    assert largest is not None and largest.interval is not None
    corners = np.concatenate([band.get_paths()[0].vertices for band in figure.axes[0].collections])
    at_end = corners[np.isclose(corners[:, 0], largest.flops)][:, 1]
    assert at_end.min() == pytest.approx(largest.interval[0]) and at_end.max() == pytest.approx(largest.interval[1])


def test_gain_legend_tells_extrapolation(analysis: Analysis) -> None:
    told = " ".join(text.get_text() for text in gain_figure(analysis, pairs(analysis)).legends[0].get_texts())
    assert "95 %" in told and "inside their own data" in told and "extrapolated by at most one decade" in told


def test_architectures_far_apart_are_not_compared(analysis: Analysis) -> None:
    """No loss is shared, not even with a decade more compute: nothing is drawn but the sentence."""
    worse = np.where(analysis.points["arch"] == "lstm", 3.0, 1.0)
    far = analyse(analysis.points.assign(loss=worse * analysis.points["loss"]), draws=50)
    figure = gain_figure(far, [("lstm", "modern")])
    assert not lines(figure, "in-range") and not lines(figure, "extrapolated")
    assert "no gain shown" in figure.axes[0].texts[0].get_text()
    render_png(figure)


def test_no_pair_and_no_law_are_refused(analysis: Analysis) -> None:
    with pytest.raises(InputError, match="no pair"):
        gain_figure(analysis, [])
    with pytest.raises(InputError, match="mamba"):
        gain_figure(analysis, [("lstm", "mamba")])


def test_laws_are_solid_where_fitted_and_dashed_outside(analysis: Analysis, curves: list[dict[str, object]]) -> None:
    figure = loss_figure(analysis, curves, BASELINES)
    for arch in analysis.fit.archs:
        (fitted,) = lines(figure, f"law-{arch}-fitted")
        first, last = analysis.fit.flops_range[arch]
        assert fitted.get_linestyle() == "-"
        assert (fitted.get_xdata()[0], fitted.get_xdata()[-1]) == pytest.approx((first, last))
        assert fitted.get_ydata() == pytest.approx(analysis.fit.laws[arch].loss(np.asarray(fitted.get_xdata())))
        before, after = lines(figure, f"law-{arch}-extrapolated")
        assert before.is_dashed() and before.get_xdata()[-1] == pytest.approx(first)
        assert after.is_dashed() and after.get_xdata()[0] == pytest.approx(last)
        assert after.get_xdata()[-1] <= last * 10 * (1 + 1e-9)


def test_frontier_points_are_filled_and_others_hollow(analysis: Analysis, curves: list[dict[str, object]]) -> None:
    figure = loss_figure(analysis, curves, BASELINES)
    for arch in analysis.fit.archs:
        (frontier,), (others,) = lines(figure, f"frontier-{arch}"), lines(figure, f"other-{arch}")
        chosen = analysis.frontier[analysis.frontier["arch"] == arch]
        assert list(frontier.get_ydata()) == list(chosen["loss"])
        assert to_hex(frontier.get_markerfacecolor()) == KNOWN[arch].colour.lower()
        assert to_hex(others.get_markerfacecolor()) == "#ffffff"
        assert len(frontier.get_xdata()) + len(others.get_xdata()) == sum(analysis.points["arch"] == arch)


def test_only_baselines_near_the_data_are_drawn(analysis: Analysis, curves: list[dict[str, object]]) -> None:
    near = loss_figure(analysis, curves, BASELINES)
    assert len(lines(near, "baseline-bigram")) == len(lines(near, "baseline-unigram")) == 1
    told = [text.get_text() for text in near.axes[0].texts]
    assert told == ["unigram 5.00", "bigram 3.80"]
    far = loss_figure(analysis, curves, {"unigram": 9.0})
    assert not lines(far, "baseline-unigram") and far.axes[0].get_ylim()[1] < 9.0


def test_exponents_sit_on_their_numbers(analysis: Analysis) -> None:
    above, below = exponents_figure(analysis).axes
    dots = [line for line in above.get_lines() if line.get_gid() == "value"]
    bars = [line for line in above.get_lines() if line.get_gid() == "interval"]
    for row, dot, bar in zip(analysis.laws, dots, bars, strict=True):
        assert list(dot.get_xdata()) == [row.law.alpha]
        assert tuple(bar.get_xdata()) == row.alpha
        assert above.get_yticklabels()[int(dot.get_ydata()[0])].get_text() == row.arch
    (shared,) = [line for line in below.get_lines() if line.get_gid() == "value"]
    assert list(shared.get_xdata()) == [analysis.fit.E]


def test_every_text_lies_inside_the_figure(drawn: list[Figure]) -> None:
    for figure in drawn:
        frame = figure.bbox
        for text in figure.findobj(Text):
            if not text.get_text().strip() or not text.get_visible() or text in idle_ticks(figure):
                continue
            box = text.get_window_extent()
            assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= frame.x1 + 1 and box.y1 <= frame.y1 + 1, text.get_text()


def idle_ticks(figure: Figure) -> set[Text]:
    """Labels that matplotlib keeps for ticks outside the view and never draws."""
    return {
        label
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for tick in axis.get_major_ticks()
        for label in (tick.label1, tick.label2)
        if not min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval())
    }


def test_texts_do_not_overlap(drawn: list[Figure]) -> None:
    for figure in drawn:
        idle = idle_ticks(figure)
        texts = [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]
        boxes = [(text.get_text(), text.get_window_extent()) for text in texts if text not in idle]
        assert len(boxes) > 8
        for i, (name, box) in enumerate(boxes):
            assert not [other for other, rival in boxes[i + 1 :] if box.overlaps(rival)], name


def test_a_name_with_dollar_signs_is_no_formula(build: Callable[..., Path]) -> None:
    analysis = analyse(load_runs(build(archs=("modern", r"$\frac{$"))), draws=50)
    render_png(loss_figure(analysis, [], {}))
    render_pdf(gain_figure(analysis, pairs(analysis)))


def test_a_matplotlibrc_changes_nothing(analysis: Analysis) -> None:
    plain = render_png(exponents_figure(analysis))
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        assert render_png(exponents_figure(analysis)) == plain
        assert matplotlib.rcParams["font.size"] == 30  # and we leave the caller's settings alone


def test_equal_figures_give_equal_pdf_files(analysis: Analysis) -> None:
    assert render_pdf(exponents_figure(analysis)) == render_pdf(exponents_figure(analysis))


def test_looks_are_fixed_for_known_architectures_and_unique_for_others() -> None:
    names = [f"arch{i}" for i in range(40)]
    found = looks(["modern", *names], more=["aaa"])
    assert found["modern"] == KNOWN["modern"] == looks(["modern", "lstm"])["modern"]
    assert len(set(found.values())) == len(found) == 42
    assert {name: found[name] for name in names} == {name: looks(names)[name] for name in names}


def test_ticks_are_round_numbers_inside_the_range() -> None:
    for low, high in ((0.97, 1.2), (0.5, 3.0), (0.01, 1e6), (1.0, 40.0)):
        ticks = ratio_ticks(low, high)
        assert 3 <= len(ticks) <= 9 and all(low <= tick <= high for tick in ticks)
        assert np.diff(np.log(ticks)).min() >= np.log(high / low) / 8 * 0.999
        assert 1 in ticks or not low <= 1 <= high


def test_powers_of_ten_are_written_out() -> None:
    assert power_of_ten(1e12) == "10¹²" and power_of_ten(1e-3) == "10⁻³" and power_of_ten(2e11) == "2e11"
