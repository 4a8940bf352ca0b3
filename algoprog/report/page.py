"""The report of a sweep: one self-contained HTML page, and its figures as PNG and PDF.

The page needs nothing but itself: styles, scripts and figures are inside, no request leaves it, and a policy in its head
forbids any, and any script but its own. Everything that came from a file is escaped.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from algoprog.config import InputError
from algoprog.report import summary
from algoprog.report.answers import answers, declared_chain
from algoprog.report.explore import explorer
from algoprog.report.figure_ablations import ablations_figure
from algoprog.report.figure_data import figure_tables
from algoprog.report.figure_predictions import predictions_figure
from algoprog.report.figure_rates import rates_figure
from algoprog.report.figures import render_pdf, render_png, render_svg
from algoprog.report.figures_answers import PER_ARCH, answer_figures
from algoprog.report.figures_fit import analysis_figures
from algoprog.report.growth import Growth, all_growth
from algoprog.report.record import Record, read_record
from algoprog.report.render import View, render
from algoprog.report.searches import Extras, extras
from algoprog.report.style import looks
from algoprog.scaling import Analysis, Gain, analyse, final_frontier, final_points, fit_frontiers, load_runs
from algoprog.scaling.commands import gain_json, law_json, plain
from algoprog.scaling.study_sources import sources_json

FOLDER, PAGE = "report", "index.html"
FIGURES = (
    "loss", "gain", "exponents", "profile", "sensitivity", "predictions", "rates", "ablations", "interactions", "waterfall",
    "reference",
)  # fmt: skip

Pairs = list[tuple[str, str]]


@dataclass(frozen=True)
class Written:
    """A report on disk and what it says. ``notes``: warnings of the report itself, besides those of the analysis."""

    page: Path
    figures: tuple[Path, ...]
    analysis: Analysis
    notes: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """Everything that a reader is warned of, on the page and in JSON."""
        return (*self.notes, *self.analysis.warnings)

    def as_json(self) -> dict[str, Any]:
        """``{"page", "figures", "laws", "gains", "sources", "warnings"}``, valid JSON throughout."""
        growths = all_growth(self.analysis)
        return {
            "page": str(self.page),
            "figures": [str(path) for path in self.figures],
            "laws": [law_json(row) for row in self.analysis.laws],
            "gains": [
                {
                    "from": pair.a,
                    "to": pair.b,
                    "at_largest": _gain_or_none(pair.at_largest),
                    "at_centre": _gain_or_none(pair.at_centre),
                    "growth": _growth_json(found),
                }
                for pair, found in zip(self.analysis.gains, growths, strict=True)
            ],
            "sources": [plain(sources_json(found)) for found in self.analysis.sources],
            "warnings": list(self.warnings),
        }


def _gain_or_none(gain: Gain | None) -> dict[str, Any] | None:
    return None if gain is None else gain_json(gain)


def _growth_json(found: Growth) -> dict[str, Any]:
    names = ("gap", "gap_interval", "per_decade", "per_decade_interval", "established")
    return plain({name: getattr(found, name) for name in names})


def write_report(folder: Path, draws: int = 1000, reload: float | None = None) -> Written:
    """Analyse the sweep in ``folder`` and write ``report/index.html`` and ``report/figures`` there.

    Every file is replaced whole, the page last. Figures that would be empty are left out, and removed if an earlier
    report left them. ``reload``: the page says that the sweep is running, and loads itself anew every so many seconds.

    Raises:
        InputError: no store, no finished run, malformed runs, or a folder that cannot be written.
    """
    record = read_record(folder)
    analysis, dropped = _analyse(folder, record, draws)
    found = extras(analysis, record)
    asked = answers(folder, analysis, record, draws)
    notes = tuple(summary.notes(analysis, record, dropped))
    drawn = analysis_figures(analysis, record.curves, record.baselines) | _extra_figures(analysis, record, found)
    drawn |= answer_figures(asked)
    images = {name: render_png(figure) for name, figure in drawn.items()}
    drawings = {name: render_svg(figure) for name, figure in drawn.items()}
    tables = figure_tables(analysis, found, asked, record.baselines)
    chain = declared_chain(record.meta)
    explore = explorer(folder, analysis, record, draws, chain.stages if chain else ()) if analysis.laws else None
    html = render(View(analysis, record, found, asked, notes, images, drawings, tables, explore, reload))
    out = folder / FOLDER
    try:
        paths = _write_figures(out / "figures", drawn, images)
        _write_whole(out / PAGE, html.encode())
    except OSError as error:
        raise InputError(f"the report cannot be written ({error.strerror or error})", where=out) from None
    return Written(out / PAGE, paths, analysis, notes)


def _extra_figures(analysis: Analysis, record: Record, found: Extras) -> dict[str, Figure]:
    drawn = {}
    if found.checks:
        drawn["predictions"] = predictions_figure(found.checks)
    if found.optima:
        look = looks(analysis.points["arch"], (run["arch"] for run in record.runs))
        drawn["rates"] = rates_figure(found.optima, look)
    if found.ablations:
        drawn["ablations"] = ablations_figure(found.ablations, analysis.boot.level)
    return drawn


def _analyse(folder: Path, record: Record, draws: int) -> tuple[Analysis, Pairs]:
    """The analysis with the pairs that the sweep asks for, and those of them that lack a law."""
    points = load_runs(folder)
    wanted = record.compare
    if not wanted:
        return analyse(points, draws=draws), []
    # A pair without a law would stop the analysis; on a page it is a sentence. The fit alone takes no time.
    known = fit_frontiers(final_frontier(final_points(points))).laws
    possible = [pair for pair in wanted if all(arch in known for arch in pair)]
    return analyse(points, draws=draws, pairs=possible), [pair for pair in wanted if pair not in possible]


def _write_figures(folder: Path, drawn: dict[str, Figure], images: dict[str, bytes]) -> tuple[Path, ...]:
    paths = []
    for name, figure in drawn.items():
        png, pdf = folder / f"{name}.png", folder / f"{name}.pdf"
        _write_whole(png, images[name])
        _write_whole(pdf, render_pdf(figure))
        paths += [png, pdf]
    for path in folder.glob("*.p*"):
        ours = path.stem in FIGURES or path.stem.startswith(tuple(f"{kind}-" for kind in PER_ARCH))
        if ours and path.suffix in (".png", ".pdf") and path.stem not in drawn:
            path.unlink(missing_ok=True)
    return tuple(paths)


def _write_whole(path: Path, content: bytes) -> None:
    """Write beside, then rename: the file is whole or as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
