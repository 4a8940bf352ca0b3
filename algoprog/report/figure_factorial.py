"""A factorial ablation: every effect and interaction with its interval, and multiplied single gains against the joint."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from string import ascii_uppercase

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from algoprog.report.numbers import digits, percent, with_interval
from algoprog.report.style import BLUE, DARK, GREY, VERMILLION, drawing, new_figure, ratio_ticks
from algoprog.scaling import InputError
from algoprog.scaling.interactions.result import Effect, FactorialAnalysis

ROW_IN = 0.27
FAR = math.log(30.0)  # an interval may reach this factor beyond all estimates before it is cut off


def factorial_figure(found: FactorialAnalysis) -> Figure:
    """Effects ordered by size above; single changes, their product and the joint gain below.

    Logarithmic in the gain; interactions are named by the letters of their factors.

    Raises InputError if no effect could be estimated.
    """
    effects = sorted((e for e in found.effects if e.log_gain is not None), key=lambda e: -abs(e.log_gain or 0.0))
    if not effects:
        raise InputError("no effect to draw", expected="runs that tell at least one effect")
    product = found.product
    below = [*product.singles, product.predicted, product.measured]
    with drawing():
        heights = [ROW_IN * len(effects) + 0.2, ROW_IN * len(below) + 0.2]
        figure = new_figure(2.2 + sum(heights))
        above_axes, below_axes = figure.subplots(2, 1, height_ratios=heights)
        letters = {name: letter for name, letter in zip(found.factors, ascii_uppercase, strict=False)}
        above_axes.set_title("effects, averaged over the other factors")
        colours = [BLUE if len(effect.factors) == 1 else VERMILLION for effect in effects]
        _rows(above_axes, [_label(effect, letters) for effect in effects], effects, colours)
        below_axes.set_title("do single gains multiply?")
        way = "undone" if found.reference == "new" else "made"
        names = [*(f"{_label(single, letters)}, {way} alone" for single in product.singles)]
        names += ["predicted: product", "measured: all together"]
        _rows(below_axes, names, below, [*([BLUE] * len(product.singles)), VERMILLION, DARK])
        below_axes.axhline(len(product.singles) - 0.5, color=GREY, linewidth=0.8)
        below_axes.set_xlabel("gain: compute of old / of new, equal loss" + _excess(product.excess))
        handles = [
            Line2D([], [], color=BLUE, marker="o", markersize=6, linewidth=3, alpha=0.8),
            Line2D([], [], color=VERMILLION, marker="D", markersize=6, linewidth=3, alpha=0.8),
        ]
        labels = [f"one change, {percent(found.level)} interval", "interaction or product of several"]
        figure.legend(handles, labels, loc="outside upper center", ncols=2)
        return figure


def _label(effect: Effect, letters: Mapping[str, str]) -> str:
    """A factor by letter and name, an interaction by letters: whole names of four factors leave no room."""
    if len(effect.factors) == 1:
        return f"{_shortened(effect.name)} ({letters[effect.name]})"
    return " × ".join(letters[name] for name in effect.factors)


def _excess(excess: Effect) -> str:
    if excess.gain is None:
        return ""
    return f"\npredicted over measured: {with_interval(excess.gain, excess.gain_interval)}"


def _rows(axes: Axes, names: Sequence[str], effects: Sequence[Effect], colours: Sequence[str]) -> None:
    """One row per effect: a bar over its interval, a dot at its gain, the number at the right."""
    low, high = _limits(effects)
    axes.set_xlim(low, high)
    axes.axvline(0.0, color=DARK, linewidth=1.0, gid="equal")
    for row, (effect, colour) in enumerate(zip(effects, colours, strict=True)):
        if effect.log_gain is None:
            axes.text(0.03, row, "needs a cell that is missing", transform=axes.get_yaxis_transform(), va="center",
                      fontsize=9, color=DARK, backgroundcolor="white")  # fmt: skip
            continue
        if effect.interval is not None:
            ends = np.clip(effect.interval, low, high)
            axes.plot(ends, [row, row], color=colour, linewidth=3, alpha=0.45, solid_capstyle="butt", gid="interval")
        marker = "o" if colour == BLUE else "s" if colour == DARK else "D"
        axes.plot([effect.log_gain], [row], color=colour, marker=marker, markersize=6, linestyle="none", gid="value")
    told = ["" if e.gain is None else digits(e.gain) + "×" for e in effects]
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    twin = axes.secondary_yaxis("right")
    twin.set_yticks(range(len(names)), told)
    twin.tick_params(axis="y", length=0)
    twin.spines["right"].set_visible(False)
    # The axis is ln gain, its labels are gains.
    ticks = ratio_ticks(math.exp(low), math.exp(high))
    axes.xaxis.set_major_locator(FixedLocator([math.log(tick) for tick in ticks]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{math.exp(value):,.4g}×"))
    axes.xaxis.set_minor_locator(NullLocator())


def _shortened(name: str, most: int = 24) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def _limits(effects: Sequence[Effect]) -> tuple[float, float]:
    """All estimates, 0 and all intervals, unless those explode."""
    core = [0.0, *(e.log_gain for e in effects if e.log_gain is not None)]
    ends = [end for e in effects for end in e.interval or () if math.isfinite(end)]
    low = max(min([*core, *ends]), min(core) - FAR)
    high = min(max([*core, *ends]), max(core) + FAR)
    room = 0.05 * max(high - low, 0.02)
    return low - room, high + room
