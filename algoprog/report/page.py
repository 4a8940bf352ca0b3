"""The report of a sweep: one self-contained HTML page, and its figures as PNG and PDF.

The page needs nothing but itself: styles and figures are inside, no request leaves it, and a policy in its head forbids
any. Everything that came from a file is escaped.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

from algoprog.config import InputError
from algoprog.report import content, summary
from algoprog.report.figures import render_pdf, render_png
from algoprog.report.figures_fit import analysis_figures
from algoprog.report.growth import Growth, all_growth
from algoprog.report.numbers import listed, percent
from algoprog.report.provenance import facts
from algoprog.report.record import Record, dig, read_record
from algoprog.scaling import Analysis, Gain, analyse, final_frontier, final_points, fit_frontiers, load_runs
from algoprog.scaling.commands import gain_json, law_json, plain
from algoprog.scaling.study_sources import sources_json

FOLDER, PAGE = "report", "index.html"
FIGURES = ("loss", "gain", "exponents", "profile", "sensitivity")
TEMPLATES = Path(__file__).parent / "templates"

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


def write_report(folder: Path, draws: int = 1000) -> Written:
    """Analyse the sweep in ``folder`` and write ``report/index.html`` and ``report/figures`` there.

    Every file is replaced whole, the page last. Figures that would be empty are left out, and removed if an earlier
    report left them.

    Raises:
        InputError: no store, no finished run, malformed runs, or a folder that cannot be written.
    """
    record = read_record(folder)
    analysis, dropped = _analyse(folder, record, draws)
    notes = tuple(summary.notes(analysis, record, dropped))
    drawn = analysis_figures(analysis, record.curves, record.baselines)
    images = {name: render_png(figure) for name, figure in drawn.items()}
    html = _render(analysis, record, notes, images)
    out = folder / FOLDER
    try:
        paths = _write_figures(out / "figures", drawn, images)
        _write_whole(out / PAGE, html.encode())
    except OSError as error:
        raise InputError(f"the report cannot be written ({error.strerror or error})", where=out) from None
    return Written(out / PAGE, paths, analysis, notes)


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


def _render(analysis: Analysis, record: Record, notes: Sequence[str], images: dict[str, bytes]) -> str:
    # Autoescape by name would not cover the ending .j2, so it is on for everything.
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    name = dig(record.meta, "sweep", "name") or "unnamed"
    return environment.get_template("report.html.j2").render(
        name=name,
        overview=summary.overview(analysis, record),
        findings=summary.findings(analysis),
        warnings=[*notes, *analysis.warnings],
        level=percent(analysis.boot.level),
        images={key: "data:image/png;base64," + base64.b64encode(image).decode() for key, image in images.items()},
        alt=_alternatives(analysis, record),
        gains=content.gains_table(analysis),
        growth=content.growth_table(analysis),
        laws=content.laws_table(analysis),
        sources=content.sources_table(analysis),
        unusable=[(choice.label, choice.why) for choice in analysis.choices if choice.fit is None],
        baselines=content.baselines_table(analysis, record.baselines),
        runs=content.runs_table(analysis, record),
        facts=facts(analysis, record),
        objective=analysis.fit.reason,
        methods=[(row.arch, row.method) for row in analysis.laws],
    )


def _alternatives(analysis: Analysis, record: Record) -> dict[str, str]:
    """Text for those who do not see the figures: what they show, and the numbers that they are read for."""
    archs = listed(sorted(set(analysis.points["arch"])))
    pairs = [pair for pair, _ in summary.findings(analysis)]
    told = " ".join(f"{pair}: {text}" for pair, text in summary.findings(analysis))
    return {
        "loss": f"Loss against training compute for {archs}. {summary.overview(analysis, record)}",
        "gain": f"Gain over compute, one panel each: {listed(pairs)}. {told}" if pairs else "",
        "exponents": f"Exponents of {listed(list(analysis.fit.archs)) or 'no architecture'} with intervals, "
        "as in the table of laws.",
        "profile": f"How far the fit worsens as the irreducible loss moves away from {summary.irreducible(analysis)}, and "
        "the exponents refitted at each value."
        if analysis.laws
        else "",
        "sensitivity": "Exponents and gains with the irreducible loss held at fixed values, under other frontier rules and "
        "without the smallest runs, as in the table of sources of spread.",
    }


def _write_figures(folder: Path, drawn: dict[str, Figure], images: dict[str, bytes]) -> tuple[Path, ...]:
    paths = []
    for name in FIGURES:
        png, pdf = folder / f"{name}.png", folder / f"{name}.pdf"
        if name in drawn:
            _write_whole(png, images[name])
            _write_whole(pdf, render_pdf(drawn[name]))
            paths += [png, pdf]
        else:
            png.unlink(missing_ok=True)
            pdf.unlink(missing_ok=True)
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
