"""Bars of gains in compute, the study's on the left and ours with intervals on the right: single changes, and together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from algoprog.report.figure_study import LEFT, RIGHT, study_figure
from algoprog.report.numbers import Interval, digits, with_interval
from algoprog.report.study_runs import OurGain, Ours
from algoprog.report.style import BLUE, DARK, VERMILLION, drawing, ratio_ticks
from algoprog.scaling.published import changes

FAR = 30.0  # an interval may reach this factor beyond all gains before it is cut off
ROW_IN = 0.31


@dataclass(frozen=True)
class Bar:
    """A gain with its interval; ``gain`` None: ``told`` says why. ``plain``: hatched otherwise; ``predicted``: its colour."""

    label: str
    gain: float | None
    interval: Interval = None
    told: str = ""
    plain: bool = True
    predicted: bool = False


def study_ablations_figure(ours: Ours, caption: str) -> Figure:
    """One row per single change and per pair of classes, with a common axis of gains."""
    listed = (*changes.ABLATIONS, *changes.CLASSES)
    theirs = [
        Bar(c.label, c.gain.value, told=f"{c.gain.value:.2f}", plain=c.gain.read_from == "figure") for c in listed
    ]
    found = [(c.label, ours.gain(c.old, c.new), c) for c in listed]
    none = "none in range"
    mine = [
        Bar(label, None, told=none if _ran(ours, c) else "no runs")
        if gain is None
        else Bar(label, gain.gain, gain.interval, _number(gain, c))
        for label, gain, c in found
    ]
    return _two_panels(theirs, mine, caption)


def _number(gain: OurGain, change: changes.Change) -> str:
    """The number; of a single change without repeats it says that it is one by laws, as those of classes always are."""
    alone = gain.by_laws and change in changes.ABLATIONS
    return with_interval(gain.gain, gain.interval) + (", laws" if alone else "")


def study_interactions_figure(ours: Ours, caption: str) -> Figure:
    """Product of single changes beside the gain of all together, for retro and for the LSTM."""
    theirs = [
        Bar(n.name, n.value, told=f"{n.value:.2f}", plain=n.read_from != "code", predicted="predicted" in n.name)
        for n in changes.TOGETHER
    ]
    joint = ours.together.value
    why = "no factorial runs"
    mine = []
    for number, row in zip(changes.TOGETHER[:2], (None, None) if joint is None else
                           (joint.product.predicted, joint.product.measured), strict=True):  # fmt: skip
        if row is None or row.gain is None:
            mine.append(Bar(number.name, None, told=why if row is None else "a cell is missing"))
        else:
            told = with_interval(row.gain, row.gain_interval)
            mine.append(Bar(number.name, row.gain, row.gain_interval, told, predicted="predicted" in number.name))
    mine.append(Bar(changes.PREDICTED_LSTM.name, None, told="not predicted"))
    lstm = ours.gain("lstm", "modern")
    mine.append(
        Bar(changes.MEASURED_LSTM.name, None, told="no gain in range" if ours.laws.value else "no scaling runs")
        if lstm is None
        else Bar(changes.MEASURED_LSTM.name, lstm.gain, lstm.interval, with_interval(lstm.gain, lstm.interval))
    )
    return _two_panels(theirs, mine, caption)


def _ran(ours: Ours, change: changes.Change) -> bool:
    parts = [part.value for part in (ours.ablations, ours.laws) if part.value is not None]
    return any({change.old, change.new} <= set(part.points["arch"]) for part in parts)


def _two_panels(theirs: Sequence[Bar], mine: Sequence[Bar], caption: str) -> Figure:
    with drawing():
        figure = study_figure(1.9 + ROW_IN * len(theirs), caption)
        left, right = figure.subplots(1, 2, sharey=True)
        low, high = _limits([*theirs, *mine])
        for axes, bars, title in ((left, theirs, LEFT), (right, mine, RIGHT)):
            axes.set_xscale("log")
            axes.set_xlim(low, high)
            for row, bar in enumerate(bars):
                _draw(axes, row, bar, low, high)
            axes.axvline(1.0, color=DARK, linewidth=1.0, gid="equal")
            ticks = ratio_ticks(low, high)
            axes.set_xticks(ticks, [f"{tick:,.10g}×" for tick in ticks])
            axes.set_xticks([], minor=True)
            axes.tick_params(axis="y", length=0)
            axes.grid(False, axis="y")
            axes.set_title(title)
            axes.set_xlabel("gain: compute of old / of new, equal loss")
            twin = axes.secondary_yaxis("right")
            twin.set_yticks(range(len(bars)), [bar.told or digits(bar.gain) for bar in bars])
            twin.tick_params(axis="y", length=0, labelsize=9)
            twin.spines["right"].set_visible(False)
        left.set_yticks(range(len(theirs)), [bar.label for bar in theirs])
        left.set_ylim(len(theirs) - 0.4, -0.6)
        return figure


def _draw(axes: Axes, row: int, bar: Bar, low: float, high: float) -> None:
    if bar.gain is None:
        return
    colour = VERMILLION if bar.predicted else BLUE
    axes.barh(
        [row], [bar.gain - 1.0], left=1.0, height=0.58, color=colour if bar.plain else "white", alpha=0.75 if bar.plain else 1,
        edgecolor=colour, hatch=None if bar.plain else "////", linewidth=0.8, gid="bar",
    )  # fmt: skip
    if bar.interval is not None:
        ends = [min(max(end, low), high) for end in bar.interval]
        axes.plot(ends, [row, row], color=DARK, linewidth=1.6, solid_capstyle="butt", gid="interval")


def _limits(bars: Sequence[Bar]) -> tuple[float, float]:
    core = [1.0, *(bar.gain for bar in bars if bar.gain is not None and 0 < bar.gain < math.inf)]
    ends = [end for bar in bars for end in bar.interval or () if 0 < end < math.inf]
    low, high = max(min([*core, *ends]), min(core) / FAR), min(max([*core, *ends]), max(core) * FAR)
    room = max((high / low) ** 0.05, 1.02)
    return low / room, high * room
