"""Figures of surfaces and slices: what they show is what was fitted, and every text can be read."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from algoprog.report.figure_isoflop import fitted_loss, isoflop_figure
from algoprog.report.figure_surface import surface_figure
from algoprog.report.figures import render_png
from algoprog.scaling import InputError, Surface, analyse_surfaces, bootstrap_isoflop, isoflop_slices

SURFACE = Surface(1.69, 406.4, 410.7, 0.34, 0.28)


@pytest.fixture(scope="module")
def points() -> pd.DataFrame:
    """Four budgets with a little noise; the window of the last one lies beside its optimum."""
    rng = np.random.default_rng(0)
    rows = []
    for i, flops in enumerate(10.0 ** np.arange(15, 19)):
        for n in SURFACE.optimal(flops)[0] * np.geomspace(0.25, 4, 7) * (6 if i == 3 else 1):
            rows.append((n, flops / 6 / n, flops, SURFACE.loss(n, flops / 6 / n) + 0.003 * rng.standard_normal()))
    return pd.DataFrame(rows, columns=["params", "tokens", "flops", "loss"])


def lines(figure: Figure, name: str) -> list[Line2D]:
    return [line for line in figure.findobj(Line2D) if line.get_gid() == name]


def inside(figure: Figure) -> None:
    figure.draw_without_rendering()
    frame = figure.bbox
    for text in [*figure.legends[0].get_texts(), *(axes.title for axes in figure.axes), *figure.axes[0].texts]:
        assert isinstance(text, Text)
        box = text.get_window_extent()
        assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= frame.x1 + 1 and box.y1 <= frame.y1 + 1, text.get_text()


def test_optimum_is_solid_inside_the_compute_of_the_runs(points: pd.DataFrame) -> None:
    found = analyse_surfaces(points, draws=20).surfaces[0]
    figure = surface_figure(found)
    (fitted,) = lines(figure, "optimum-fitted")
    n, d = (np.asarray(part) for part in fitted.get_data())
    assert 6 * n[0] * d[0] == pytest.approx(1e15) and 6 * n[-1] * d[-1] == pytest.approx(1e18)
    assert found.fit.surface is not None
    assert n == pytest.approx(found.fit.surface.optimal(6 * n * d)[0])
    assert len(lines(figure, "optimum-extrapolated")) == 2 and len(lines(figure, "flops")) >= 3
    inside(figure)
    assert len(render_png(figure)) > 10_000


def test_slices_that_do_not_count_are_hollow_and_named(points: pd.DataFrame) -> None:
    found = isoflop_slices(points, surface=SURFACE)
    boot = bootstrap_isoflop(found, draws=50)
    figure = isoflop_figure(found, boot)
    assert [one.used for one in found.slices] == [True, True, True, False]
    for g, one in enumerate(found.slices):
        (runs,) = lines(figure, f"runs-{g}")
        assert (runs.get_markerfacecolor() == "white") is not one.used and len(runs.get_xdata()) == 7
        (minimum,) = lines(figure, f"minimum-{g}")
        assert (minimum.get_xdata()[0], minimum.get_ydata()[0]) == (one.params, one.loss)
        assert fitted_loss(found, one, np.array([one.params]))[0] == pytest.approx(one.loss)
    assert len(lines(figure, "interval")) == 3 and len(lines(figure, "allocation")) == 1
    told = [text.get_text() for text in figure.legends[0].get_texts()]
    assert any("best at an edge" in text and "left out" in text for text in told)
    inside(figure)
    render_png(isoflop_figure(isoflop_slices(points, "parabola")))


def test_nothing_to_draw_is_refused(points: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="no surface to draw"):
        surface_figure(analyse_surfaces(points.iloc[:4], draws=5).surfaces[0])
    with pytest.raises(InputError, match="no slice to draw"):
        isoflop_figure(isoflop_slices(points.iloc[:2], "parabola"))
