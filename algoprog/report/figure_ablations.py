"""Ablations: what each single change costs, as bars of gains with intervals against one common new architecture."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from algoprog.report.ablations import Ablation, Bar, at_flops
from algoprog.report.numbers import Interval, percent, with_interval
from algoprog.report.style import BLUE, DARK, GREY, drawing, new_figure, ratio_ticks
from algoprog.scaling import Gain, InputError

ROW_IN = 0.42
BELOW = 0.34  # of a row: how far the gain by laws lies below the middle of the bar
SOLID, PALE = 0.75, 0.35  # opacity of a bar by repeats, by laws alone
FAR = 30.0  # an interval may reach this factor beyond all gains before it is cut off


def ablations_figure(ablations: Sequence[Ablation], level: float) -> Figure:
    """One bar per old architecture: the gain of the common new one by repeats at one budget; below it that by laws of both.

    Where there are no repeats the bar is that of the laws, pale, and its number says so. ``level`` of the intervals.

    Raises InputError without an ablation.
    """
    if not ablations:
        raise InputError("no ablation to draw", expected="pairs of old architectures with one new one")
    with drawing():
        figure = new_figure(1.8 + ROW_IN * len(ablations))
        axes = figure.add_subplot()
        low, high = _limits(ablations)
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        for row, one in enumerate(ablations):
            _row(axes, row, one, (low, high))
        axes.axvline(1.0, color=DARK, linewidth=1.0, gid="equal")
        axes.set_yticks(range(len(ablations)), [one.old for one in ablations])
        axes.set_ylim(len(ablations) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.grid(False, axis="y")
        ticks = ratio_ticks(low, high)
        axes.set_xticks(ticks, [f"{tick:,.10g}×" for tick in ticks])
        axes.set_xticks([], minor=True)
        _told(axes, ablations)
        axes.set_xlabel("gain: compute of the row / of the new one, equal loss")
        axes.set_title(f"gain of {ablations[0].new} over each row, with {percent(level)} intervals")
        _legend(figure, ablations)
        return figure


def _row(axes: Axes, row: int, one: Ablation, limits: tuple[float, float]) -> None:
    if one.bar is None:
        axes.axhline(row, color=GREY, linewidth=0.8, linestyle=":", gid="none")
        return
    opacity = PALE if one.bar.by_laws else SOLID
    axes.barh([row], [one.bar.gain - 1.0], left=1.0, height=0.46, color=BLUE, alpha=opacity, gid="bar")
    _interval(axes, row, one.bar.interval, limits, color=DARK, linewidth=1.8, gid="interval")
    if one.by_laws is not None and not one.bar.by_laws:
        y = row + BELOW
        _interval(axes, y, one.by_laws.interval, limits, color=GREY, linewidth=0.9, gid="interval by laws")
        axes.plot([one.by_laws.gain], [y], color=GREY, marker="D", markersize=3, linestyle="none", gid="by laws")


def _interval(
    axes: Axes, y: float, ends: Interval, limits: tuple[float, float], *, color: str, linewidth: float, gid: str
) -> None:
    if ends is not None:
        shown = [min(max(end, limits[0]), limits[1]) for end in ends]
        axes.plot(shown, [y, y], color=color, linewidth=linewidth, solid_capstyle="butt", gid=gid)


def _told(axes: Axes, ablations: Sequence[Ablation]) -> None:
    """The numbers at the right end of the rows, where no bar can hide them."""
    twin = axes.secondary_yaxis("right")
    twin.set_yticks(range(len(ablations)), [_number(one.bar) for one in ablations])
    twin.tick_params(axis="y", length=0, labelcolor=DARK, labelsize=9)
    twin.spines["right"].set_visible(False)


def _number(bar: Bar | None) -> str:
    if bar is None:
        return "no gain"
    return with_interval(bar.gain, bar.interval) + (", laws" if bar.by_laws else "")


def _legend(figure: Figure, ablations: Sequence[Ablation]) -> None:
    """What bars and lines are, and at which FLOPs; only of what is drawn."""
    keys: list[tuple[Patch | Line2D, str]] = []
    matched = [one.matched.flops for one in ablations if one.matched.gain is not None and one.matched.flops]
    below = [one.by_laws for one in ablations if one.by_laws is not None and one.matched.gain is not None]
    alone = [one.by_laws for one in ablations if one.by_laws is not None and one.matched.gain is None]
    if matched:
        keys.append((Patch(color=BLUE, alpha=SOLID), f"repeated runs at {at_flops(matched)}"))
    if alone:
        keys.append((Patch(color=BLUE, alpha=PALE), f"without repeats: {_of_laws(alone)}"))
    if below:
        line = Line2D([], [], color=GREY, linewidth=0.9, marker="D", markersize=3)
        keys.append((line, _of_laws(below)))
    if keys:
        handles, labels = zip(*keys, strict=True)
        figure.legend(handles, labels, loc="outside upper left")


def _of_laws(gains: Sequence[Gain]) -> str:
    return f"laws of both, at the largest compute in range: {at_flops([gain.flops_b for gain in gains])}"


def _limits(ablations: Sequence[Ablation]) -> tuple[float, float]:
    drawn = [part for one in ablations for part in (one.bar, one.by_laws) if part is not None]
    core = [1.0, *(part.gain for part in drawn if 0 < part.gain < math.inf)]
    ends = [end for part in drawn for end in part.interval or () if 0 < end < math.inf]
    low, high = max(min([*core, *ends]), min(core) / FAR), min(max([*core, *ends]), max(core) * FAR)
    room = max((high / low) ** 0.05, 1.02)
    return low / room, high * room
