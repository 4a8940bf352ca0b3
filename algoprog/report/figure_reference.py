"""One recipe against several references, over the years or over compute: progress depends on what it is measured against."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
    flops_axis,
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


Clock = Literal["year", "decade of compute"]
Inside = Mapping[str, Sequence[bool]]


def reference_figure(found: Decomposition, clock: Clock = "year", inside: Inside | None = None) -> Figure:
    """Left by the study's arithmetic, right composed, one panel where both agree: the gain, a line and a band per reference.

    ``clock``: what the years of ``found`` are; a decade of compute: log10 of the FLOPs of the recipe. ``inside``: by reference
    which points lie inside the data, the others are hollow. The key says the growth per unit of the clock at its end, as
    a log rate. Raises InputError if the decomposition has no references.
    """
    references = found.references
    if references is None:
        raise InputError("no references to draw", got=found.plan.name, expected="a group reference_dependence")
    with drawing():
        names, kinds = list(references.rows), _kinds(list(references.rows.values()))
        figure = new_figure(4.2)
        panels = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
        for axes, (kind, title) in zip(panels, kinds.items(), strict=True):
            for number, name in enumerate(names):
                _line(axes, references.rows[name], kind, number, clock, None if inside is None else inside[name])
            axes.set_title(title)
            _clock_axis(axes, references.rows[names[0]], clock)
            labels = [_label(name, references.rows[name][-1], kind) for name in names]
            axes.legend(_keys(len(names)), labels, loc="upper left", bbox_to_anchor=(-0.05, -0.18))
        low, high = _height(list(references.rows.values()))
        ratio_axis(panels[0], low, high)
        if high > PLAIN:
            panels[0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: power_of_ten(value) + "×"))
        panels[0].set_ylabel("gain over the reference")
        figure.suptitle(_caption(found, clock), fontsize=9)
        return figure


def _kinds(rows: Sequence[Sequence[AgainstReference]]) -> dict[str, str]:
    """Titles of the arithmetics; both are one where there is no invariant gain and no policy."""
    same = all(row.study == row.composed for part in rows for row in part)
    return {"composed": "gain over each reference"} if same else {
        "study": "every factor at one compute", "composed": "composed",
    }  # fmt: skip


def _caption(found: Decomposition, clock: Clock) -> str:
    references = found.references
    assert references is not None
    rows = list(references.rows.values())
    bands = f"bands {percent(found.level)}" if _has_bands(rows) else found.method
    if clock != "year":
        return f"{references.recipe} against each reference; key: log growth per decade at the right end; {bands}"
    told = "" if len(_kinds(rows)) == 1 else f", invariant gain {digits(references.gain, 2)}×"
    return f"{references.recipe}{told}; key: log growth per year in {rows[0][-1].year:g}; {bands}"


def _clock_axis(axes: Axes, rows: Sequence[AgainstReference], clock: Clock) -> None:
    if clock == "year":
        axes.set_xlabel("year")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
        return
    margin = (rows[-1].flops / rows[0].flops) ** 0.03
    flops_axis(axes, rows[0].flops / margin, rows[-1].flops * margin)
    axes.set_xlabel("training compute of the recipe (FLOPs)")


def _of(row: AgainstReference, kind: str) -> YearGain:
    return row.study if kind == "study" else row.composed


def _line(
    axes: Axes, rows: Sequence[AgainstReference], kind: str, number: int, clock: Clock, inside: Sequence[bool] | None
) -> None:
    years = np.array([row.year if clock == "year" else row.flops for row in rows])
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
        markevery=None if inside is None else [i for i, yes in enumerate(inside) if yes],
        gid="reference",
    )
    outside = [] if inside is None else [i for i, yes in enumerate(inside) if not yes]
    if outside:
        axes.plot(
            years[outside], [points[i].value for i in outside], color=colour, linestyle="none", markerfacecolor="white",
            marker=MARKERS[number % len(MARKERS)], markersize=4, gid="extrapolated",
        )  # fmt: skip
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
