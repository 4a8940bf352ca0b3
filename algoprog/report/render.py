"""From what was found to the text of the page."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from algoprog.report import content, content_answers, content_extras, content_sizes, summary, throughput
from algoprog.report.answers import Answers
from algoprog.report.explore import embedded
from algoprog.report.figure_rates import shown_of
from algoprog.report.figures_answers import drawn_sizes, drawn_tests
from algoprog.report.numbers import listed, percent
from algoprog.report.provenance import facts
from algoprog.report.record import Record, dig
from algoprog.report.scripts import TEMPLATES, page_scripts
from algoprog.report.searches import Extras
from algoprog.report.style import Look, looks
from algoprog.scaling import Analysis


@dataclass(frozen=True, eq=False)
class View:
    """Everything that a page is made of. ``images`` (PNG), ``drawings`` (SVG) and ``tables`` (CSV) go by the name of the
    figure; ``explore``: the data of the interactive charts (None: no law to explore); ``reload``: seconds, of a live page.
    """

    analysis: Analysis
    record: Record
    extras: Extras
    answers: Answers
    notes: tuple[str, ...]
    images: Mapping[str, bytes]
    drawings: Mapping[str, bytes]
    tables: Mapping[str, str]
    explore: Mapping[str, Any] | None
    reload: float | None


def render(view: View) -> str:
    """The page. Raises InputError where a script cannot be put into it."""
    # Autoescape by name would not cover the ending .j2, so it is on for everything.
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    scripts = page_scripts(view.explore is not None)
    template = environment.get_template("report.html.j2")
    parts = _texts(view) | _tables(view) | _answers(view) | _figures(view) | _explorer(view)
    return template.render(**parts, scripts=scripts)


def _texts(view: View) -> dict[str, Any]:
    analysis, record = view.analysis, view.record
    return {
        "name": dig(record.meta, "sweep", "name") or "unnamed",
        "overview": summary.overview(analysis, record),
        "findings": summary.findings(analysis, view.extras.ablations),
        "warnings": [*view.notes, *analysis.warnings],
        "level": percent(analysis.boot.level),
        "draws": analysis.boot.draws,
        "reload": None if view.reload is None else f"{view.reload:g}",
        "unusable": [(choice.label, choice.why) for choice in analysis.choices if choice.fit is None],
        "facts": facts(analysis, record),
        "objective": analysis.fit.reason,
        "methods": [(row.arch, row.method) for row in analysis.laws],
        "problem": view.extras.problem,
        "rate": throughput.rate_sentence(record),
    }


def _tables(view: View) -> dict[str, Any]:
    analysis, record, extras = view.analysis, view.record, view.extras
    look = looks(analysis.points["arch"], (run["arch"] for run in record.runs))
    return {
        "gains": content.gains_table(analysis),
        "growth": content.growth_table(analysis),
        "laws": content.laws_table(analysis),
        "sources": content.sources_table(analysis),
        "baselines": content.baselines_table(analysis, record.baselines),
        "runs": content.runs_table(analysis, record),
        "predictions": content_extras.predictions_table(extras.checks, look) if extras.checks else None,
        "rates": content_extras.rates_table(extras.optima, look) if extras.optima else None,
        **_ablations(extras, look, analysis.boot.level),
        "states": throughput.states_table(record, look),
        "failures": throughput.failures_table(record),
        "throughput": throughput.throughput_table(record, look),
    }


def _ablations(extras: Extras, look: Mapping[str, Look], level: float) -> dict[str, Any]:
    if not extras.ablations:
        return {"ablations": None, "ablations_told": ""}
    return {
        "ablations": content_extras.ablations_table(extras.ablations, look, level),
        "ablations_told": content_extras.ablations_told(extras.ablations, level),
    }


def _answers(view: View) -> dict[str, Any]:
    """Sections of what was asked of the sweep, and of the tests of its laws."""
    found = view.answers
    look = looks(view.analysis.points["arch"], (run["arch"] for run in view.record.runs))
    factorial, chain = found.factorial, found.chain
    return {
        "interactions": content_answers.interactions_table(factorial) if factorial else None,
        "interactions_told": content_answers.interactions_sentence(factorial) if factorial else "",
        "interactions_method": (factorial.conversion, factorial.method) if factorial else ("", ""),
        "interactions_warnings": factorial.warnings if factorial else (),
        "interactions_problem": found.factorial_problem,
        "breaks": content_answers.breaks_table(found.laws, look) if found.laws else None,
        "untested": content_answers.untested_sentence(found.laws),
        "breaks_told": content_answers.breaks_sentences(found.laws),
        "breaks_method": content_answers.breaks_method(found.laws),
        "breaks_drawn": [(one.arch, names) for names, one in drawn_tests(found.laws)],
        "beyond": content_answers.beyond_sentences(found),
        "decomposition": content_answers.chain_table(chain) if chain else None,
        "decomposition_told": content_answers.chain_sentence(chain) if chain else "",
        "decomposition_method": chain.found.method if chain else "",
        "decomposition_problem": found.chain_problem,
        "references": content_answers.references_table(chain) if chain else None,
        "references_over": "calendar time" if chain and chain.timed else "compute",
        **_sizes(found, look),
    }


def _sizes(found: Answers, look: Mapping[str, Look]) -> dict[str, Any]:
    sizes = found.sizes
    return {
        "sizes_told": content_sizes.sizes_told(sizes),
        "sizes": content_sizes.sizes_table(sizes, look) if any(one.ways for one in sizes) else None,
        "sizes_waste": content_sizes.waste_table(sizes, look) if any(one.waste for one in sizes) else None,
        "sizes_method": content_sizes.sizes_method(sizes),
        "sizes_drawn": [(fits.surface.arch, name) for name, fits in drawn_sizes(sizes)],
    }


def _figures(view: View) -> dict[str, Any]:
    shown, optima = len(shown_of(view.extras.optima)), len(view.extras.optima)
    return {
        "images": {name: _url("image/png", image) for name, image in view.images.items()},
        "files": embedded(_files(view)),
        "alt": _alternatives(view),
        "rates_shown": f", the {shown} largest budgets of {optima} searches" if shown < optima else "",
    }


def _files(view: View) -> dict[str, str]:
    """Downloads by file name, gzip in base64: a tenth of their size, and the same bytes every time."""
    files = {f"{name}.svg": drawing for name, drawing in view.drawings.items()}
    files |= {f"{name}.csv": view.tables[name].encode() for name in view.drawings}
    return {name: base64.b64encode(gzip.compress(found, mtime=0)).decode() for name, found in files.items()}


def _url(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _explorer(view: View) -> dict[str, Any]:
    if view.explore is None:
        return {"explorer": None, "explorer_draws": (0, 0), "skipped": [], "chain": []}
    found = view.explore
    told = {"explorer_draws": found["draws"], "skipped": found["skipped"], "chain": found["chain"]}
    return {"explorer": embedded(found), **told}


def _alternatives(view: View) -> dict[str, str]:
    """Text for those who do not see the figures: what they show, and the numbers that they are read for."""
    analysis, record = view.analysis, view.record
    archs = listed(sorted(set(analysis.points["arch"])))
    pairs = [pair for pair, _ in summary.findings(analysis, view.extras.ablations)]
    told = " ".join(f"{pair}: {text}" for pair, text in summary.findings(analysis, view.extras.ablations))
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
        "predictions": "Predicted intervals and measured losses of every larger budget, as in the table of predictions.",
        "rates": "Final loss over peak learning rate, one panel per search, as in the table of searches.",
        "ablations": "Gain of the common new architecture over each ablation with its interval, at one budget and by laws of "
        "both, as in the table of ablations.",
        **_answer_alternatives(view.answers),
    }


def _answer_alternatives(found: Answers) -> dict[str, str]:
    told = {
        "interactions": "Effects and interactions as gains with intervals, and the product of single changes beside the "
        "measured joint gain, as in the table of interactions.",
        "waterfall": "One bar per step of the chain with its interval, each from where the one before ends, as in the table of "
        "the decomposition.",
        "reference": "The gain of the newest architecture over every older one, with bands, as in the table of references.",
    }
    for name, fits in drawn_sizes(found.sizes):
        told[name] = (
            f"Loss over parameters of {fits.surface.arch} at each budget with its fitted minimum, and the optimal size over "
            "compute, as in the table of optimal sizes."
        )
    for (broken, tested), one in drawn_tests(found.laws):
        told[broken] = (
            f"Frontier of {one.arch} with one law and with two pieces, residuals, and F of a break by its position."
        )
        told[tested] = (
            f"Errors of predictions of {one.arch} from several cuts, their running sum, and the span of every cut."
        )
    return told
