"""IsoFLOP slices: the loss against size at every budget with the fitted minima, and how the optimal size grows."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from algoprog.report.figure_surface import COLOURS, log_y
from algoprog.report.numbers import count, flops, percent, with_interval
from algoprog.report.style import DARK, DASHED, GREY, drawing, flops_axis, new_figure
from algoprog.scaling import InputError, Isoflop, IsoflopBootstrap, Slice
from algoprog.scaling.isoflop.bias import slice_shape
from algoprog.scaling.laws import FloatArray

GRID = 80
SHORT = {
    "few_sizes": "few sizes",
    "no_minimum": "no minimum",
    "edge": "best at an edge",
    "one_sided": "one-sided",
    "wide": "wide",
    "off_centre": "off centre",
    "flat": "flat",
}


def isoflop_figure(found: Isoflop, boot: IsoflopBootstrap | None = None) -> Figure:
    """Above: loss against parameters, one colour per budget, with the fitted curve and its minimum. Below: N* against
    compute with intervals and the fitted line, and beside it the optimum of the surface that gives the slices their shape.

    A filled diamond is a minimum that counts; a slice that failed its bracketing checks is drawn hollow or named in the
    key. Raises InputError if no budget has a fitted minimum.
    """
    if not any(np.isfinite(one.params) for one in found.slices):
        raise InputError("no slice to draw", got=count(len(found.slices), "budget"), expected="a fitted minimum")
    with drawing():
        figure = new_figure(7.4)
        above, below = figure.subplots(2, 1, height_ratios=[1.35, 1])
        colours = _colours(len(found.slices))
        _draw_slices(above, found, colours)
        _draw_sizes(below, found, boot, colours)
        labels, handles = zip(*_legend(found, boot, colours), strict=True)
        figure.legend(handles, labels, loc="outside lower center", ncols=2, columnspacing=1.4, handlelength=2.0)
        return figure


def _colours(n: int) -> list[str]:
    """From dark to light along the common colour map, its palest end left out."""
    return [to_hex(colour) for colour in matplotlib.colormaps[COLOURS](np.linspace(0.0, 0.88, n))]


def fitted_loss(found: Isoflop, one: Slice, params: FloatArray) -> FloatArray:
    """The slice's fitted curve in nats per token at ``params``."""
    u = np.log(params / one.params)
    if found.method == "parabola" or found.shape is None:
        return np.asarray(one.loss + 0.5 * one.curvature * u**2)
    alpha, beta = found.shape
    return one.loss + one.curvature / (alpha * beta) * slice_shape(u, alpha, beta)


def _draw_slices(axes: Axes, found: Isoflop, colours: list[str]) -> None:
    data = found.points
    flops_axis(axes, data.params_range[0] / 1.6, data.params_range[1] * 1.6)
    for g, (one, colour) in enumerate(zip(found.slices, colours, strict=True)):
        mine = found.groups == g
        fill = colour if one.used else "white"
        axes.plot(
            data.params[mine], data.loss[mine], "o", color=colour, markerfacecolor=fill, markersize=4, gid=f"runs-{g}"
        )
        if not np.isfinite(one.params):
            continue
        low, high = one.params_range
        grid = np.geomspace(min(low, one.params), max(high, one.params), GRID)
        axes.plot(
            grid,
            fitted_loss(found, one, grid),
            color=colour,
            linewidth=1.4,
            linestyle="-" if one.used else DASHED,
            gid=f"curve-{g}",
        )
        look: dict[str, Any] = {"markerfacecolor": fill, "markeredgecolor": DARK, "markeredgewidth": 1.0}
        axes.plot([one.params], [one.loss], "D", markersize=7, zorder=5, gid=f"minimum-{g}", **look)
    axes.set_xlabel("parameters N")
    axes.set_ylabel("loss (nats per token)")
    way = "the surface's shape" if found.method == "shape" else "a parabola in ln N"
    axes.set_title(f"loss against size at each budget, fitted with {way}")


def _draw_sizes(axes: Axes, found: Isoflop, boot: IsoflopBootstrap | None, colours: list[str]) -> None:
    budgets = np.array([one.flops for one in found.slices])
    flops_axis(axes, budgets.min() / 2, budgets.max() * 2)
    sizes = [one.params for one in found.slices if np.isfinite(one.params)]
    low, high = min(sizes), max(sizes)
    used = 0
    for one, colour in zip(found.slices, colours, strict=True):
        if not np.isfinite(one.params):
            continue
        ends = boot.params_interval(used) if boot is not None and one.used else None
        used += one.used
        if ends is not None:
            # Ends wider than the diamond: an interval shorter than the marker would hide behind it.
            axes.plot(
                [one.flops] * 2, ends, color=colour, linewidth=3, marker="_", markersize=13, markeredgewidth=1.4,
                solid_capstyle="butt", zorder=3.5, gid="interval",
            )  # fmt: skip
            low, high = min(low, ends[0]), max(high, ends[1])
        axes.plot(
            [one.flops], [one.params], "D", markersize=5.5, markerfacecolor=colour if one.used else "white",
            markeredgecolor=DARK, markeredgewidth=0.8, zorder=4, gid="size",
        )  # fmt: skip
    title = "optimal size against compute"
    if found.allocation is not None:
        grid = np.geomspace(budgets.min(), budgets.max(), GRID)
        line = np.array([found.allocation.optimal(float(value))[0] for value in grid])
        axes.plot(grid, line, color=DARK, linewidth=1.4, zorder=3, gid="allocation")
        interval = boot.intervals["a"] if boot is not None else None
        level = f" ({percent(boot.level)})" if boot is not None else ""
        title = f"optimal size: N* grows as C to the power {with_interval(found.allocation.a, interval)}{level}"
    surface = found.surface.surface if found.surface is not None else None
    if surface is not None:
        ends = surface.optimal(float(budgets.min()))[0], surface.optimal(float(budgets.max()))[0]
        axes.plot(
            [budgets.min(), budgets.max()], ends, color=GREY, linewidth=1.4, linestyle=DASHED, zorder=2, gid="surface"
        )
        low, high = min(low, *ends), max(high, *ends)
    log_y(axes, low / 1.5, high * 1.5)
    axes.set_xlabel("training compute (FLOPs)")
    axes.set_ylabel("optimal parameters N*")
    axes.set_title(title)


def _legend(found: Isoflop, boot: IsoflopBootstrap | None, colours: list[str]) -> list[tuple[str, Line2D]]:
    """Every budget with what its checks found, then what the signs mean."""
    entries = []
    for one, colour in zip(found.slices, colours, strict=True):
        told = ", ".join(SHORT[flag] for flag in one.flags)
        left_out = "" if one.used else "; left out"
        label = f"{flops(one.flops)} FLOPs" + (f": {told}{left_out}" if told else "")
        fill = colour if one.used else "white"
        entries.append((label, Line2D([], [], color=colour, marker="o", markerfacecolor=fill, markersize=5)))
    grey: dict[str, Any] = {"markeredgecolor": DARK, "linestyle": "none", "marker": "D", "markersize": 6}
    entries.append(("fitted minimum", Line2D([], [], markerfacecolor=GREY, **grey)))
    if boot is not None:
        entries.append((f"{percent(boot.level)} interval", Line2D([], [], color=GREY, linewidth=3)))
    if found.allocation is not None:
        entries.append(("line through the minima", Line2D([], [], color=DARK, linewidth=1.4)))
    if found.surface is not None and found.surface.surface is not None:
        entries.append(("optimum of the surface", Line2D([], [], color=GREY, linewidth=1.4, linestyle=DASHED)))
    return entries
