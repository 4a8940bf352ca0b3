"""Loss against training compute: curves, final points, and the fitted law of every architecture with its band."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from algoprog.report.numbers import digits, percent
from algoprog.report.style import DARK, DASHED, GREY, Handle, Look, drawing, flops_axis, law_handle, looks, new_figure
from algoprog.scaling import Analysis
from algoprog.scaling.intervals.bootstrap import percentiles
from algoprog.scaling.laws import FloatArray

BEFORE, AFTER = 0.25, 1.0  # decades of compute shown before the first and after the last final point
BASELINES = ("unigram", "bigram")
NEAR = 0.4  # a baseline this part of the height beyond the data is still shown
GRID = 120


def loss_figure(
    analysis: Analysis, curves: Sequence[Mapping[str, Any]], baselines: Mapping[str, float] | None = None
) -> Figure:
    """Loss (nats per token) against training FLOPs.

    ``curves``: rows with ``run, arch, flops, loss`` as from ``Store.curves``; ``baselines``: losses by name, of which
    unigram and bigram are drawn where they are near the data. Filled points are on the frontier that the law is fitted
    to. A law is solid where it was fitted and dashed outside, at most one decade beyond the last point.
    """
    with drawing():
        figure = new_figure(5.0)
        axes = figure.add_subplot()
        look = looks(analysis.points["arch"], (str(row["arch"]) for row in curves))
        view = _view(analysis, baselines or {})
        flops_axis(axes, *view.flops)
        axes.set_ylim(*view.loss)
        axes.set_xlabel("training compute (FLOPs)")
        axes.set_ylabel("loss (nats per token)")
        _draw_curves(axes, curves, look)
        _draw_baselines(axes, baselines or {}, view)
        for arch in analysis.fit.archs:
            _draw_law(axes, analysis, arch, look[arch], view)
        for arch in sorted(set(analysis.points["arch"])):
            _draw_points(axes, analysis, arch, look[arch])
        labels, handles = zip(*_legend(analysis, look, bool(curves)), strict=True)
        figure.legend(handles, labels, loc="outside lower center", ncols=3, columnspacing=1.4, handlelength=2.4)
        return figure


@dataclass(frozen=True)
class _View:
    """The visible part of the plane."""

    flops: tuple[float, float]
    loss: tuple[float, float]


def _view(analysis: Analysis, baselines: Mapping[str, float]) -> _View:
    points = analysis.points
    flops = (float(points["flops"].min()) / 10**BEFORE, float(points["flops"].max()) * 10**AFTER)
    seen = [float(value) for value in points["loss"]]
    for arch, law in analysis.fit.laws.items():
        first, last = analysis.fit.flops_range[arch]
        seen += [law.loss(max(first / 10**BEFORE, flops[0])), law.loss(min(last * 10**AFTER, flops[1]))]
    low, high = min(seen), max(seen)
    height = (high - low) or 0.1 * high
    near = [baselines[name] for name in BASELINES if name in baselines]
    near = [value for value in near if low - NEAR * height <= value <= high + NEAR * height]
    low, high = min([low, *near]), max([high, *near])
    margin = 0.06 * (high - low or height)
    return _View(flops, (low - margin, high + margin))


def _draw_curves(axes: Axes, curves: Sequence[Mapping[str, Any]], look: Mapping[str, Look]) -> None:
    if not curves:
        return
    table = pd.DataFrame([{name: row[name] for name in ("run", "arch", "flops", "loss")} for row in curves])
    for arch, rows in table.groupby("arch"):
        lines = [part[["flops", "loss"]].to_numpy(dtype=np.float64) for _, part in rows.groupby("run", sort=False)]
        axes.add_collection(
            LineCollection(lines, colors=look[str(arch)].colour, linewidths=0.5, alpha=0.18, zorder=1.5), autolim=False
        )


def _draw_baselines(axes: Axes, baselines: Mapping[str, float], view: _View) -> None:
    low, high = view.loss
    for name in BASELINES:
        if name not in baselines or not low <= baselines[name] <= high:
            continue
        value = baselines[name]
        axes.axhline(value, color=GREY, linewidth=1.0, linestyle=(0, (1, 1.5)), zorder=1.6, gid=f"baseline-{name}")
        # Losses fall to the right: above the middle the right end is free, below it the left one.
        right = value > (low + high) / 2
        axes.annotate(
            f"{name} {digits(value)}",
            (1.0 if right else 0.0, value),
            xycoords=("axes fraction", "data"),
            xytext=(-3 if right else 3, -3 if right else 3),
            textcoords="offset points",
            ha="right" if right else "left",
            va="top" if right else "bottom",
            fontsize=9,
            color=DARK,
            zorder=6,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.8},
        )


def _draw_law(axes: Axes, analysis: Analysis, arch: str, look: Look, view: _View) -> None:
    law, (first, last) = analysis.fit.laws[arch], analysis.fit.flops_range[arch]
    start, stop = max(first / 10**BEFORE, view.flops[0]), min(last * 10**AFTER, view.flops[1])
    for low, high, inside in ((start, first, False), (first, last, True), (last, stop, False)):
        if low >= high:
            continue
        grid = np.geomspace(low, high, GRID)
        band = _band(analysis, arch, grid)
        if band is not None:
            axes.fill_between(grid, *band, color=look.colour, alpha=0.15 if inside else 0.06, linewidth=0, zorder=2)
            for edge in band:  # where bands overlap, only their edges tell whose is whose
                axes.plot(grid, edge, color=look.colour, linewidth=0.6, alpha=0.8 if inside else 0.35, zorder=2.5)
        axes.plot(
            grid,
            law.loss(grid),
            color=look.colour,
            linewidth=1.8 if inside else 1.3,
            linestyle="-" if inside else DASHED,
            gid=f"law-{arch}-{'fitted' if inside else 'extrapolated'}",
            zorder=3,
        )


def _band(analysis: Analysis, arch: str, grid: FloatArray) -> tuple[FloatArray, FloatArray] | None:
    """Pointwise interval of the law at every compute of ``grid``; None without a fitted draw."""
    draws = analysis.boot.law(arch)
    if draws.E.size == 0:
        return None
    with np.errstate(over="ignore"):
        columns = [draws.E + np.exp(draws.log_reducible(np.asarray(x))) for x in np.log(grid)]
    ends = [percentiles(column, analysis.boot.level) for column in columns]
    lows, highs = zip(*(end for end in ends if end is not None), strict=True)
    return np.array(lows), np.array(highs)


def _draw_points(axes: Axes, analysis: Analysis, arch: str, look: Look) -> None:
    rows, frontier = analysis.points, analysis.frontier
    rows, chosen = rows[rows["arch"] == arch], frontier[frontier["arch"] == arch]
    on_frontier = set(zip(chosen["flops"], chosen["loss"], strict=True))
    others = [pair for pair in zip(rows["flops"], rows["loss"], strict=True) if pair not in on_frontier]
    common: dict[str, Any] = {"linestyle": "none", "marker": look.marker, "markersize": 5.5, "color": look.colour}
    if others:
        x, y = zip(*others, strict=True)
        axes.plot(x, y, markerfacecolor="white", markeredgewidth=0.9, gid=f"other-{arch}", zorder=4, **common)
    # On top of the hollow points of every architecture: these are what the laws are fitted to.
    edge: dict[str, Any] = {"markeredgecolor": "white", "markeredgewidth": 0.5}
    axes.plot(chosen["flops"], chosen["loss"], gid=f"frontier-{arch}", zorder=5, **edge, **common)


def _legend(analysis: Analysis, look: Mapping[str, Look], curves: bool) -> list[tuple[str, Handle]]:
    """Architectures first, then what fill, dashes and faint lines mean."""
    grey: dict[str, Any] = {"color": GREY, "linestyle": "none", "marker": "o", "markersize": 6}
    entries: list[tuple[str, Handle]] = [
        (arch, Line2D([], [], color=look[arch].colour, marker=look[arch].marker, markersize=6, linewidth=1.8))
        for arch in sorted(set(analysis.points["arch"]))
    ]
    entries.append(("run on the frontier", Line2D([], [], **grey)))
    if len(analysis.points) > len(analysis.frontier):
        entries.append(("other finished run", Line2D([], [], markerfacecolor="white", **grey)))
    if analysis.fit.archs:
        band = percent(analysis.boot.level) + " band"
        entries.append((f"law with {band}", law_handle(True)))
        entries.append(("the same, extrapolated", law_handle(False)))
    if curves:
        entries.append(("training loss of a run", Line2D([], [], color=GREY, linewidth=0.8, alpha=0.5)))
    return entries
