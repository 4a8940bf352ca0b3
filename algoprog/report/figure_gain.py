"""The gain function: how many times more compute the old architecture needs, over the compute of the new one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from algoprog.report.numbers import percent
from algoprog.report.style import (
    DARK,
    DASHED,
    Handle,
    Look,
    drawing,
    flops_axis,
    law_handle,
    looks,
    new_figure,
    ratio_axis,
)
from algoprog.scaling import Analysis, FrontierFit, GainFunction, InputError, gain_function
from algoprog.scaling.ceg import laws_of
from algoprog.scaling.laws import FloatArray

BEYOND = 10.0  # how far either side may leave its own fitted points: one decade of compute
GRID = 160
ROOM = 4.0  # an extrapolated band may reach this factor beyond everything else before it is cut off


def gain_figure(analysis: Analysis, pairs: Sequence[tuple[str, str]]) -> Figure:
    """One panel per pair (old, new): the gain over the compute of the new architecture, with its pointwise interval.

    Solid with a dark band where both architectures are inside the compute of their own fitted points; dashed with a
    light band where either is outside, by at most one decade; nothing further out. Raises InputError without a pair,
    or for an architecture without a law.
    """
    for old, new in pairs:
        laws_of(analysis.fit, old, new)
    if not pairs:
        raise InputError("no pair of architectures to compare", expected="two architectures that have a law")
    with drawing():
        columns = 1 if len(pairs) <= 4 else 2
        rows = math.ceil(len(pairs) / columns)
        figure = new_figure(1.4 + 2.3 * rows)
        functions = [_function(analysis, old, new) for old, new in pairs]
        seen = [function.flops for function in functions if function is not None]
        everything = np.concatenate(seen) if seen else np.array(_ends(analysis.fit))
        look = looks(analysis.points["arch"])
        for number, ((old, new), function) in enumerate(zip(pairs, functions, strict=True)):
            axes = figure.add_subplot(rows, columns, number + 1)
            axes.set_title(f"{new} over {old}")
            flops_axis(axes, float(everything.min()) / 1.15, float(everything.max()) * 1.15)
            axes.tick_params(labelbottom=number >= len(pairs) - columns)
            _draw(axes, function, look[new])
        figure.supxlabel("training compute of the new architecture (FLOPs)", fontsize=10)
        figure.supylabel("gain: compute of old / of new, equal loss", fontsize=10)
        labels, handles = zip(*_legend(analysis), strict=True)
        figure.legend(handles, labels, loc="outside upper center", handlelength=2.4)
        return figure


def _ends(fit: FrontierFit) -> tuple[float, float]:
    return min(low for low, _ in fit.flops_range.values()), max(high for _, high in fit.flops_range.values())


def _function(analysis: Analysis, old: str, new: str) -> GainFunction | None:
    """The gain where neither side is more than a decade beyond its own points; None if there is no such compute."""
    grid = gain_grid(analysis.fit, old, new)
    return None if grid is None else gain_function(analysis.fit, analysis.boot, old, new, grid)


def gain_grid(fit: FrontierFit, old: str, new: str) -> FloatArray | None:
    """Compute of the new architecture (FLOPs) to evaluate the gain at, or None if the two cannot be compared.

    Holds the exact ends of the range where both are inside their own points, if there is one, so that a line changes
    from solid to dashed there and not at the next grid point.
    """
    inner, outer = _limits(fit, old, new, 1.0), _limits(fit, old, new, BEYOND)
    if outer is None:
        return None
    grid = np.geomspace(*outer, GRID)
    return np.unique(np.concatenate([grid, inner])) if inner is not None else grid


def _limits(fit: FrontierFit, old: str, new: str, slack: float) -> tuple[float, float] | None:
    """The compute of ``new`` at which both sides stay within ``slack`` times their own range."""
    law_old, law_new = fit.laws[old], fit.laws[new]
    # The old side's compute for the same loss rises with the new side's, so its range becomes a range of the new one.
    mapped = [
        law_new.compute(law_old.loss(end)) for end in (fit.flops_range[old][0] / slack, fit.flops_range[old][1] * slack)
    ]
    low = max(fit.flops_range[new][0] / slack, mapped[0])
    high = min(fit.flops_range[new][1] * slack, mapped[1])
    return (low, high) if math.isfinite(high) and 0 < low < high else None


def _draw(axes: Axes, function: GainFunction | None, look: Look) -> None:
    axes.axhline(1.0, color=DARK, linewidth=1.0, zorder=1.5, gid="equal")
    if function is None:
        ratio_axis(axes, 0.3, 3.0)
        axes.text(0.5, 0.75, "more than a decade apart: no gain shown", transform=axes.transAxes, ha="center")
        return
    low, high = _height(function)
    ratio_axis(axes, low, high)
    for part, inside in _parts(function.in_range):
        x, lo, hi = function.flops[part], function.lo[part], function.hi[part]
        if not np.isnan(lo).any():
            lo, hi = np.clip(lo, low / 10, high * 10), np.clip(hi, low / 10, high * 10)
            axes.fill_between(x, lo, hi, color=look.colour, alpha=0.30 if inside else 0.11, linewidth=0, zorder=2)
        axes.plot(
            x,
            function.gain[part],
            color=look.colour,
            linewidth=2.2 if inside else 1.4,
            linestyle="-" if inside else DASHED,
            gid="in-range" if inside else "extrapolated",
            zorder=3,
        )


def _parts(inside: np.ndarray) -> list[tuple[slice, bool]]:
    """Slices of equal flag; an extrapolated one shares its end with the solid part, so that the line has no hole."""
    index = np.flatnonzero(inside)
    if index.size == 0:
        return [(slice(0, inside.size), False)]
    first, last = int(index[0]), int(index[-1])
    parts = [(slice(0, first + 1), False), (slice(first, last + 1), True), (slice(last, inside.size), False)]
    return [(part, flag) for part, flag in parts if part.stop - part.start > 1]


def _height(function: GainFunction) -> tuple[float, float]:
    """Limits of y: the line, 1 and the in-range band fully; an extrapolated band that explodes is cut off."""

    def usable(values: FloatArray) -> FloatArray:
        return values[np.isfinite(values) & (values > 0)]

    core = np.concatenate([[1.0], *(usable(v) for v in (function.gain, *_in_range_band(function)))])
    ends = np.concatenate([core, usable(function.lo), usable(function.hi)])
    low = max(float(ends.min()), float(core.min()) / ROOM)
    high = min(float(ends.max()), float(core.max()) * ROOM)
    room = max((high / low) ** 0.06, 1.03)
    return low / room, high * room


def _in_range_band(function: GainFunction) -> tuple[FloatArray, FloatArray]:
    return function.lo[function.in_range], function.hi[function.in_range]


def _legend(analysis: Analysis) -> list[tuple[str, Handle]]:
    level = percent(analysis.boot.level)
    return [
        (f"gain with {level} interval, both sides inside their own data", law_handle(True)),
        ("the same, extrapolated by at most one decade of compute", law_handle(False)),
        ("equal compute (gain 1)", Line2D([], [], color=DARK, linewidth=1.0)),
    ]
