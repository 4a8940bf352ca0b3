"""One recipe against several references over the years: the rate of progress depends on what it is measured against."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from algoprog.report.numbers import digits, percent
from algoprog.report.style import (
    BLUE,
    GREEN,
    MARKERS,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    drawing,
    new_figure,
    power_of_ten,
    ratio_axis,
)
from algoprog.scaling.decomposition.reference_dependence import AgainstReference, YearGain
from algoprog.scaling.decomposition.result import Decomposition
from algoprog.scaling.errors import InputError

LINE_COLOURS = (GREEN, VERMILLION, BLUE, ORANGE, PURPLE, SKY)
PLAIN = 2e5  # gains up to here are labelled in full
STYLES: tuple[Literal["-", "--", "-.", ":"], ...] = ("-", "--", "-.", ":")


def reference_figure(found: Decomposition) -> Figure:
    """Left by the study's arithmetic, right composed: the gain over the years, a line and a band per reference.

    The key says the growth per year in the last year, as a log rate. Raises InputError if the decomposition has no references.
    """
    references = found.references
    if references is None:
        raise InputError("no references to draw", got=found.plan.name, expected="a group reference_dependence")
    with drawing():
        figure = new_figure(4.2)
        panels = figure.subplots(1, 2, sharey=True)
        names = list(references.rows)
        for axes, title, kind in zip(
            panels, ("every factor at one compute", "composed"), ("study", "composed"), strict=True
        ):
            for number, name in enumerate(names):
                _line(axes, references.rows[name], kind, number)
            axes.set_title(title)
            axes.set_xlabel("year")
            axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
            labels = [_label(name, references.rows[name][-1], kind) for name in names]
            axes.legend(_keys(len(names)), labels, loc="upper left", bbox_to_anchor=(-0.05, -0.18))
        low, high = _height(list(references.rows.values()))
        ratio_axis(panels[0], low, high)
        if high > PLAIN:
            panels[0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: power_of_ten(value) + "×"))
        panels[0].set_ylabel("gain over the reference")
        last = next(iter(references.rows.values()))[-1].year
        bands = f"bands {percent(found.level)}" if _has_bands(list(references.rows.values())) else found.method
        figure.suptitle(
            f"{references.recipe}, invariant gain {digits(references.gain, 2)}×; key: log growth per year in {last:g}; {bands}",
            fontsize=9,
        )
        return figure


def _of(row: AgainstReference, kind: str) -> YearGain:
    return row.study if kind == "study" else row.composed


def _line(axes: Axes, rows: Sequence[AgainstReference], kind: str, number: int) -> None:
    years = np.array([row.year for row in rows])
    points = [_of(row, kind).gain for row in rows]
    colour = LINE_COLOURS[number % len(LINE_COLOURS)]
    ends = [point.interval for point in points]
    if all(end is not None for end in ends):
        lo, hi = (np.array([end[i] for end in ends if end is not None]) for i in (0, 1))
        axes.fill_between(years, lo, hi, color=colour, alpha=0.2, linewidth=0, gid="band")
    axes.plot(
        years,
        [point.value for point in points],
        color=colour,
        linestyle=STYLES[number % len(STYLES)],
        marker=MARKERS[number % len(MARKERS)],
        markersize=4,
        gid="reference",
    )
    axes.margins(x=0.03)


def _keys(count: int) -> list[Line2D]:
    return [
        Line2D(
            [],
            [],
            color=LINE_COLOURS[i % len(LINE_COLOURS)],
            linestyle=STYLES[i % len(STYLES)],
            marker=MARKERS[i % len(MARKERS)],
            markersize=4,
        )
        for i in range(count)
    ]


def _label(name: str, last: AgainstReference, kind: str) -> str:
    rate = _of(last, kind).log_rate
    ends = "" if rate.interval is None else f" ({rate.interval[0]:.2f} to {rate.interval[1]:.2f})"
    return f"{name}: {rate.value:.2f}{ends}".replace("-", "−")


def _has_bands(rows: Sequence[Sequence[AgainstReference]]) -> bool:
    return any(row.study.gain.interval is not None for part in rows for row in part)


def _height(rows: Sequence[Sequence[AgainstReference]]) -> tuple[float, float]:
    """Limits of y: all lines; a band that explodes is cut off a third further out, in logarithms."""
    gains = [_of(row, kind).gain for part in rows for row in part for kind in ("study", "composed")]
    lines = [math.log(gain.value) for gain in gains if 0 < gain.value < math.inf]
    ends = [math.log(end) for gain in gains for end in gain.interval or () if 0 < end < math.inf]
    low, high = min([0.0, *lines]), max([0.0, *lines])
    room = (high - low) / 3 + 0.5
    bottom, top = max(min([low, *ends]), low - room), min(max([high, *ends]), high + room)
    return math.exp(bottom - 0.3), math.exp(top + 0.3)
