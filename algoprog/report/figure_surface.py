"""The fitted surface over parameters and tokens: runs, curves of equal loss and equal compute, the optimal sizes."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter

from algoprog.report.numbers import digits, percent, with_interval
from algoprog.report.style import DARK, DASHED, GREY, drawing, flops_axis, new_figure, power_of_ten
from algoprog.scaling import InputError, Surface, SurfaceAnalysis
from algoprog.scaling.laws import FloatArray

MARGIN = 0.3  # decades of parameters and tokens shown beyond the points
GRID = 160
CONTOURS = 8
COLOURS = "cividis"  # its lightness rises throughout, so that it reads the same to everyone and in grey


def surface_figure(found: SurfaceAnalysis) -> Figure:
    """Tokens against parameters, both logarithmic, for one architecture.

    Points: runs, coloured by measured loss. Solid thin curves: equal fitted loss, in nats per token. Grey dotted lines:
    equal compute. Thick line: the fitted compute-optimal sizes, dashed outside the compute of the runs. Raises
    InputError if no surface was fitted.
    """
    surface = found.fit.surface
    if surface is None:
        raise InputError("no surface to draw", got=found.fit.reason, expected="an architecture with a fitted surface")
    with drawing():
        figure = new_figure(5.2)
        axes = figure.add_subplot()
        data = found.fit.points
        x, y = _room(data.params_range), _room(data.tokens_range)
        flops_axis(axes, *x)
        log_y(axes, *y)
        axes.set_xlabel("parameters N")
        axes.set_ylabel("tokens D")
        norm = Normalize(float(data.loss.min()), float(data.loss.max()))
        _draw_equal_compute(axes, surface, x, y)
        _draw_equal_loss(axes, surface, x, y, norm)
        _draw_optimum(axes, surface, data.flops_range)
        dots = axes.scatter(
            data.params, data.tokens, c=data.loss, cmap=COLOURS, norm=norm, s=20, edgecolors="white", linewidths=0.5,
            zorder=4, gid="runs",
        )  # fmt: skip
        bar = figure.colorbar(dots, ax=axes, pad=0.02, fraction=0.05)
        bar.set_label("loss (nats per token)")
        bar.outline.set_visible(False)
        axes.set_title(_title(found))
        labels, handles = zip(*_legend(), strict=True)
        figure.legend(handles, labels, loc="outside lower center", ncols=2, columnspacing=1.4, handlelength=2.4)
        return figure


def _title(found: SurfaceAnalysis) -> str:
    surface, boot = found.fit.surface, found.boot
    assert surface is not None
    name = "" if found.arch == "all" else f"{found.arch}: "
    a = with_interval(surface.a_N, boot.intervals["a_N"])
    e = with_interval(surface.E, boot.intervals["E"])
    return f"{name}optimal N grows as C to the power {a},\nE = {e} nats; intervals {percent(boot.level)}"


def _room(extent: tuple[float, float]) -> tuple[float, float]:
    return extent[0] / 10**MARGIN, extent[1] * 10**MARGIN


def log_y(axes: Axes, low: float, high: float) -> None:
    """A logarithmic y axis with labels at powers of ten."""
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    powers = range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
    axes.yaxis.set_major_locator(FixedLocator([10.0**p for p in powers]))
    axes.yaxis.set_major_formatter(FuncFormatter(power_of_ten))
    axes.yaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))


def _mesh(x: tuple[float, float], y: tuple[float, float]) -> tuple[FloatArray, FloatArray]:
    n, d = np.meshgrid(np.geomspace(*x, GRID), np.geomspace(*y, GRID))
    return n, d


def _draw_equal_compute(axes: Axes, surface: Surface, x: tuple[float, float], y: tuple[float, float]) -> None:
    k = surface.flops_per_param_token
    low, high = k * x[0] * y[0], k * x[1] * y[1]
    powers = list(range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1))
    for power in powers:
        n = np.geomspace(*x, GRID)
        axes.plot(n, 10.0**power / k / n, color=GREY, linewidth=0.9, linestyle=(0, (1, 1.8)), zorder=1.5, gid="flops")
        # Labels sit where a line of equal compute enters the view: on the upper or on the left edge.
        top, left = 10.0**power / k / y[1], 10.0**power / k / x[0]
        if x[0] < top < x[1] / 1.3:
            _label(axes, power_of_ten(10.0**power), (top, y[1]), (1, -2))
        elif y[0] < left < y[1]:
            _label(axes, power_of_ten(10.0**power), (x[0], left), (3, -4))


def _label(axes: Axes, text: str, at: tuple[float, float], offset: tuple[float, float]) -> None:
    axes.annotate(
        text,
        at,
        xytext=offset,
        textcoords="offset points",
        ha="left",
        va="top",
        fontsize=8,
        color=DARK,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.6},
        zorder=6,
    )


def _draw_equal_loss(
    axes: Axes, surface: Surface, x: tuple[float, float], y: tuple[float, float], norm: Normalize
) -> None:
    n, d = _mesh(x, y)
    loss = surface.loss(n, d)
    # Equal steps of the reducible loss in logarithms: equal steps of the loss would crowd at small models.
    low, high = float(loss.min()) - surface.E, float(norm.vmax or loss.max()) - surface.E
    levels = surface.E + np.geomspace(low * 1.05, high, CONTOURS)
    curves = axes.contour(n, d, loss, levels=levels, cmap=COLOURS, norm=norm, linewidths=1.0, zorder=2)
    axes.clabel(curves, fmt=lambda value: digits(float(value)), fontsize=8, inline_spacing=3, colors=DARK)


def _draw_optimum(axes: Axes, surface: Surface, flops_range: tuple[float, float]) -> None:
    low, high = flops_range
    for first, last, inside in ((low / 1e3, low, False), (low, high, True), (high, high * 1e3, False)):
        n, d = surface.optimal(np.geomspace(first, last, GRID))
        axes.plot(
            n,
            d,
            color=DARK,
            linewidth=2.2 if inside else 1.4,
            linestyle="-" if inside else DASHED,
            zorder=3,
            gid="optimum-fitted" if inside else "optimum-extrapolated",
        )


def _legend() -> list[tuple[str, Line2D]]:
    return [
        ("run, coloured by its loss", Line2D([], [], color=GREY, marker="o", linestyle="none", markersize=5)),
        ("optimal N and D, inside the runs' compute", Line2D([], [], color=DARK, linewidth=2.2)),
        ("equal fitted loss", Line2D([], [], color="#5b626e", linewidth=1.0)),
        ("the same, extrapolated", Line2D([], [], color=DARK, linewidth=1.4, linestyle=DASHED)),
        ("equal compute, labelled in FLOPs", Line2D([], [], color=GREY, linewidth=0.9, linestyle=(0, (1, 1.8)))),
    ]
