"""Does the law predict? Errors of predictions from several cuts, the sum of one-step errors, and what each cut licenses."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from algoprog.report.numbers import flops as flops_text
from algoprog.report.style import (
    BLUE,
    DARK,
    DASHED,
    GREY,
    VERMILLION,
    drawing,
    flops_axis,
    new_figure,
)
from algoprog.scaling.breakpoints.extrapolation import Cut, CutVerdict, Extrapolation
from algoprog.scaling.breakpoints.licensing import earned
from algoprog.scaling.errors import InputError

PANELS = 4
COLOURS = {CutVerdict.PASSED: BLUE, CutVerdict.FAILED: VERMILLION, CutVerdict.TOO_WIDE: GREY}
VIEW = 1.6  # tolerances that the errors' axis shows at least


def extrapolation_figure(found: Extrapolation) -> Figure:
    """Errors from up to four cuts, the CUSUM, and the span of every cut. Raises InputError if there is no cut."""
    if not found.cuts or found.cusum is None:
        raise InputError("no extrapolation to draw", got=f"{len(found.points)} points", expected="five or more")
    chosen = _chosen(found)
    with drawing():
        figure = new_figure(2.6 + 0.95 * len(chosen) + 0.16 * len(found.cuts) + 0.9)
        heights = [*[0.95] * len(chosen), 1.3, 0.9 + 0.16 * len(found.cuts)]
        panels = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
        view = 100 * _view(found, chosen)
        for axes, cut in zip(panels, chosen, strict=False):
            _draw_errors(axes, found, cut, view)
        _draw_cusum(panels[-2], found)
        _draw_spans(panels[-1], found)
        low, high = found.flops_range
        margin = (high / low) ** 0.03
        flops_axis(panels[-1], low / margin, high * margin)
        panels[-1].set_xlabel("training compute (FLOPs)")
        figure.suptitle(
            f"{found.arch}: 100 × errors of the predicted ln L, 95 % bands, dotted: the tolerance {found.tolerance:g}\n"
            "blue: the cut passed; red: it failed, crosses mark the errors; grey: too wide to count",
            fontsize=9.5,
            color=DARK,
            x=0.01,
            ha="left",
        )
        return figure


def _chosen(found: Extrapolation) -> list[Cut]:
    """Up to four cuts that could fail, evenly from the first, with the one that earned the licence among them.

    Cuts too wide to count are drawn only where there is no other: they would set the scale and show nothing.
    """
    telling = [cut for cut in found.cuts if cut.verdict is not CutVerdict.TOO_WIDE]
    cuts, best = telling or list(found.cuts), earned(found)
    places = sorted({round(i) for i in np.linspace(0, max(len(cuts) - 2, 0), PANELS)})
    if best is not None and cuts.index(best) not in places:
        nearest = min(places, key=lambda place: abs(place - cuts.index(best)))
        places = sorted({*places, cuts.index(best)} - {nearest})
    return [cuts[place] for place in places]


def _view(found: Extrapolation, chosen: list[Cut]) -> float:
    """Half the height of the errors' axis: all errors drawn, and the tolerance with room."""
    return max(1.2 * max(float(np.abs(cut.error).max()) for cut in chosen), VIEW * found.tolerance)


def _draw_errors(axes: Axes, found: Extrapolation, cut: Cut, view: float) -> None:
    colour = COLOURS[cut.verdict]
    width = np.minimum(100 * cut.half_width, 2 * view)
    # The band starts at the cut, where nothing is predicted yet.
    x, band = np.append(cut.flops, cut.later_flops), np.append(0.0, width)
    axes.fill_between(x, -band, band, color=colour, alpha=0.22, linewidth=0, gid="band")
    for sign in (-1, 1):
        axes.axhline(sign * 100 * found.tolerance, color=GREY, linewidth=0.9, linestyle=":")
    axes.axhline(0.0, color=DARK, linewidth=0.9)
    axes.axvline(cut.flops, color=DARK, linewidth=0.9, linestyle=DASHED)
    inside = ~cut.flagged
    axes.plot(cut.later_flops[inside], 100 * cut.error[inside], "o", color=colour, markersize=4.5, gid="error")
    axes.plot(cut.later_flops[~inside], 100 * cut.error[~inside], "X", color=VERMILLION, markersize=7, gid="flagged")
    axes.set_xscale("log")
    axes.set_ylim(-view, view)
    axes.annotate(
        f"fitted to {cut.n} points up to {flops_text(cut.flops)}: {cut.verdict.value.replace('_', ' ')}",
        (0.01, 0.95), xycoords="axes fraction", ha="left", va="top", fontsize=9, color=DARK,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5, "alpha": 0.85},
    )  # fmt: skip


def _draw_cusum(axes: Axes, found: Extrapolation) -> None:
    assert found.cusum is not None
    path = found.cusum
    axes.axhspan(-path.limit, path.limit, color=GREY, alpha=0.22, linewidth=0, gid="limits")
    colour = VERMILLION if path.crossed else BLUE
    axes.plot(path.flops, path.value, color=colour, marker="o", markersize=4, linewidth=1.3, gid="cusum")
    axes.axhline(0.0, color=DARK, linewidth=0.9)
    axes.set_title("sum of one-step errors, standardised; 95 % of paths stay in the grey")


def _draw_spans(axes: Axes, found: Extrapolation) -> None:
    best = earned(found)
    for row, cut in enumerate(found.cuts):
        axes.plot(
            [found.flops_range[0], cut.flops], [row, row], color=DARK, linewidth=3, alpha=0.35, solid_capstyle="butt"
        )
        end = cut.flops * 10**cut.span_decades
        axes.plot(
            [cut.flops, end], [row, row], color=COLOURS[cut.verdict], linewidth=5, solid_capstyle="butt", gid="span"
        )
        for flops in cut.later_flops[cut.flagged]:
            axes.plot([flops], [row], marker="X", color=DARK, markersize=5, linestyle="none", gid="flag")
    axes.set_yticks(range(len(found.cuts)), [str(cut.n) for cut in found.cuts])
    axes.set_ylim(len(found.cuts) - 0.4, -0.6)
    axes.grid(False, axis="y")
    axes.set_ylabel("points fitted")
    told = "nothing licensed" if best is None else f"licence {best.licence_decades:.2f} decades"
    axes.set_title(f"dark: fitted; colour: predicted to within the tolerance; {told}")
