"""Progress over time: the gain over the LSTM at the frontier of each year, by the study's arithmetic."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from algoprog.report.figure_study import LEFT, RIGHT, say, study_figure
from algoprog.report.numbers import digits, percent
from algoprog.report.study_runs import Part
from algoprog.report.style import BLUE, DARK, GREEN, drawing, power_of_ten
from algoprog.scaling import Analysis
from algoprog.scaling.ceg import log_gain_new
from algoprog.scaling.intervals.bootstrap import percentiles
from algoprog.scaling.laws import FloatArray, LogLaw
from algoprog.scaling.published import frontier_history, scaling_laws

YEARS = np.arange(2012, 2025.01, 0.05)
LOWEST, HIGHEST = 1e-4, 1e8
"""Gains shown; a band or a line beyond is cut off, and the panel says where it ends."""


def study_progress_figure(ours: Part[Analysis], caption: str) -> Figure:
    """Left the study's lines, right our laws of lstm and retro in their place; a common axis of gains."""
    with drawing():
        figure = study_figure(4.3, caption)
        left, right = figure.subplots(1, 2, sharey=True)
        lines = {arch: scaling_laws.line(arch).parameters for arch in ("lstm", "retro")}
        left.plot(YEARS, np.exp(log_totals(lines["lstm"], lines["retro"])), color=BLUE, linewidth=1.8, gid="curve")
        below, above = {"xytext": (6, -14), "ha": "left"}, {"xytext": (4, 8), "ha": "right"}
        ends = zip(frontier_history.END_FLOPS, frontier_history.TOTALS, (below, above), strict=True)
        for year, number, place in ends:
            left.plot([year], [number.value], color=BLUE, marker="o", markersize=7, linestyle="none", gid="printed")
            left.annotate(f"{number.value:,.0f}×", (year, number.value), textcoords="offset points", **place)
        _ours(right, ours)
        left.set_yscale("log")
        left.set_ylim(LOWEST, HIGHEST)
        ticks = [10.0**p for p in range(-4, 9, 2)]
        left.set_yticks(ticks, [power_of_ten(tick) + "×" for tick in ticks])
        left.yaxis.set_minor_locator(NullLocator())
        left.set_ylabel("gain at the frontier over the LSTM")
        target = frontier_history.TARGET.value
        for axes, title in ((left, LEFT), (right, RIGHT)):
            axes.set_xlim(2012, 2025.5)
            axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
            axes.set_title(title)
            axes.set_xlabel("year")
            axes.axhline(1.0, color=DARK, linewidth=1.0)
            axes.plot(
                [2023], [target], color=GREEN, marker="D", markersize=7, linestyle="none", gid="target",
                label=f"{target:,.0f}×, Ho et al. 2024",
            )  # fmt: skip
        left.legend(loc="lower right")
        return figure


def log_totals(lstm: LogLaw, retro: LogLaw) -> FloatArray:
    """``ln`` of the study's total in every one of ``YEARS``; shape (years,), or (years, draws) for laws with draws."""
    return np.array([
        frontier_history.log_total(year, log_gain_new(lstm, retro, frontier_history.COMPUTE.log_flops(year)))
        for year in YEARS
    ])  # fmt: skip


def _ours(axes: Axes, ours: Part[Analysis]) -> None:
    found = ours.value
    if found is None or not {"lstm", "retro"} <= set(found.fit.laws):
        say(axes, ours.why or "Our runs give no law of both lstm and retro.")
        return
    laws = [found.fit.laws[arch].parameters for arch in ("lstm", "retro")]
    with np.errstate(over="ignore"):
        curve = np.exp(log_totals(laws[0], laws[1]))
        drawn = np.exp(log_totals(found.boot.law("lstm"), found.boot.law("retro")))
    ends = [percentiles(row, found.boot.level) for row in drawn]
    if all(end is not None for end in ends):
        lows, highs = (np.clip([end[i] for end in ends if end], LOWEST / 10, HIGHEST * 10) for i in (0, 1))
        axes.fill_between(YEARS, lows, highs, color=BLUE, alpha=0.2, linewidth=0, gid="band")
    axes.plot(YEARS, curve, color=BLUE, linewidth=1.8, gid="curve")
    last = found.fit.flops_range["retro"][1]
    decades = math.log10(frontier_history.COMPUTE.at(2023) / last)
    year = int(np.argmin(np.abs(YEARS - 2023)))
    interval = ends[year]
    spread = "no interval" if interval is None else f"{digits(interval[0], 2)} to {digits(interval[1], 2)}"
    # Nothing is drawn before 2017 but the line at 1: room for words.
    axes.text(
        0.02, 0.97, f"2023: {digits(float(curve[year]))}×\n({spread};\n{percent(found.boot.level)} band)\n"
        f"laws extrapolated\nby {decades:.1f} decades",
        transform=axes.transAxes, va="top", fontsize=9,
    )  # fmt: skip
