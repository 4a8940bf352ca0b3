"""The figures of a report, and how they become PNG and PDF files."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from algoprog.config import InputError
from algoprog.report.figure_exponents import exponents_figure
from algoprog.report.figure_gain import gain_figure
from algoprog.report.figure_loss import loss_figure
from algoprog.report.figure_profile import profile_figure
from algoprog.report.figure_sensitivity import sensitivity_figure
from algoprog.report.style import PNG_DPI, drawing

__all__ = [
    "exponents_figure",
    "gain_figure",
    "loss_figure",
    "profile_figure",
    "render_pdf",
    "render_png",
    "render_svg",
    "sensitivity_figure",
    "write_figures",
]


def render_png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    return _render(figure, "png", dpi=PNG_DPI, metadata={"Software": None})


def render_pdf(figure: Figure) -> bytes:
    """The figure as a PDF file; equal figures give equal bytes."""
    return _render(figure, "pdf", metadata={"CreationDate": None, "Producer": None, "Creator": None})


def render_svg(figure: Figure) -> bytes:
    """The figure as an SVG file, letters drawn as paths; equal figures give equal bytes."""
    return _render(figure, "svg", metadata={"Date": None, "Creator": None})


def _render(figure: Figure, kind: str, **options: object) -> bytes:
    sink = io.BytesIO()
    with drawing():
        figure.savefig(sink, format=kind, **options)  # type: ignore[arg-type]
    return sink.getvalue()


def write_figures(figures: Mapping[str, Figure], folder: Path) -> tuple[Path, ...]:
    """Write every figure as ``NAME.png`` and ``NAME.pdf`` into ``folder``. Raises InputError where that fails."""
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
