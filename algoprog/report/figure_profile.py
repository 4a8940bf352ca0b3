"""The profile of the irreducible loss: how the fit suffers as E moves, and where the exponents go with it."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from algoprog.report.numbers import digits, percent
from algoprog.report.style import DARK, DASHED, GREY, Handle, drawing, looks, new_figure
from algoprog.scaling import Analysis, InputError, IrreducibleProfile, profile_irreducible

HEIGHT = 4.0  # how far above its minimum the objective is drawn, in units of the limit of the set


def profile_figure(analysis: Analysis) -> Figure:
    """The objective over E with the set of E above, the exponents at each E below.

    Raises InputError without a profile: E is fixed, or the fit has no degrees of freedom.
    """
    if analysis.profile is None or not isinstance(analysis.fit.irreducible, str):
        raise InputError("no profile to draw", got=analysis.fit.reason, expected="a fit with E free and runs to spare")
    profile = profile_irreducible(analysis.frontier, analysis.fit, level=analysis.boot.level)
    with drawing():
        figure = new_figure(4.8)
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1.0, 1.15])
        shown = _draw_objective(above, profile, analysis)
        _draw_exponents(below, profile, analysis, shown)
        labels, handles = zip(*_legend(analysis), strict=True)
        figure.legend(handles, labels, loc="outside upper center", ncols=2, handlelength=2.0)
        return figure


def _rise(profile: IrreducibleProfile) -> np.ndarray:
    """The objective above its minimum, 1 at the edge of the set."""
    assert profile.limit is not None  # there are degrees of freedom
    lowest = float(profile.objective.min())
    # An exact fit has a minimum and a limit of zero; any rise is then outside the set.
    return np.asarray((profile.objective - lowest) / max(profile.limit - lowest, 1e-300))


def _draw_objective(axes: Axes, profile: IrreducibleProfile, analysis: Analysis) -> np.ndarray:
    """Draw, and return which values of E are shown."""
    rise = _rise(profile)
    shown = rise <= HEIGHT
    assert profile.interval is not None
    axes.axvspan(*profile.interval, color=GREY, alpha=0.18, linewidth=0, gid="set")
    axes.plot(profile.E[shown], rise[shown], color=DARK, linewidth=1.8, gid="objective")
    axes.axhline(1.0, color=DARK, linewidth=1.0, linestyle=DASHED)
    axes.plot([analysis.fit.E], [0.0], color=DARK, marker="o", markersize=7, linestyle="none", gid="fitted")
    axes.set_ylim(-0.15, HEIGHT)
    axes.set_ylabel("rise of the objective\n(1: edge of the set)")
    low, high = profile.interval
    at_bound = " (reaches the bound 0)" if low <= 0 else ""
    axes.set_title(
        f"irreducible loss {digits(analysis.fit.E)}, {percent(profile.level)} set {digits(low)} to {digits(high)}{at_bound}"
    )
    return shown


def _draw_exponents(axes: Axes, profile: IrreducibleProfile, analysis: Analysis, shown: np.ndarray) -> None:
    look = looks(analysis.points["arch"])
    assert profile.interval is not None
    axes.axvspan(*profile.interval, color=GREY, alpha=0.18, linewidth=0)
    for k, arch in enumerate(profile.archs):
        axes.plot(profile.E[shown], profile.alpha[shown, k], color=look[arch].colour, linewidth=1.8, gid=arch)
        axes.plot(
            [analysis.fit.E], [analysis.fit.laws[arch].alpha], color=look[arch].colour, marker=look[arch].marker,
            markersize=7, linestyle="none",
        )  # fmt: skip
    axes.set_ylim(bottom=0.0)
    axes.set_ylabel("exponent α, refitted")
    axes.set_xlabel("irreducible loss E (nats per token)")


def _legend(analysis: Analysis) -> list[tuple[str, Handle | Patch]]:
    look = looks(analysis.points["arch"])
    laws = [
        (arch, Line2D([], [], color=look[arch].colour, marker=look[arch].marker, linewidth=1.8))
        for arch in analysis.fit.archs
    ]
    return [*laws, (f"{percent(analysis.boot.level)} set of E", Patch(color=GREY, alpha=0.3, linewidth=0))]
