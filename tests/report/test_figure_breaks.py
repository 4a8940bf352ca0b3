"""Figures of break tests, of predictions and of power: what they draw is what was found, and every text can be read."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from algoprog.report.figure_breaks import break_figure
from algoprog.report.figure_extrapolation import extrapolation_figure
from algoprog.report.figure_power import power_figure
from algoprog.scaling.breakpoints.breaks import break_test
from algoprog.scaling.breakpoints.extrapolation import extrapolate
from algoprog.scaling.breakpoints.two_piece import TwoPieceLaw
from algoprog.scaling.errors import InputError
from algoprog.scaling.planning.power import GapStudy
from algoprog.scaling.planning.report import power_report


def frame(points: int = 16, change: float = 0.0, sigma: float = 0.002) -> pd.DataFrame:
    flops = np.geomspace(1e15, 1e18, points)
    loss = TwoPieceLaw(1.9, 2.4, 0.08, 0.08 + change, 10**16.5).loss(flops)
    noise = sigma * np.random.default_rng(0).standard_normal(points)
    return pd.DataFrame({"arch": "modern", "flops": flops, "loss": loss * np.exp(noise)})


def lines(figure: Figure, name: str) -> list[Line2D]:
    return [line for line in figure.findobj(Line2D) if line.get_gid() == name]


def check_texts(figure: Figure) -> None:
    """Inside the figure, and no two of them over each other."""
    figure.draw_without_rendering()
    idle = {
        label
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for tick in axis.get_major_ticks()
        for label in (tick.label1, tick.label2)
        if not min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval())
    }
    boxes = []
    for text in figure.findobj(Text):
        box = text.get_window_extent()
        if text.get_text().strip() and text.get_visible() and text not in idle and box.width > 1:
            inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= figure.bbox.x1 + 1 and box.y1 <= figure.bbox.y1 + 1
            assert inside, text.get_text()
            boxes.append((text.get_text(), box))
    for i, (name, box) in enumerate(boxes):
        assert not [other for other, rival in boxes[i + 1 :] if box.overlaps(rival)], name


@pytest.mark.parametrize("change", [0.0, 0.05])
def test_break_figure(change: float) -> None:
    test = break_test(frame(20, change), draws=49)
    figure = break_figure(test)
    assert test.evidence is not None
    (points,), (profile,), (critical,) = lines(figure, "points"), lines(figure, "profile"), lines(figure, "critical")
    assert list(points.get_ydata()) == list(test.points["loss"])
    assert list(profile.get_ydata()) == list(test.evidence.profile_f)
    assert critical.get_ydata()[0] == test.evidence.critical and critical.is_dashed()
    (residuals,) = lines(figure, "residuals")
    expected = 100 * np.log(test.points["loss"] / test.evidence.one.loss(test.points["flops"].to_numpy()))
    assert residuals.get_ydata() == pytest.approx(expected.to_numpy())
    check_texts(figure)


@pytest.mark.parametrize("points", [5, 9, 16])
def test_extrapolation_figure(points: int) -> None:
    found = extrapolate(frame(points), draws=49)
    figure = extrapolation_figure(found)
    assert len(lines(figure, "span")) == len(found.cuts) and found.cusum is not None
    (path,) = lines(figure, "cusum")
    assert list(path.get_ydata()) == list(found.cusum.value)
    drawn = sum(len(line.get_xdata()) for line in lines(figure, "error") + lines(figure, "flagged"))
    shown = {axes.texts[0].get_text() for axes in figure.axes if axes.texts}
    assert drawn == sum(cut.error.size for cut in found.cuts if any(f" {cut.n} points" in told for told in shown))
    check_texts(figure)


def test_flagged_errors_are_marked() -> None:
    bent = extrapolate(frame(16, 0.08, 0.001), draws=49)
    figure = extrapolation_figure(bent)
    assert bent.flags > 0 and len(lines(figure, "flag")) == bent.flags


def test_power_figure() -> None:
    report = power_report(GapStudy(points=6), refits=40)
    figure = power_figure(report)
    for name in ("known", "shared", "separate"):
        (line,) = lines(figure, name)
        at_three = np.interp(3.0, line.get_xdata(), np.log(line.get_ydata()))
        row = next(row for row in report.rows if row.decades == 3.0)
        assert np.ceil(np.exp(at_three)) == pytest.approx(
            getattr(row.points, name), abs=1 + 0.02 * getattr(row.points, name)
        )
    check_texts(figure)


def test_nothing_to_draw_is_refused() -> None:
    with pytest.raises(InputError, match="too_few"):
        break_figure(break_test(frame(8)))
    with pytest.raises(InputError, match="4 points"):
        extrapolation_figure(extrapolate(frame(4)))
