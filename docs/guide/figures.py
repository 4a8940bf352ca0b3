"""The figures of the guide, by the figure functions of the package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from example import PAIRS, example
from matplotlib.figure import Figure
from pages import small_png
from tables_gains import decomposition
from tables_tests import law_tests, planned

from algoprog.report.figure_breaks import break_figure
from algoprog.report.figure_extrapolation import extrapolation_figure
from algoprog.report.figure_power import power_figure
from algoprog.report.figure_waterfall import waterfall_figure
from algoprog.report.figures import gain_figure, loss_figure, render_png, sensitivity_figure


def _loss() -> Figure:
    return loss_figure(example().analysis, example().runs.to_dict("records"))  # type: ignore[arg-type]  # keys are names


FIGURES: dict[str, Callable[[], Figure]] = {
    "loss": _loss,
    "strip": lambda: sensitivity_figure(example().analysis),
    "gain": lambda: gain_figure(example().analysis, PAIRS[:2]),
    "break": lambda: break_figure(law_tests()["stalls"][0]),
    "extrapolation": lambda: extrapolation_figure(law_tests()["lstm"][1]),
    "decomposition": lambda: waterfall_figure(decomposition()[1]),
    "power": lambda: power_figure(planned()),
}
"""Every figure of the page, by the name of its file."""


def write_figures(folder: Path) -> tuple[Path, ...]:
    """Write all figures as PNG into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in FIGURES.items():
        (folder / f"{name}.png").write_bytes(small_png(render_png(make())))
    return tuple(folder / f"{name}.png" for name in FIGURES)
