"""What a study can see: power against the gap between two exponents, and runs against decades of compute."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from algoprog.report.style import BLACK, BLUE, DARK, DASHED, GREEN, GREY, ORANGE, VERMILLION, drawing, new_figure
from algoprog.scaling.planning.information import DETECTABLE
from algoprog.scaling.planning.power import GapStudy, gap_errors
from algoprog.scaling.planning.report import PowerReport

LINES = ((GREEN, "-"), (BLUE, "-"), (ORANGE, "-"), (VERMILLION, "-"), (BLACK, "-"))
TWO_SIDED = 1.959964  # z(.975)
WIDEST_GAP = 3.0  # the axis of gaps ends at so many times the gap of the study
REAL = 6  # runs below which a count is formal


def power_figure(report: PowerReport) -> Figure:
    """Left: power of the design to see a gap, per range of compute, with the simulated check. Right: runs for 80 %."""
    with drawing():
        figure = new_figure(4.0)
        left, right = figure.subplots(1, 2)
        _draw_power(left, report)
        _draw_runs(right, report.study)
        return figure


def _draw_power(axes: Axes, report: PowerReport) -> None:
    from scipy.special import ndtr

    study = report.study
    gaps = np.linspace(0.0, WIDEST_GAP * abs(study.gap), 200)
    wanted = sorted({2.0, 3.0, 4.0, study.decades})
    for (colour, dashes), decades in zip(LINES, wanted, strict=False):
        error = gap_errors(study.over(decades)).shared
        power = ndtr(gaps / error - TWO_SIDED) + ndtr(-gaps / error - TWO_SIDED)
        axes.plot(
            gaps, 100 * power, color=colour, linestyle=dashes, linewidth=1.6, label=f"{decades:g} decades", gid="power"
        )
    check = report.check
    low, high = check.power_interval
    middle = 100 * check.power
    axes.errorbar(
        [abs(study.gap)], [middle], yerr=[[middle - 100 * low], [100 * high - middle]], color=BLACK, marker="o",
        markersize=5, capsize=3, linestyle="none", label=f"simulated, {study.decades:g} decades",
    )  # fmt: skip
    axes.axhline(80.0, color=GREY, linewidth=1.2, linestyle=DASHED)
    axes.set_ylim(0, 104)
    axes.set_xlim(0, gaps[-1])
    axes.set_xlabel("gap between the exponents")
    axes.set_ylabel("studies that see it (%)")
    axes.set_title(f"{study.points} runs each, one E shared")
    axes.legend(loc="lower right")


def _draw_runs(axes: Axes, study: GapStudy) -> None:
    decades = np.linspace(0.75, 5.0, 60)
    errors = [gap_errors(study.over(float(value))) for value in decades]
    for colour, name, label in (
        (GREEN, "known", "E known"),
        (BLUE, "shared", "one E shared"),
        (VERMILLION, "separate", "E separate"),
    ):
        runs = [study.points * (DETECTABLE * getattr(error, name) / study.gap) ** 2 for error in errors]
        axes.plot(decades, runs, color=colour, linewidth=1.6, label=label, gid=name)
    axes.axhspan(0.4, REAL, color=GREY, alpha=0.18, linewidth=0)
    axes.annotate("too few for a law", (0.8, 0.66), ha="left", va="center", fontsize=9, color=DARK)
    axes.set_yscale("log")
    top = max(study.points * (DETECTABLE * error.separate / study.gap) ** 2 for error in errors)
    axes.set_ylim(0.45, 2 * top)
    powers = range(int(np.log10(2 * top)) + 1)
    axes.yaxis.set_major_locator(FixedLocator([10.0**power for power in powers]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("decades of compute")
    axes.set_ylabel("runs per architecture")
    axes.set_title(f"80 % power at a gap of {abs(study.gap):g}")
    axes.legend(loc="upper right")
