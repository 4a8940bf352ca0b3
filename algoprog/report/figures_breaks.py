"""The figures of ``algoprog breaks`` and ``algoprog power`` as files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from algoprog.config import InputError
from algoprog.report.figure_breaks import break_figure
from algoprog.report.figure_extrapolation import extrapolation_figure
from algoprog.report.figure_power import power_figure
from algoprog.report.figures import render_pdf, render_png
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
    return _write(figures, folder)


def write_power_figure(report: PowerReport, folder: Path) -> tuple[Path, ...]:
    """Write ``power`` as PNG and PDF into ``folder``. Raises InputError where it cannot be written."""
    return _write({"power": power_figure(report)}, folder)


def _write(figures: Mapping[str, Figure], folder: Path) -> tuple[Path, ...]:
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
