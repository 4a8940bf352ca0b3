"""What the figures show, as CSV: one table per figure, one row per thing drawn, ``series`` says what it is."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from algoprog.report.answers import Answers
from algoprog.report.figure_gain import gain_grid
from algoprog.report.figure_rates import shown_of
from algoprog.report.figures_answers import answer_rows
from algoprog.report.searches import Extras
from algoprog.scaling import Analysis, gain_function
from algoprog.scaling.ceg import law_gain
from algoprog.scaling.intervals.profile import profile_irreducible

Rows = Iterator[dict[str, Any]]


def figure_tables(analysis: Analysis, extras: Extras, found: Answers, baselines: Mapping[str, float]) -> dict[str, str]:
    """CSV text by the name of the figure; figures that are not drawn may have an empty one.

    The training curves behind the loss figure are left out: they are a table of their own, far larger than the rest.
    """
    tables: dict[str, Iterable[dict[str, Any]]] = {
        "loss": _loss(analysis, baselines), "gain": _gain(analysis), "exponents": _exponents(analysis),
        "profile": _profile(analysis), "sensitivity": _sensitivity(analysis), "predictions": _predictions(extras),
        "rates": _rates(extras), "ablations": _ablations(extras),
    }  # fmt: skip
    return {name: _csv(list(rows)) for name, rows in (tables | answer_rows(found)).items()}


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Columns are the union over the rows, in order of appearance."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    sink = io.StringIO()
    writer = csv.DictWriter(sink, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return sink.getvalue()


def _ends(interval: tuple[float, float] | None) -> dict[str, Any]:
    return {"low": None if interval is None else interval[0], "high": None if interval is None else interval[1]}


def _loss(analysis: Analysis, baselines: Mapping[str, float]) -> Rows:
    chosen = set(analysis.frontier["run"])
    for row in analysis.points.itertuples():
        series = "frontier" if row.run in chosen else "other run"
        yield {"series": series, "arch": row.arch, "run": row.run, "flops": row.flops, "loss": row.loss}
    for law in analysis.laws:
        yield {"series": "law", "arch": law.arch, "E": law.law.E, "A": law.law.A, "alpha": law.law.alpha,
               "fitted_from": law.flops_range[0], "fitted_to": law.flops_range[1]}  # fmt: skip
    for name, loss in baselines.items():
        yield {"series": f"baseline {name}", "loss": loss}


def _gain(analysis: Analysis) -> Rows:
    for pair in analysis.gains:
        grid = gain_grid(analysis.fit, pair.a, pair.b)
        if grid is None:
            continue
        found = gain_function(analysis.fit, analysis.boot, pair.a, pair.b, grid)
        for x, gain, low, high, inside in zip(found.flops, found.gain, found.lo, found.hi, found.in_range, strict=True):
            yield {"series": f"{pair.b} over {pair.a}", "flops": x, "gain": gain, "low": low, "high": high,
                   "in_range": bool(inside)}  # fmt: skip


def _exponents(analysis: Analysis) -> Rows:
    for law in analysis.laws:
        yield {"series": "exponent", "arch": law.arch, "value": law.law.alpha, **_ends(law.alpha)}
    for law in analysis.laws[:1]:
        yield {"series": "irreducible loss", "arch": "all", "value": law.law.E, **_ends(law.E)}


def _profile(analysis: Analysis) -> Rows:
    if analysis.profile is None or not isinstance(analysis.fit.irreducible, str):
        return
    found = profile_irreducible(analysis.frontier, analysis.fit, level=analysis.boot.level)
    for i, (e, objective) in enumerate(zip(found.E, found.objective, strict=True)):
        alphas = {f"alpha {arch}": found.alpha[i, k] for k, arch in enumerate(found.archs)}
        yield {"E": e, "objective": objective, "limit": found.limit, **alphas}


def _sensitivity(analysis: Analysis) -> Rows:
    choices = [("as fitted", analysis.fit), *((c.label, c.fit) for c in analysis.choices if c.fit is not None)]
    for label, fit in choices:
        for arch, law in fit.laws.items():
            yield {"choice": label, "series": "exponent", "name": arch, "value": law.alpha}
        for pair in analysis.gains:
            if pair.at_largest is not None and {pair.a, pair.b} <= set(fit.laws):
                gain = law_gain(fit.laws[pair.a], fit.laws[pair.b], pair.at_largest.flops)
                yield {"choice": label, "series": "gain", "name": f"{pair.b} over {pair.a}", "value": gain}


def _predictions(extras: Extras) -> Rows:
    for check in extras.checks:
        told = check.prediction
        yield {"arch": told.arch, "flops": told.flops, "predicted": told.loss, **_ends(told.interval),
               "measured": check.measured, "runs": check.runs}  # fmt: skip


def _rates(extras: Extras) -> Rows:
    for one in shown_of(extras.optima):
        search = {"arch": one.arch, "width": one.width, "flops": one.flops}
        for rate, loss in zip(one.rates, one.losses, strict=True):
            yield {"series": "tried", **search, "lr": rate, "loss": loss}
        if one.rate is not None:
            yield {"series": "optimum", **search, "lr": one.rate, **_ends(one.interval), "left": one.left}


def _ablations(extras: Extras) -> Rows:
    for one in extras.ablations:
        matched, laws, rates = one.matched, one.by_laws, one.matched.rates
        pair = {"new": one.new, "old": one.old}
        yield {"series": "repeats at one budget", **pair, "gain": matched.gain, **_ends(matched.interval),
               "flops": matched.flops, "runs_old": matched.repeats[0], "runs_new": matched.repeats[1],
               "at_optimal_rates": matched.at_optimal, "searches": 0 if rates is None else rates.searches,
               "searches_without_optimum": 0 if rates is None else rates.without_optimum,
               "decades_beyond": matched.decades_beyond, "why_none": matched.reason}  # fmt: skip
        yield {"series": "laws of both", **pair, "gain": None if laws is None else laws.gain,
               **_ends(None if laws is None else laws.interval), "flops": None if laws is None else laws.flops_b}  # fmt: skip
