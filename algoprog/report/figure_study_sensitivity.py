"""How the gain follows from the gap between two exponents, and where the other line is turned when the gap changes."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from algoprog.report.figure_study import LEFT, RIGHT, say, study_figure
from algoprog.report.numbers import flops, percent, with_interval
from algoprog.report.study_runs import Part
from algoprog.report.style import BLUE, DARK, VERMILLION, drawing, power_of_ten, ratio_axis
from algoprog.scaling import Analysis
from algoprog.scaling.ceg import law_gain
from algoprog.scaling.intervals.bootstrap import percentiles
from algoprog.scaling.published import frontier_history, scaling_laws
from algoprog.scaling.published.derived import total_at_gap, turned
from algoprog.scaling.study import overlap_centre

SHARES = np.linspace(-0.3, 0.3, 61)
MIDDLE = 2e16
"""FLOPs: the middle, in ln C, of the data under the study's LSTM line."""

STUDY_WAY: dict[str, Any] = {"color": BLUE, "linestyle": "-"}
OUR_WAY: dict[str, Any] = {"color": VERMILLION, "linestyle": "--"}


def study_sensitivity_figure(ours: Part[Analysis], caption: str) -> Figure:
    """Gain over the gap between the exponents of modern and LSTM; axes are not shared, since the computes are far apart."""
    with drawing():
        figure = study_figure(4.3, caption)
        left, right = figure.subplots(1, 2)
        _theirs(left)
        _ours(right, ours)
        for axes, title in ((left, LEFT), (right, RIGHT)):
            axes.set_title(title)
            axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
            axes.set_xlabel("gap: exponent of modern − exponent of LSTM")
        left.set_ylabel("total 2012–2023 over the LSTM")
        return figure


def _theirs(axes: Axes) -> None:
    end = frontier_history.END_FLOPS[2023]
    gap = scaling_laws.line("modern").alpha - scaling_laws.line("lstm").alpha
    for about, look, name in (
        (1.0, STUDY_WAY, "about C = 1, as the study does"), (MIDDLE, OUR_WAY, f"about {flops(MIDDLE, 1)}, its data")
    ):  # fmt: skip
        totals = [total_at_gap(float(share), end, about) for share in SHARES]
        axes.plot(gap * (1 + SHARES), totals, linewidth=1.8, label=name, gid="curve", **look)
    for number in frontier_history.SENSITIVITY:
        share = frontier_history.GAP_CHANGES[number.name]
        axes.plot(
            [gap * (1 + share)], [number.value], color=BLUE, marker="o", markersize=7, linestyle="none", gid="printed"
        )
    total = frontier_history.TOTALS[0].value
    axes.plot([gap], [total], color=DARK, marker="D", markersize=7, linestyle="none", gid="base")
    axes.annotate(f"published, {total:,.0f}×", (gap, total), xytext=(8, -14), textcoords="offset points")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: power_of_ten(value) + "×"))
    axes.yaxis.set_minor_locator(NullLocator())
    _legend(axes, "LSTM line turned")


def _ours(axes: Axes, ours: Part[Analysis]) -> None:
    found = ours.value
    if found is None or not {"lstm", "modern"} <= set(found.fit.laws):
        say(axes, ours.why or "Our runs give no law of both lstm and modern.")
        return
    pair = next(one for one in found.gains if (one.a, one.b) == ("lstm", "modern"))
    gain = pair.at_largest or pair.at_centre
    if gain is None:
        say(axes, "Our runs of lstm and modern have no compute in common.")
        return
    lstm, modern = (found.fit.laws[arch] for arch in ("lstm", "modern"))
    gap = modern.alpha - lstm.alpha
    gaps = percentiles(found.boot.law("modern").alpha - found.boot.law("lstm").alpha, found.boot.level)
    reach = max(0.3 * abs(gap), 0.005, *(1.1 * abs(end - gap) for end in gaps or ()))
    # The turned law must still fall with compute.
    grid = np.linspace(gap - reach, min(gap + reach, 0.9 * modern.alpha), 61)
    centre, _ = overlap_centre(found.fit, "lstm", "modern")
    curves = {}
    for about, look in ((1.0, STUDY_WAY), (centre, OUR_WAY)):
        curves[about] = [law_gain(turned(lstm, modern.alpha - float(x), about), modern, gain.flops_b) for x in grid]
        name = "about C = 1, as the study does" if about == 1.0 else f"about {flops(about)}, our data"
        axes.plot(grid, curves[about], linewidth=1.8, label=name, gid="curve", **look)
    axes.plot([gap], [gain.gain], color=DARK, marker="D", markersize=7, linestyle="none", gid="base")
    for ends, across in ((gaps, True), (gain.interval, False)):
        if ends is not None:
            x, y = (ends, [gain.gain] * 2) if across else ([gap] * 2, ends)
            axes.plot(x, y, color=DARK, linewidth=1.6, solid_capstyle="butt", gid="interval")
    seen = [1.0, *curves[centre], *(gain.interval or ())]
    ratio_axis(axes, min(seen) / 1.2, max(seen) * (max(seen) / min(seen)) ** 0.7 * 1.5)
    axes.axhline(1.0, color=DARK, linewidth=1.0)
    told = f"gap {with_interval(gap, gaps)}\ngain {with_interval(gain.gain, gain.interval)}"
    title = f"{told}\n({percent(found.boot.level)} intervals) at {flops(gain.flops_b)} FLOPs\nLSTM law turned"
    _legend(axes, title)
    axes.set_ylabel("gain of modern over LSTM")


def _legend(axes: Axes, title: str) -> None:
    """On white, because a steep curve may pass behind it."""
    axes.legend(
        title=title,
        title_fontsize=9,
        loc="upper left",
        alignment="left",
        frameon=True,
        framealpha=1.0,
        edgecolor="white",
    )
