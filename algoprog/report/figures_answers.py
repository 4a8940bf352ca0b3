"""The figures of interactions, optimal sizes, tests for a break and a decomposed chain, and what they show as CSV."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from matplotlib.figure import Figure

from algoprog.report.answers import Answers
from algoprog.report.chain import Chain, shares_told
from algoprog.report.figure_breaks import break_figure
from algoprog.report.figure_extrapolation import extrapolation_figure
from algoprog.report.figure_factorial import factorial_figure
from algoprog.report.figure_isoflop import isoflop_figure
from algoprog.report.figure_reference import reference_figure
from algoprog.report.figure_waterfall import waterfall_figure
from algoprog.report.law_tests import ArchTests
from algoprog.report.optimal_size import Fits, OptimalSize
from algoprog.scaling import InputError
from algoprog.scaling.breakpoints.breaks import BreakTest
from algoprog.scaling.breakpoints.extrapolation import Extrapolation
from algoprog.scaling.decomposition.estimate import Estimate
from algoprog.scaling.interactions.result import FactorialAnalysis

MOST_DRAWN = 4  # architectures whose tests are drawn: two figures each
PER_ARCH = ("break", "extrapolation", "isoflop")

Rows = list[dict[str, Any]]


def answer_figures(found: Answers) -> dict[str, Figure]:
    """The figures by name, without those that would be empty; those of an architecture end in its name."""
    drawn = {}
    if found.factorial is not None and any(one.log_gain is not None for one in found.factorial.effects):
        drawn["interactions"] = factorial_figure(found.factorial)
    for name, fits in drawn_sizes(found.sizes):
        drawn[name] = isoflop_figure(fits.slices, fits.boot)
    for names, one in drawn_tests(found.laws):
        if one.test is not None and one.test.evidence is not None:
            drawn[names[0]] = break_figure(one.test)
        if one.extrapolation is not None and one.extrapolation.cuts:
            drawn[names[1]] = extrapolation_figure(one.extrapolation)
    if found.chain is not None:
        chain, clock = found.chain, "year" if found.chain.timed else "decade of compute"
        try:
            drawn["waterfall"] = waterfall_figure(chain.found, [chain.title])
        except InputError:
            pass  # no step gains anything: the table says so
        drawn["reference"] = reference_figure(chain.found, clock, chain.inside)  # type: ignore[arg-type]
    return drawn


def drawn_tests(tests: Sequence[ArchTests]) -> list[tuple[tuple[str, str], ArchTests]]:
    """The architectures with most points whose tests found something to draw, with the names of their two figures."""
    telling = [
        (number, one)
        for number, one in enumerate(tests)
        if (one.test is not None and one.test.evidence is not None)
        or (one.extrapolation is not None and one.extrapolation.cuts)
    ]
    chosen = sorted(sorted(telling, key=lambda item: -item[1].points)[:MOST_DRAWN], key=lambda item: item[0])
    parts = _parts([(number, one.arch) for number, one in chosen])
    return [((f"break-{part}", f"extrapolation-{part}"), one) for part, (_, one) in zip(parts, chosen, strict=True)]


def drawn_sizes(sizes: Sequence[OptimalSize]) -> list[tuple[str, Fits]]:
    """The fits that have a slice to draw, with the name of its figure."""
    chosen = [(number, one) for number, one in enumerate(sizes) if one.fits is not None and one.fits.drawn]
    parts = _parts([(number, one.arch) for number, one in chosen])
    return [(f"isoflop-{part}", one.fits) for part, (_, one) in zip(parts, chosen, strict=True) if one.fits is not None]


def _parts(chosen: Sequence[tuple[int, str]]) -> list[str]:
    """What a figure's name ends in: the architecture, with its number where that is not unique in a file's name."""
    slugs = [_slug(arch) for _, arch in chosen]
    return [
        slug if slug and slugs.count(slug) == 1 else f"{slug or 'arch'}-{number}"
        for slug, (number, _) in zip(slugs, chosen, strict=True)
    ]


def _slug(arch: str) -> str:
    """What of a name may stand in the name of a file and in an address."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", arch).strip("-.")


def answer_rows(found: Answers) -> dict[str, Rows]:
    """What the figures of :func:`answer_figures` show, rows by the name of the figure."""
    rows: dict[str, Rows] = {}
    if found.factorial is not None:
        rows["interactions"] = list(_interactions(found.factorial))
    rows |= {name: list(_sizes(fits)) for name, fits in drawn_sizes(found.sizes)}
    for names, one in drawn_tests(found.laws):
        if one.test is not None and one.test.evidence is not None:
            rows[names[0]] = list(_break(one.test))
        if one.extrapolation is not None:
            rows[names[1]] = list(_extrapolation(one.extrapolation))
    if found.chain is not None:
        rows["waterfall"], rows["reference"] = list(_waterfall(found.chain)), list(_references(found.chain))
    return rows


