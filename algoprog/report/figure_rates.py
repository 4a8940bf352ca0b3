"""Learning-rate searches as small multiples: losses tried, the parabola through them, the optimum and its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from algoprog.report.numbers import digits, flops
from algoprog.report.style import DARK, GREY, Handle, Look, drawing, new_figure
from algoprog.scaling import InputError
from algoprog.scaling.tuning.optimum import WINDOW, Optimum

MOST, COLUMNS = 18, 3
FINE = 80
TOP = 0.92  # where in a panel the rates that diverged are marked
ROOM = 0.35  # of the height of the losses, for what diverged


def shown_of(optima: Sequence[Optimum]) -> list[Optimum]:
    """At most 18 searches, those of the largest budgets, in the order of ``optima``."""
    largest = sorted(range(len(optima)), key=lambda i: -optima[i].flops)[:MOST]
    return [optima[i] for i in sorted(largest)]


def rates_figure(optima: Sequence[Optimum], look: Mapping[str, Look]) -> Figure:
    """One panel per search, loss over learning rate; ``look`` by architecture. Raises InputError without a search."""
    if not optima:
        raise InputError(
            "no learning-rate search to draw", expected="three rates of one architecture, width and budget"
        )
    shown = shown_of(optima)
    with drawing():
        rows = math.ceil(len(shown) / COLUMNS)
        figure = new_figure(1.1 + 1.75 * rows)
        panels = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
        for axes, one in zip(panels, shown, strict=False):
            _draw(axes, one, look[one.arch].colour, look[one.arch].marker)
        for axes in panels[len(shown) :]:
            axes.remove()
        figure.supxlabel("peak learning rate", fontsize=10)
        figure.supylabel("final loss (nats per token)", fontsize=10)
        labels, handles = zip(*_legend(), strict=True)
        figure.legend(handles, labels, loc="outside upper center", ncols=4, handlelength=1.8)
        return figure


def _draw(axes: Axes, one: Optimum, colour: str, marker: str) -> None:
    rates, losses = np.array(one.rates), np.array(one.losses)
    finite = np.isfinite(losses)
    low, high = float(losses[finite].min()), float(losses[finite].max())
    height = (high - low) or 0.01 * low
    diverged = ROOM if not finite.all() else 0.08
    axes.set_xscale("log")
    axes.set_ylim(low - 0.12 * height, high + diverged * height)
    axes.set_xlim(rates.min() / 1.3, rates.max() * 1.3)
    if one.interval is not None:
        axes.axvspan(*one.interval, color=GREY, alpha=0.3, linewidth=0, gid="interval")
    if one.rate is not None and one.curvature is not None and one.left is not None:
        # The parabola in decades about its vertex; the loss there is that of the rate used, less what it left.
        x = np.geomspace(max(rates.min(), one.used / 10**WINDOW), min(rates.max(), one.used * 10**WINDOW), FINE)
        middle = _level(one, rates[finite], losses[finite])
        axes.plot(x, middle + one.curvature * np.log10(x / one.rate) ** 2, color=DARK, linewidth=1.2, gid="parabola")
        axes.axvline(one.rate, color=DARK, linewidth=1.0, linestyle=":", gid="optimum")
    axes.plot(rates[finite], losses[finite], color=colour, marker=marker, linestyle="none", markersize=5, gid="tried")
    if not finite.all():
        axes.plot(rates[~finite], np.full((~finite).sum(), TOP), color=DARK, marker="x", linestyle="none", markersize=6,
                  transform=axes.get_xaxis_transform(), gid="diverged")  # fmt: skip
    _ticks(axes, rates)
    state = "" if one.state == "found" else f": {one.state}"
    axes.set_title(f"{_short(one.arch)} {one.width:g}, {flops(one.flops)}{state}", fontsize=8)


def _level(one: Optimum, rates: np.ndarray, losses: np.ndarray) -> float:
    """The height of the parabola: least squares given its vertex and curvature, inside the window it was fitted in."""
    assert one.rate is not None and one.curvature is not None
    near = np.abs(np.log10(rates / one.used)) <= WINDOW
    return float(np.mean(losses[near] - one.curvature * np.log10(rates[near] / one.rate) ** 2))


def _ticks(axes: Axes, rates: np.ndarray) -> None:
    chosen = sorted({float(rates.min()), float(rates.max())})
    axes.xaxis.set_major_locator(FixedLocator(chosen))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: digits(value, 2)))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.tick_params(labelsize=8)


def _short(name: str, most: int = 12) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def _legend() -> list[tuple[str, Handle | Patch]]:
    return [
        ("best of a rate", Line2D([], [], color=GREY, marker="o", linestyle="none")),
        ("diverged", Line2D([], [], color=DARK, marker="x", linestyle="none")),
        ("parabola", Line2D([], [], color=DARK, linewidth=1.2)),
        ("95 % of the optimum", Patch(color=GREY, alpha=0.3, linewidth=0)),
    ]
