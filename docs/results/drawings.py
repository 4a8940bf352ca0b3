"""The figures of the page on results, from the committed runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure
from pages import small_png
from records import HERE, about, analysis, checks, interactions, optimal, reverted

from algoprog.report.figure_factorial import factorial_figure
from algoprog.report.figure_isoflop import isoflop_figure
from algoprog.report.figure_predictions import predictions_figure
from algoprog.report.figures import gain_figure, loss_figure, render_png
from algoprog.report.style import BLUE, DARK, VERMILLION, drawing, new_figure, ratio_ticks
from algoprog.scaling.published import changes

FOLDER = HERE / "figures"


def _loss(sweep: str) -> Figure:
    return loss_figure(analysis(sweep), (), about()[sweep]["baselines"])


def _gain(sweep: str) -> Figure:
    found = analysis(sweep)
    return gain_figure(found, [(pair.a, pair.b) for pair in found.gains])


def _ablations() -> Figure:
    """One row per reversion: the gain of modern at the largest budget with its interval, and the study's value."""
    rows = [one.matched for one in reverted() if one.matched.gain is not None]
    bars = {change.old: change.gain.value for change in changes.ABLATIONS}
    with drawing():
        figure = new_figure(1.3 + 0.36 * len(rows))
        axes = figure.add_subplot(xscale="log")
        for y, one in enumerate(rows):
            axes.plot([one.gain], [y], "o", color=BLUE, label="ours, 95 % interval" if y == 0 else None)
            axes.plot(one.interval or (), [y] * len(one.interval or ()), color=BLUE, linewidth=2.5, alpha=0.5)
            axes.plot(
                [bars[one.a]], [y], "D", color=VERMILLION, markersize=5, label="study, one seed" if y == 0 else None
            )
        axes.axvline(1.0, color=DARK, linewidth=1.0)
        axes.set_yticks(range(len(rows)), [one.a for one in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.grid(False, axis="y")
        ticks = ratio_ticks(*axes.get_xlim())
        axes.set_xticks(ticks, [f"{tick:,.10g}×" for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.set_xlabel("gain of modern: compute of the row / of modern, equal loss")
        axes.legend(loc="lower right")
    return figure


def _allocation() -> Figure:
    fits = optimal().fits
    assert fits is not None, optimal().why
    return isoflop_figure(fits.slices, fits.boot)


FIGURES: dict[str, Callable[[], Figure]] = {
    "scaling-loss": lambda: _loss("scaling"),
    "scaling-gain": lambda: _gain("scaling"),
    "ablations": _ablations,
    "factorial": lambda: factorial_figure(interactions()),
    "predictions": lambda: predictions_figure(checks()),
    "token-ratio-loss": lambda: _loss("token-ratio"),
    "allocation": _allocation,
    "lstm-golden-loss": lambda: _loss("lstm-golden"),
}


def write_figures(folder: Path = FOLDER) -> list[Path]:
    """Write every figure as ``NAME.png`` into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in FIGURES.items():
        (folder / f"{name}.png").write_bytes(small_png(render_png(draw())))
    return [folder / f"{name}.png" for name in FIGURES]
