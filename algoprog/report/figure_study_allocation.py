"""Kaplan's division of compute against the optimal one: the factor of compute it wastes, over compute."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from algoprog.report.figure_study import LEFT, RIGHT, say, study_figure
from algoprog.report.kaplan_policy import our_policy, waste_band
from algoprog.report.numbers import percent, with_interval
from algoprog.report.study_runs import Part
from algoprog.report.style import BLUE, DARK, DASHED, drawing, flops_axis, ratio_axis
from algoprog.scaling.allocation import AllocationGain
from algoprog.scaling.published import frontier_history
from algoprog.scaling.search import Status
from algoprog.scaling.surface.study import SurfaceAnalysis

LOW, HIGH = 1e16, 1e24
REACH = 3.0  # ours is drawn this factor of compute beyond the runs
GRID = 120
HIGHEST = 30.0


def study_allocation_figure(ours: Part[SurfaceAnalysis], caption: str) -> Figure:
    """The factor over compute, with the printed values left and the band of our surface right; a common axis of factors."""
    with drawing():
        figure = study_figure(4.1, caption)
        left, right = figure.subplots(1, 2, sharey=True)
        top = _theirs(left)
        if ours.value is None:
            say(right, ours.why)
        else:
            top = max(top, _ours(right, ours.value))
        ratio_axis(left, 0.85, min(top, HIGHEST) * 1.25)
        for axes, title in ((left, LEFT), (right, RIGHT)):
            axes.axhline(1.0, color=DARK, linewidth=1.0)
            axes.set_title(title)
            axes.set_xlabel("compute spent under Kaplan's exponent (FLOPs)")
        left.set_ylabel("compute wasted: policy / optimum")
        return figure


def _theirs(axes: Axes) -> float:
    grid = np.geomspace(LOW, HIGH, GRID)
    curve = np.exp(frontier_history.allocation_gain().log_old(np.log(grid)))
    axes.plot(grid, curve, color=BLUE, linewidth=1.8, gid="curve")
    ends = list(frontier_history.END_FLOPS.items())
    for (year, flops), number in zip(ends, frontier_history.ALLOCATION_GAINS, strict=True):
        axes.plot([flops], [number.value], color=BLUE, marker="o", markersize=7, linestyle="none", gid="printed")
        axes.annotate(
            f"{number.value:g}× in {year}",
            (flops, number.value),
            xytext=(-8, 2),
            textcoords="offset points",
            ha="right",
        )
    flops_axis(axes, LOW, HIGH)
    return float(curve.max())


def _ours(axes: Axes, found: SurfaceAnalysis) -> float:
    surface = found.fit.surface
    assert surface is not None
    data = found.fit.points
    spent = data.params * data.tokens * surface.flops_per_param_token
    low, high = float(spent.min()), float(spent.max())
    policy = our_policy(surface, low, high)
    grid = np.geomspace(low / REACH, high * REACH, GRID)
    curve = np.exp(AllocationGain(surface, policy).log_old(np.log(grid)))
    inside = (grid >= low) & (grid <= high)
    band = waste_band(found, policy, grid)
    if band is not None:
        axes.fill_between(grid, *band, color=BLUE, alpha=0.12, linewidth=0, gid="band")
        axes.fill_between(grid, *band, where=inside.tolist(), color=BLUE, alpha=0.15, linewidth=0)
    axes.plot(grid, curve, color=BLUE, linewidth=1.3, linestyle=DASHED, gid="curve")
    axes.plot(grid[inside], curve[inside], color=BLUE, linewidth=1.8)
    exponent = with_interval(surface.a_N, found.boot.intervals.get("a_N"))
    doubt = "" if found.fit.status is Status.CONVERGED else "\na parameter of the surface sits at its bound"
    told = f"optimal exponent of N {exponent}\nagainst Kaplan's {policy.p:g}; {percent(found.boot.level)} band{doubt}"
    axes.text(0.5, 0.95, told, transform=axes.transAxes, ha="center", va="top", fontsize=9)
    flops_axis(axes, low / REACH, high * REACH)
    top = float(curve.max()) if band is None else float(band[1].max())
    return top * 1.6  # room for the text
