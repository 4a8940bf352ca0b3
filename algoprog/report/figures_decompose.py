"""The figures of a decomposition as files."""

from __future__ import annotations

from pathlib import Path

from algoprog.report.figure_reference import reference_figure
from algoprog.report.figure_waterfall import waterfall_figure
from algoprog.report.figures import write_figures
from algoprog.scaling.decomposition.result import Decomposition


def write_decomposition_figures(found: Decomposition, folder: Path) -> tuple[Path, ...]:
    """Write ``waterfall`` and, if there are references, ``reference`` as PNG and PDF into ``folder``.

    Raises InputError where the folder cannot be written.
    """
    figures = {"waterfall": waterfall_figure(found)}
    if found.references is not None:
        figures["reference"] = reference_figure(found)
    return write_figures(figures, folder)
