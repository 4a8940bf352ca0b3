"""Loss against compute of LSTM, retro and modern transformer, a row each: the study's lines and points, and ours."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from algoprog.report.figure_loss import _band as law_band
from algoprog.report.figure_loss import _draw_points as draw_points
from algoprog.report.figure_study import LEFT, RIGHT, say, study_figure
from algoprog.report.numbers import digits, percent, with_interval
from algoprog.report.study_runs import CLASSES, Part
from algoprog.report.style import DASHED, KNOWN, drawing, flops_axis
from algoprog.scaling import Analysis
from algoprog.scaling.published import scaling_laws

GRID = 120
REACH = 3.0  # a line is drawn this factor of compute beyond the points


def study_scaling_figure(ours: Part[Analysis], caption: str) -> Figure:
    """Three rows; axes are shared within a column, where corpus and tokenizer are the same.

    Lines are solid over the compute that they were fitted to and dashed outside; filled points of ours are on the frontier.
    """
    with drawing():
        figure = study_figure(8.6, caption)
        rows = figure.subplots(len(CLASSES), 2, sharex="col", sharey="col")
        for (left, right), arch in zip(rows, CLASSES, strict=True):
            _theirs(left, arch)
            _ours(right, arch, ours)
            left.set_ylabel(f"{arch}: loss (nats/token)")
        rows[0][0].set_title(LEFT)
        rows[0][1].set_title(RIGHT)
        points = scaling_laws.POINTS
        _compute_axis(rows[-1][0], min(p.flops for p in points), max(p.flops for p in points))
        if ours.value is not None:
            _compute_axis(rows[-1][1], float(ours.value.points["flops"].min()), float(ours.value.points["flops"].max()))
        for axes in rows[-1]:
            axes.set_xlabel("training compute (FLOPs)")
        return figure


def _compute_axis(axes: Axes, low: float, high: float) -> None:
    flops_axis(axes, low / REACH, high * REACH)


def _theirs(axes: Axes, arch: str) -> None:
    look, law = KNOWN[arch], scaling_laws.line(arch)
    points = [point for point in scaling_laws.POINTS if point.arch == arch]
    flops, losses = [point.flops for point in points], [point.loss for point in points]
    first, last = scaling_laws.FLOPS_RANGE[arch]
    start, stop = (end(point.flops for point in scaling_laws.POINTS) for end in (min, max))
    for low, high, style in ((start / REACH, first, DASHED), (first, last, "-"), (last, stop * REACH, DASHED)):
        grid = np.geomspace(low, high, GRID)
        axes.plot(grid, law.loss(grid), color=look.colour, linestyle=style, linewidth=1.6, gid=f"line-{arch}")
    axes.plot(
        flops, losses, color=look.colour, marker=look.marker, markersize=6, linestyle="none", markeredgecolor="white",
        gid=f"points-{arch}",
    )  # fmt: skip
    _write(axes, f"{law.E:g} + {law.A:g} C^−{law.alpha:g}\n(no interval)")


def _ours(axes: Axes, arch: str, ours: Part[Analysis]) -> None:
    found = ours.value
    if found is None or arch not in set(found.points["arch"]):
        say(axes, ours.why or f"No finished run of {arch}.")
        return
    look = KNOWN[arch]
    if arch in found.fit.laws:
        first, last = found.fit.flops_range[arch]
        low, high = float(found.points["flops"].min()) / REACH, float(found.points["flops"].max()) * REACH
        for start, stop, inside in ((low, first, False), (first, last, True), (last, high, False)):
            grid = np.geomspace(start, stop, GRID)
            band = law_band(found, arch, grid)
            if band is not None:
                axes.fill_between(
                    grid, *band, color=look.colour, alpha=0.25 if inside else 0.1, linewidth=0, gid="band"
                )
            axes.plot(
                grid, found.fit.laws[arch].loss(grid), color=look.colour, linestyle="-" if inside else DASHED,
                linewidth=1.6, gid=f"line-{arch}",
            )  # fmt: skip
        row = next(row for row in found.laws if row.arch == arch)
        told = f"E {digits(row.law.E)}; {percent(found.boot.level)} interval and band"
        _write(axes, f"exponent {with_interval(row.law.alpha, row.alpha)}\n{told}")
    else:
        _write(axes, "too few points for a law")
    draw_points(axes, found, arch, look)


def _write(axes: Axes, text: str) -> None:
    axes.text(0.97, 0.95, text, transform=axes.transAxes, ha="right", va="top", fontsize=9)
