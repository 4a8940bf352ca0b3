"""Ablations: what each single change costs, as bars of gains with intervals against one common new architecture."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from algoprog.report.numbers import percent, with_interval
from algoprog.report.style import BLUE, DARK, GREY, drawing, new_figure, ratio_ticks
from algoprog.scaling import Analysis, Gain, InputError, PairGains

FEWEST = 3
ROW_IN = 0.34
FAR = 30.0  # an interval may reach this factor beyond all gains before it is cut off


def ablations_of(analysis: Analysis, compare: Sequence[tuple[str, str]]) -> tuple[PairGains, ...]:
    """The pairs of ``compare`` that share the most common new architecture, the largest gain first; none below three.

    Pairs without a gain inside the data come last.
    """
    news = [new for _, new in compare]
    common = max(news, key=news.count, default="")
    if news.count(common) < FEWEST:
        return ()
    found = [pair for pair in analysis.gains if pair.b == common]
    return tuple(sorted(found, key=lambda pair: -pair.at_largest.gain if pair.at_largest is not None else math.inf))


def ablations_figure(analysis: Analysis, ablations: Sequence[PairGains]) -> Figure:
    """One bar per old architecture: the gain of the common new one at the largest compute inside the data of both.

    Raises InputError without a pair.
    """
    if not ablations:
        raise InputError("no ablation to draw", expected="pairs of old architectures with one new one")
    with drawing():
        figure = new_figure(1.5 + ROW_IN * len(ablations))
        axes = figure.add_subplot()
        drawn = [pair.at_largest for pair in ablations if pair.at_largest is not None]
        low, high = _limits(drawn)
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        for row, pair in enumerate(ablations):
            _bar(axes, row, pair.at_largest)
        axes.axvline(1.0, color=DARK, linewidth=1.0, gid="equal")
        axes.set_yticks(range(len(ablations)), [pair.a for pair in ablations])
        axes.set_ylim(len(ablations) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.grid(False, axis="y")
        ticks = ratio_ticks(low, high)
        axes.set_xticks(ticks, [f"{tick:,.10g}×" for tick in ticks])
        axes.set_xticks([], minor=True)
        _told(axes, ablations)
        axes.set_xlabel("gain: compute of the row / of the new one, equal loss")
        level = percent(analysis.boot.level)
        axes.set_title(f"gain of {ablations[0].b} over each row, with {level} intervals")
        return figure


def _bar(axes: Axes, row: int, gain: Gain | None) -> None:
    if gain is None:
        return
    axes.barh([row], [gain.gain - 1.0], left=1.0, height=0.58, color=BLUE, alpha=0.75, gid="bar")
    if gain.interval is not None:
        axes.plot(gain.interval, [row, row], color=DARK, linewidth=1.6, solid_capstyle="butt", gid="interval")


def _told(axes: Axes, ablations: Sequence[PairGains]) -> None:
    """The numbers at the right end of the rows, where no bar can hide them."""
    twin = axes.secondary_yaxis("right")
    texts = ["none in range" if pair.at_largest is None else _text(pair.at_largest) for pair in ablations]
    twin.set_yticks(range(len(ablations)), texts)
    twin.tick_params(axis="y", length=0, labelcolor=DARK, labelsize=9)
    twin.spines["right"].set_visible(False)
    for row, pair in enumerate(ablations):
        if pair.at_largest is None:
            axes.axhline(row, color=GREY, linewidth=0.8, linestyle=":", gid="none")


def _text(gain: Gain) -> str:
    return with_interval(gain.gain, gain.interval)


def _limits(gains: Sequence[Gain]) -> tuple[float, float]:
    core = [1.0, *(gain.gain for gain in gains if 0 < gain.gain < math.inf)]
    ends = [end for gain in gains for end in gain.interval or () if 0 < end < math.inf]
    low, high = max(min([*core, *ends]), min(core) / FAR), min(max([*core, *ends]), max(core) * FAR)
    room = max((high / low) ** 0.05, 1.02)
    return low / room, high * room
