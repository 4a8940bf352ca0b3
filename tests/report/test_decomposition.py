"""The figures and tables of a decomposition: every bar where its number says, intervals where there are any."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from algoprog.config import read_yaml
from algoprog.recipes import CONFIGS
from algoprog.report.figure_reference import reference_figure
from algoprog.report.figure_waterfall import waterfall_figure
from algoprog.report.figures import render_png
from algoprog.report.tables_decompose import print_decomposition
from algoprog.scaling import InputError, analyse
from algoprog.scaling.decomposition.result import Decomposition, decompose

TRUTH = {"lstm": (2.6, 0.065), "modern": (2.0, 0.09), "retro": (2.2, 0.085)}


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    values: dict[str, Any] = read_yaml(CONFIGS / "decompose" / "gundlach-2025.yaml")
    return values


@pytest.fixture(scope="module")
def constants(config: dict[str, Any]) -> Decomposition:
    return decompose(config)


@pytest.fixture(scope="module")
def from_runs(config: dict[str, Any]) -> Decomposition:
    rng = np.random.default_rng(0)
    rows = [
        {"arch": arch, "flops": c, "loss": (1.9 + r * (c / 1e16) ** -a) * math.exp(0.003 * rng.standard_normal())}
        for arch, (r, a) in TRUTH.items()
        for c in np.geomspace(1e15, 1e18, 10)
    ]
    return decompose(config, analyse(pd.DataFrame(rows), draws=100))


def bars(figure: Figure) -> list[tuple[float, float]]:
    """Start and length of every bar, in ln gain, panel by panel."""
    return [(p.get_x(), p.get_width()) for axes in figure.axes for p in axes.patches if isinstance(p, Rectangle)]


def lines(figure: Figure, name: str) -> list[Line2D]:
    return [line for line in figure.findobj(Line2D) if line.get_gid() == name]


def test_bars_are_the_logs_of_the_factors_and_join(constants: Decomposition) -> None:
    found = bars(waterfall_figure(constants))
    expected = []
    for span in constants.spans:
        for part in (span.study, span.composed):
            at = 0.0
            for factor in part.factors.values():
                expected.append((at, math.log(factor.value)))
                at += math.log(factor.value)
            assert at == pytest.approx(math.log(part.total.value))
            expected.append((0.0, at))
    assert np.array(found) == pytest.approx(np.array(expected))


def test_intervals_are_drawn_only_where_there_are_any(constants: Decomposition, from_runs: Decomposition) -> None:
    assert lines(waterfall_figure(constants), "interval") == []
    figure = waterfall_figure(from_runs)
    factors = [one for s in from_runs.spans for p in (s.study, s.composed) for one in (*p.factors.values(), p.total)]
    assert len(lines(figure, "interval")) == sum(one.interval is not None for one in factors) == 12
    assert len(reference_figure(from_runs).axes[0].collections) == 1, "a band for the one reference that varies"
    assert len(reference_figure(constants).axes[0].collections) == 0


@pytest.mark.parametrize("make", [waterfall_figure, reference_figure])
def test_texts_lie_inside_and_apart(make: Callable[[Decomposition], Figure], from_runs: Decomposition) -> None:
    figure = make(from_runs)
    assert render_png(figure).startswith(b"\x89PNG")
    renderer = FigureCanvasAgg(figure).get_renderer()
    for axes in figure.axes:
        boxes = [text.get_window_extent(renderer) for text in axes.texts if text.get_text()]
        for number, box in enumerate(boxes):
            assert box.x0 >= 0 and box.x1 <= figure.bbox.x1 + 1
            assert not any(box.overlaps(other) for other in boxes[number + 1 :])
    titles = [axes.title.get_window_extent(renderer) for axes in figure.axes]
    assert not any(a.overlaps(b) for i, a in enumerate(titles) for b in titles[i + 1 :])


def test_reference_lines_are_the_gains(constants: Decomposition) -> None:
    assert constants.references is not None
    figure = reference_figure(constants)
    for axes, kind in zip(figure.axes, ("study", "composed"), strict=True):
        drawn = [line for line in axes.lines if line.get_gid() == "reference"]
        for line, rows in zip(drawn, constants.references.rows.values(), strict=True):
            assert list(line.get_xdata()) == [row.year for row in rows]
            assert list(line.get_ydata()) == [getattr(row, kind).gain.value for row in rows]


def test_nothing_to_draw_is_one_line(config: dict[str, Any]) -> None:
    bare = copy.deepcopy(config)
    bare.pop("reference_dependence")
    with pytest.raises(InputError, match="no references to draw"):
        reference_figure(decompose(bare))
    bare["laws"]["transformer"]["E"] = 0.5
    with pytest.raises(InputError, match="no gain to divide"):
        waterfall_figure(decompose(bare))


def test_tables_hold_the_numbers(
    constants: Decomposition, from_runs: Decomposition, capsys: pytest.CaptureFixture[str]
) -> None:
    print_decomposition(constants)
    out = capsys.readouterr().out
    for part in ("6,926.35×", "10,100.6×", "65.8 %", "22.2 %", "51.9 %", "87.7 %", "0.091", "0.154", "724.8×"):
        assert part in out, part
    print_decomposition(from_runs)
    assert "95 % intervals" in capsys.readouterr().out
