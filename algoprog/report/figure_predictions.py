"""Predictions that were written down first, beside what the runs then measured."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from algoprog.report.numbers import flops
from algoprog.report.style import BLUE, DARK, GREY, VERMILLION, drawing, new_figure
from algoprog.scaling import InputError
from algoprog.scaling.predict import Check

ROW_IN = 0.32


def predictions_figure(checks: Sequence[Check]) -> Figure:
    """One row per prediction: its interval and what was measured, in percent of the predicted loss.

    Raises InputError without a prediction.
    """
    if not checks:
        raise InputError("no prediction to draw", expected="a store that holds predictions")
    with drawing():
        figure = new_figure(1.7 + ROW_IN * len(checks))
        axes = figure.add_subplot()
        for row, check in enumerate(checks):
            _row(axes, row, check)
        axes.axvline(0.0, color=DARK, linewidth=1.0)
        axes.set_yticks(range(len(checks)), [_label(check) for check in checks])
        axes.set_ylim(len(checks) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.grid(False, axis="y")
        axes.margins(x=0.08)
        axes.set_xlabel("measured above predicted loss (percent)")
        labels, handles = zip(*_legend(), strict=True)
        figure.legend(handles, labels, loc="outside upper center", ncols=2, handlelength=1.8)
        return figure


def _label(check: Check) -> str:
    rest = "" if check.measured is not None else ", not run yet"
    return f"{check.prediction.arch}, {flops(check.prediction.flops)} FLOPs{rest}"


def relative(value: float, check: Check) -> float:
    """``value`` in percent above the predicted loss."""
    return 100.0 * (value / check.prediction.loss - 1.0)


def _row(axes: Axes, row: int, check: Check) -> None:
    if check.prediction.interval is not None:
        ends = [relative(end, check) for end in check.prediction.interval]
        axes.plot(ends, [row, row], color=GREY, linewidth=6, alpha=0.4, solid_capstyle="butt", gid="interval")
    if check.prediction.law_interval is not None:
        ends = [relative(end, check) for end in check.prediction.law_interval]
        axes.plot(ends, [row, row], color=GREY, linewidth=2.2, solid_capstyle="butt", gid="law")
    if check.measured is None:
        return
    inside = check.inside is not False
    colour, marker = (BLUE, "o") if inside else (VERMILLION, "X")
    at = [relative(check.measured, check)]
    axes.plot(at, [row], color=colour, marker=marker, markersize=7, linestyle="none", gid="measured")


def _legend() -> list[tuple[str, Line2D]]:
    return [
        ("measured, inside", Line2D([], [], color=BLUE, marker="o", markersize=7, linestyle="none")),
        ("measured, outside", Line2D([], [], color=VERMILLION, marker="X", markersize=7, linestyle="none")),
        ("95 % interval of a run", Line2D([], [], color=GREY, linewidth=6, alpha=0.4)),
        ("of the law alone", Line2D([], [], color=GREY, linewidth=2.2)),
    ]
