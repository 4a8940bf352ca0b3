"""The figures of ``algoprog breaks`` and ``algoprog power`` as files."""

from __future__ import annotations

from pathlib import Path

from algoprog.report.figure_breaks import break_figure
from algoprog.report.figure_extrapolation import extrapolation_figure
from algoprog.report.figure_power import power_figure
from algoprog.report.figures import write_figures
from algoprog.scaling.breakpoints.commands import LawTests
from algoprog.scaling.planning.report import PowerReport


def write_break_figures(found: LawTests, folder: Path) -> tuple[Path, ...]:
    """Write ``break`` and ``extrapolation``, as far as those tests could be made, as PNG and PDF into ``folder``.

    Raises InputError where the folder cannot be written.
    """
    figures = {}
    if found.test.evidence is not None:
        figures["break"] = break_figure(found.test)
    if found.extrapolation.cuts:
        figures["extrapolation"] = extrapolation_figure(found.extrapolation)
    return write_figures(figures, folder)


def write_power_figure(report: PowerReport, folder: Path) -> tuple[Path, ...]:
    """Write ``power`` as PNG and PDF into ``folder``. Raises InputError where it cannot be written."""
    return write_figures({"power": power_figure(report)}, folder)
