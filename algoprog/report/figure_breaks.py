"""Is it one law? The points with both laws, their residuals, and sup F over positions with its critical value."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from algoprog.report.numbers import digits
from algoprog.report.style import BLACK, DARK, DASHED, GREY, VERMILLION, drawing, flops_axis, looks, new_figure
from algoprog.scaling.breakpoints.breaks import BreakTest, Evidence
from algoprog.scaling.errors import InputError
from algoprog.scaling.laws import FloatArray

FINE = 400


def break_figure(test: BreakTest) -> Figure:
    """Three panels over compute. Raises InputError for a test without evidence."""
    if test.evidence is None:
        raise InputError("no break test to draw", got=test.status.value, expected="a test that could be made")
    with drawing():
        figure = new_figure(6.6)
        laws, residuals, profile = figure.subplots(3, 1, sharex=True, height_ratios=[3.0, 2.0, 2.0])
        _draw_laws(laws, test, test.evidence)
        _draw_residuals(residuals, test, test.evidence)
        _draw_profile(profile, test.evidence)
        low, high = test.flops_range
        margin = (high / low) ** 0.03
        flops_axis(profile, low / margin, high * margin)
        profile.set_xlabel("training compute (FLOPs)")
        figure.legend(*laws.get_legend_handles_labels(), loc="outside upper left", ncols=3)
        return figure


def _columns(test: BreakTest) -> tuple[FloatArray, FloatArray]:
    return test.points["flops"].to_numpy(dtype=np.float64), test.points["loss"].to_numpy(dtype=np.float64)


def _grid(test: BreakTest) -> FloatArray:
    return np.geomspace(*test.flops_range, FINE)


def _draw_laws(axes: Axes, test: BreakTest, found: Evidence) -> None:
    flops, loss = _columns(test)
    look, fine = looks([test.arch])[test.arch], _grid(test)
    axes.plot(fine, found.one.loss(fine), color=BLACK, linewidth=1.6, label="one law, E free", gid="one-law")
    pieces = "two pieces, same E on both sides"
    axes.plot(
        fine, found.two.loss(fine), color=VERMILLION, linewidth=1.6, linestyle=DASHED, label=pieces, gid="two-pieces"
    )
    axes.plot(
        flops,
        loss,
        color=look.colour,
        marker=look.marker,
        linestyle="none",
        markersize=5,
        label=test.arch,
        gid="points",
    )
    axes.set_xscale("log")
    axes.set_ylabel("loss (nats/token)")
    verdict = "a break is claimed" if found.claimed else "no break is claimed"
    axes.set_title(
        f"{test.arch}: {verdict}; exponent {found.one.alpha:.3f}, or {found.two.alpha1:.3f} then {found.two.alpha2:.3f}"
    )


def _draw_residuals(axes: Axes, test: BreakTest, found: Evidence) -> None:
    flops, loss = _columns(test)
    look, fine = looks([test.arch])[test.arch], _grid(test)
    axes.axhspan(-100 * found.sigma, 100 * found.sigma, color=GREY, alpha=0.18, linewidth=0, gid="sigma")
    axes.axhline(0.0, color=BLACK, linewidth=1.6)
    difference = 100 * np.log(found.two.loss(fine) / found.one.loss(fine))
    axes.plot(fine, difference, color=VERMILLION, linewidth=1.6, linestyle=DASHED)
    axes.plot(
        flops, 100 * np.log(loss / found.one.loss(flops)), color=look.colour, marker=look.marker, linestyle="none",
        markersize=5, gid="residuals",
    )  # fmt: skip
    axes.set_ylabel("100 ln(L / one law)")
    axes.set_title(f"residuals; grey: ± sigma = {digits(100 * found.sigma, 2)}")


def _draw_profile(axes: Axes, found: Evidence) -> None:
    axes.plot(found.profile_flops, found.profile_f, color=DARK, linewidth=1.6, gid="profile")
    axes.axhline(found.critical, color=VERMILLION, linewidth=1.3, linestyle=DASHED, gid="critical")
    axes.plot(
        [found.position.flops], [found.sup_f], color=DARK, marker="o", markersize=6, linestyle="none", gid="sup-f"
    )
    low, high = found.position.interval
    axes.plot([low, high], [0.0, 0.0], color=DARK, linewidth=4, alpha=0.45, solid_capstyle="butt", gid="position")
    top = max(found.critical, float(found.profile_f.max()), found.sup_f)
    axes.set_ylim(-0.06 * top, 1.12 * top)
    axes.set_ylabel("F of a break")
    axes.set_title(f"F by position, p = {digits(found.p_value, 2)}; dashed: 5 % point; bar: 95 % of positions")
