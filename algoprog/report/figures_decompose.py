"""The figures of a decomposition as files."""

from __future__ import annotations

from pathlib import Path

from algoprog.config import InputError
from algoprog.report.figure_reference import reference_figure
from algoprog.report.figure_waterfall import waterfall_figure
from algoprog.report.figures import render_pdf, render_png
from algoprog.scaling.decomposition.result import Decomposition


def write_figures(found: Decomposition, folder: Path) -> tuple[Path, ...]:
    """Write ``waterfall`` and, if there are references, ``reference`` as PNG and PDF into ``folder``.

    Raises InputError where the folder cannot be written.
    """
    figures = {"waterfall": waterfall_figure(found)}
    if found.references is not None:
        figures["reference"] = reference_figure(found)
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure in figures.items():
            for suffix, render in ((".png", render_png), (".pdf", render_pdf)):
                path = folder / (name + suffix)
                path.write_bytes(render(figure))
                written.append(path)
    except OSError as error:
        raise InputError(f"figures cannot be written: {error}", where=folder) from None
    return tuple(written)