def _ends(interval: tuple[float, float] | None) -> dict[str, Any]:
    return {"low": None if interval is None else interval[0], "high": None if interval is None else interval[1]}


def _interactions(found: FactorialAnalysis) -> Iterator[dict[str, Any]]:
    product = found.product
    series = [
        *(("single change", one) for one in product.singles), ("predicted product", product.predicted),
        ("measured together", product.measured), ("predicted over measured", product.excess),
        *(("effect" if len(one.factors) == 1 else "interaction", one) for one in found.effects),
    ]  # fmt: skip
    for name, one in series:
        yield {"series": name, "factors": one.name, "gain": one.gain, **_ends(one.gain_interval)}


def _sizes(fits: Fits) -> Iterator[dict[str, Any]]:
    found, boot, drawn = fits.slices, fits.boot, 0
    data = found.points
    for group, params, tokens, loss in zip(found.groups, data.params, data.tokens, data.loss, strict=True):
        yield {"series": "run", "flops": found.slices[group].flops, "params": params, "tokens": tokens, "loss": loss}
    for one in found.slices:
        if math.isfinite(one.params):
            ends = boot.params_interval(drawn) if one.used else None
            yield {"series": "minimum", "flops": one.flops, "params": one.params, "tokens": one.tokens, "loss": one.loss,
                   **_ends(ends), "counts": one.used, "checks_failed": " ".join(one.flags)}  # fmt: skip
        drawn += one.used
    if found.allocation is not None:
        yield {"series": "exponent of N*", "value": found.allocation.a, **_ends(boot.intervals["a"])}


def _break(test: BreakTest) -> Iterator[dict[str, Any]]:
    found = test.evidence
    assert found is not None
    for x, loss in test.points[["flops", "loss"]].to_numpy(dtype=float):
        one, two = found.one.loss(float(x)), found.two.loss(x)
        yield {"series": "point", "flops": x, "loss": loss, "one_law": one, "two_pieces": float(two)}
    for x, value in zip(found.profile_flops, found.profile_f, strict=True):
        yield {"series": "F by position", "flops": x, "F": value, "critical": found.critical}
    low, high = found.position.interval
    yield {"series": "best break", "flops": found.position.flops, "F": found.sup_f, "p": found.p_value,
           "low": low, "high": high}  # fmt: skip


def _extrapolation(test: Extrapolation) -> Iterator[dict[str, Any]]:
    for cut in test.cuts:
        parts = (cut.later_flops, cut.error, cut.half_width, cut.flagged)
        for x, error, width, flagged in zip(*parts, strict=True):
            yield {"series": "prediction", "fitted_to": cut.flops, "points": cut.n, "flops": x, "error_ln_loss": error,
                   "half_width": width, "flagged": bool(flagged), "verdict": cut.verdict.value}  # fmt: skip
    if test.cusum is not None:
        for x, value in zip(test.cusum.flops, test.cusum.value, strict=True):
            yield {"series": "CUSUM", "flops": x, "cusum": value, "limit": test.cusum.limit}


def _waterfall(chain: Chain) -> Iterator[dict[str, Any]]:
    for series, part in (("composed", chain.span.composed), ("at one compute", chain.span.study)):
        told = shares_told(part.total)
        for name, factor in part.factors.items():
            share = part.shares[name] if told else None
            yield _step(series, name, factor, share)
        yield _step(series, "total", part.total, None)


def _step(series: str, name: str, factor: Estimate, share: Estimate | None) -> dict[str, Any]:
    ends = _ends(None if share is None else share.interval)
    return {"series": series, "step": name, "factor": factor.value, **_ends(factor.interval),
            "share": None if share is None else share.value, "share_low": ends["low"], "share_high": ends["high"]}  # fmt: skip


def _references(chain: Chain) -> Iterator[dict[str, Any]]:
    assert chain.found.references is not None
    for name, part in chain.found.references.rows.items():
        for row, inside in zip(part, chain.inside[name], strict=True):
            when = {"year": row.year} if chain.timed else {}
            gain, rate = row.composed.gain, row.composed.log_rate
            head = {"series": f"against {name}", **when, "flops": row.flops}
            yield {**head, "gain": gain.value, **_ends(gain.interval), "log_growth": rate.value, "in_range": inside}
