"""The exponents of all laws and the irreducible loss, as dots with interval bars."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from algoprog.report.numbers import digits, percent, with_interval
from algoprog.report.style import DARK, GREY, drawing, looks, new_figure
from algoprog.scaling import Analysis, InputError

Interval = tuple[float, float] | None


def exponents_figure(analysis: Analysis) -> Figure:
    """The exponent alpha of every architecture above, the irreducible loss E that they share below.

    Raises InputError if no architecture has a law.
    """
    if not analysis.laws:
        raise InputError("no law to draw", got=analysis.fit.reason, expected="an architecture with a fitted law")
    with drawing():
        rows = len(analysis.laws)
        figure = new_figure(2.5 + 0.45 * rows)
        above, below = figure.subplots(2, 1, height_ratios=[0.45 * rows + 0.25, 0.75])
        _draw_exponents(above, analysis)
        _draw_irreducible(below, analysis)
        return figure


def _draw_exponents(axes: Axes, analysis: Analysis) -> None:
    look = looks(analysis.points["arch"])
    ends = [end for law in analysis.laws for end in (law.law.alpha, *(law.alpha or ()))]
    _limits(axes, min(ends), max(ends))
    for row, law in enumerate(analysis.laws):
        _dot(axes, row, law.law.alpha, law.alpha, look[law.arch].colour, look[law.arch].marker)
    _rows(axes, [law.arch for law in analysis.laws])
    axes.set_xlabel("exponent α: the reducible loss falls as compute to the power −α")
    axes.set_title(f"exponents, bars: {percent(analysis.boot.level)} intervals")


def _draw_irreducible(axes: Axes, analysis: Analysis) -> None:
    fit, interval = analysis.fit, analysis.laws[0].E
    lowest = float(analysis.points["loss"].min())
    fixed = not isinstance(fit.irreducible, str)
    ends = [fit.E, lowest, *(() if fixed else interval or ())]
    _limits(axes, min(ends), max(ends))
    _dot(axes, 0, fit.E, None if fixed else interval, DARK, "o")
    axes.axvline(lowest, color=GREY, linewidth=1.2, linestyle=(0, (4, 2)))
    axes.annotate(
        f"lowest loss measured: {digits(lowest)}",
        (lowest, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(-4, -2),
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize=9,
        color=DARK,
    )
    _rows(axes, ["all"])
    axes.set_ylim(0.6, -1.3)  # room above the dot for the two labels
    axes.set_xlabel("irreducible loss E (nats per token)")
    axes.set_title("irreducible loss, " + ("fixed" if fixed else "one value for all architectures"))


def _dot(axes: Axes, row: int, value: float, interval: Interval, colour: str, marker: str) -> None:
    if interval is not None:
        axes.plot(interval, [row, row], color=colour, linewidth=3, alpha=0.45, solid_capstyle="butt", gid="interval")
    axes.plot([value], [row], color=colour, marker=marker, markersize=8, linestyle="none", gid="value")
    # The label sits above its own row; near an end of the axis it grows inwards.
    low, high = axes.get_xlim()
    place = (value - low) / (high - low)
    text = with_interval(value, interval) if interval is not None else digits(value)
    axes.annotate(
        text,
        (value, row),
        xytext=(0, 7),
        textcoords="offset points",
        ha="left" if place < 0.2 else "right" if place > 0.8 else "center",
        va="bottom",
        fontsize=9,
        color=DARK,
    )


def _rows(axes: Axes, labels: list[str]) -> None:
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.8)
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")


def _limits(axes: Axes, low: float, high: float) -> None:
    """A little room on both sides, but no more than a little below zero: neither quantity can be negative."""
    room = 0.08 * ((high - low) or 0.2 * abs(high) or 1.0)
    axes.set_xlim(max(low - room, -0.02 * (high + room)), high + room)
