"""The waterfall of a decomposition: which stage makes which part of ln gain, by a study's arithmetic and composed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from algoprog.report.chain import shares_told
from algoprog.report.numbers import digits, percent
from algoprog.report.style import (
    BLUE,
    DARK,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    drawing,
    new_figure,
    power_of_ten,
    ratio_ticks,
)
from algoprog.scaling.decomposition.estimate import Estimate
from algoprog.scaling.decomposition.result import Decomposition, SpanResult
from algoprog.scaling.errors import InputError

STAGE_COLOURS = (BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY)
ROOM = 1.75  # the axis goes so much further than bars and intervals that their labels fit
FEW_DECADES = 3.0  # a narrower axis has labels between the powers of ten
TICKS = 4


def waterfall_figure(found: Decomposition, titles: Sequence[str] | None = None) -> Figure:
    """One row of panels per span: left the study's arithmetic, right the consistent composition.

    Bars run along a logarithmic axis, so that their lengths are shares of ln gain; each starts where the one before ends.
    A line on a bar is the interval of its factor, drawn from where the bar starts. Shares are left out where the interval of
    the total includes 1. ``titles``: of the spans, default their years. Raises InputError if no span has a finite gain above 1.
    """
    named = dict(zip((span.label for span in found.spans), titles or [span.label for span in found.spans], strict=True))
    spans = [span for span in found.spans if span.composed.status == "ok" and _ends(span)[1] > 0]
    if not spans:
        raise InputError("no gain to divide", got="no span with a finite gain", expected="a finite gain above 1")
    with drawing():
        rows = [len(span.composed.factors) + 1 for span in spans]
        figure = new_figure(1.15 + sum(0.62 + 0.36 * count for count in rows))
        grid = figure.subplots(len(spans), 2, sharex=True, squeeze=False, height_ratios=rows)
        # Room between the last label of the left axis and the first of the right one.
        figure.set_layout_engine("constrained", wspace=0.08)
        low, high = min(_ends(span)[0] for span in spans), max(_ends(span)[1] for span in spans)
        for number, (line, span) in enumerate(zip(grid, spans, strict=True)):
            study, composed = span.study, span.composed
            _draw(line[0], study.factors, study.shares, study.total)
            _draw(line[1], composed.factors, composed.shares, composed.total)
            line[0].set_title(
                f"{named[span.label]},\nfactors at one compute" if titles else f"{span.label}, at one compute"
            )
            line[1].set_title("composed" if titles else f"{span.label}, composed")
            line[1].tick_params(labelleft=False)
            for axes in line:
                _gain_axis(axes, low, high)
                axes.tick_params(labelbottom=number == len(spans) - 1)
        shared = any(shares_told(part.total) for span in spans for part in (span.study, span.composed))
        told = "factor, share of ln gain" if shared else "factor (shares only where the total is told from 1)"
        figure.supxlabel(f"gain in compute of {found.plan.start}; labels: {told}", fontsize=10)
        figure.suptitle(_caption(found), fontsize=9, color=DARK)
        return figure


def _ends(span: SpanResult) -> tuple[float, float]:
    """Lowest and highest ln gain that a bar of this span reaches, or the interval of one as far as it is drawn."""
    lows, highs = [0.0], [0.0]
    for part in (span.study, span.composed):
        at = 0.0
        for start, factor in ((0.0, part.total), *((None, factor) for factor in part.factors.values())):
            start = at if start is None else start
            at = start + math.log(factor.value) if factor is not part.total else 0.0
            ends = [start + math.log(factor.value), *(_interval(start, factor) or ())]
            lows, highs = [*lows, *ends], [*highs, *ends]
    return min(lows), max(highs)


def _interval(start: float, factor: Estimate) -> tuple[float, float] | None:
    """The interval in ln gain, from where the bar starts; None if there is none or an end is 0 or infinite."""
    if factor.interval is None or not (factor.interval[0] > 0 and math.isfinite(factor.interval[1])):
        return None
    return start + math.log(factor.interval[0]), start + math.log(factor.interval[1])


def _draw(axes: Axes, factors: Mapping[str, Estimate], shares: Mapping[str, Estimate], total: Estimate) -> None:
    at = 0.0
    for row, (name, factor) in enumerate(factors.items()):
        colour = STAGE_COLOURS[row % len(STAGE_COLOURS)]
        share = f", {100 * shares[name].value:.1f} %" if shares_told(total) else ""
        text = f"{digits(factor.value)}×{share}"
        _bar(axes, row, at, factor, colour, text)
        at += math.log(factor.value)
    _bar(axes, len(factors), 0.0, total, GREY, f"{digits(total.value, 4)}×")
    axes.axvline(0.0, color=DARK, linewidth=0.9, gid="equal")
    axes.set_yticks(range(len(factors) + 1), [*factors, "total"])
    axes.set_ylim(len(factors) + 0.6, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")


def _bar(axes: Axes, row: int, start: float, factor: Estimate, colour: str, text: str) -> None:
    end = start + math.log(factor.value)
    axes.barh(row, end - start, left=start, height=0.62, color=colour, gid="bar")
    right = max(start, end)
    ends = _interval(start, factor)
    if ends is not None:
        axes.plot(ends, [row, row], color=DARK, linewidth=1.6, marker="|", markersize=7, gid="interval")
        right = max(right, *ends)
    axes.annotate(
        text, (right, row), xytext=(4, 0), textcoords="offset points", ha="left", va="center", fontsize=8.5, color=DARK
    )


def _gain_axis(axes: Axes, low: float, high: float) -> None:
    """x in ln gain, labelled in factors: about four powers of ten, or round numbers where there are few decades."""
    left, right = low - 0.05 * (high - low), low + (high - low) * ROOM
    axes.set_xlim(left, right)
    if right - left < FEW_DECADES * math.log(10.0):
        round_ones = ratio_ticks(math.exp(left), math.exp(right))
        ticks = [math.log(tick) for tick in round_ones[:: math.ceil(len(round_ones) / TICKS)]]
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{math.exp(value):,.4g}×"))
    else:
        decades = range(math.ceil(left / math.log(10.0)), math.floor(right / math.log(10.0)) + 1)
        step = max(1, math.ceil(len(decades) / TICKS))
        ticks = [d * math.log(10.0) for d in decades if d % step == 0]
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: power_of_ten(math.exp(value)) + "×"))
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())


def _caption(found: Decomposition) -> str:
    if all(span.composed.total.interval is None for span in found.spans):
        return f"{found.plan.name}: {found.method}"
    return f"{found.plan.name}: lines are {percent(found.level)} intervals of the factors"
