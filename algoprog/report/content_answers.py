"""The tables and sentences of interactions, of tests for a break, and of a decomposed chain."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from string import ascii_uppercase

from algoprog.report.answers import Answers
from algoprog.report.chain import Chain, shares_told
from algoprog.report.content import Cell, Grid
from algoprog.report.law_tests import FEWEST_POINTS, ArchTests
from algoprog.report.numbers import digits, flops, listed, percent, with_interval
from algoprog.report.style import Look
from algoprog.scaling.breakpoints.breaks import BreakTest
from algoprog.scaling.breakpoints.extrapolation import Extrapolation
from algoprog.scaling.breakpoints.licensing import contradicted, earned
from algoprog.scaling.breakpoints.words import break_sentence, break_warnings, extrapolation_sentence
from algoprog.scaling.decomposition.estimate import Estimate
from algoprog.scaling.decomposition.reference_dependence import AgainstReference
from algoprog.scaling.interactions.result import Effect, FactorialAnalysis


def interactions_table(found: FactorialAnalysis) -> Grid:
    """Single changes, their product, the joint change, and every effect and interaction."""
    level, letters = percent(found.level), dict(zip(found.factors, ascii_uppercase, strict=False))
    way = "undone alone in the all-new recipe" if found.reference == "new" else "made alone in the all-old recipe"
    product = found.product
    rows = [_effect(f"{letters[one.name]} {way}", one) for one in product.singles]
    rows.append(_effect("predicted: their product", product.predicted))
    rows.append(_effect("measured: all new over all old", product.measured))
    rows.append(_effect("predicted over measured", product.excess))
    rows += [_effect(_effect_name(one, letters), one) for one in found.effects]
    changes = "; ".join(f"{letters[name]}: {name} from {old} to {new}" for name, (old, new) in found.factors.items())
    caption = (
        f"Gains in compute of the changes {changes}. Effects are averages over all levels of the other factors; an "
        "interaction away from 1 means that gains do not multiply."
    )
    return Grid("interactions", caption, ("change", f"gain ({level})", "interval excludes 1"), rows)


def _effect_name(effect: Effect, letters: Mapping[str, str]) -> str:
    kind = "effect of" if len(effect.factors) == 1 else "interaction"
    return f"{kind} {' × '.join(letters[name] for name in effect.factors)}"


def _effect(name: str, effect: Effect) -> list[Cell]:
    if effect.gain is None:
        return [Cell(name), Cell("needs a cell that is missing", kind="open"), Cell("–")]
    return [
        Cell(name),
        Cell(with_interval(effect.gain, effect.gain_interval), effect.gain),
        _apart(effect.gain_interval),
    ]


def _apart(interval: tuple[float, float] | None) -> Cell:
    if interval is None:
        return Cell("–")
    return Cell("no") if interval[0] <= 1 <= interval[1] else Cell("yes", kind="good")


def interactions_sentence(found: FactorialAnalysis) -> str:
    """Whether single gains multiply, in one sentence."""
    product = found.product
    if product.predicted.gain is None or product.measured.gain is None or product.excess.gain is None:
        return "Whether the gains of single changes multiply cannot be told yet: runs of some combination are missing."
    told = (
        f"Multiplied, the {len(product.singles)} single changes promise a gain of "
        f"{with_interval(product.predicted.gain, product.predicted.gain_interval)}; made together they give "
        f"{with_interval(product.measured.gain, product.measured.gain_interval)}"
    )
    excess, ends = with_interval(product.excess.gain, product.excess.gain_interval), product.excess.gain_interval
    if ends is None:
        return f"{told}; without repeated runs it is not known whether their ratio, {excess}, differs from 1."
    if ends[0] <= 1 <= ends[1]:
        return f"{told}; that they do not simply multiply is not established: the ratio of the two is {excess}."
    less = product.excess.gain > 1
    return f"{told}: together they give {'less' if less else 'more'} than their product, by a factor of {excess}."


def breaks_table(tests: Sequence[ArchTests], look: Mapping[str, Look]) -> Grid:
    """Per architecture with enough points the test for a break and what its extrapolation has earned."""
    columns = (
        "architecture", "frontier points", "break claimed", "p of one law (Monte Carlo)", "BIC: one law minus two",
        "best break, FLOPs (95 %)", "exponent before and after", "licensed beyond its runs, decades",
    )  # fmt: skip
    caption = (
        "Is it one law? A break is claimed where the sup-F test with simulated p, the BIC and the position agree. Licensed: "
        "how far predictions from smaller runs have been tried on larger ones, and held."
    )
    return Grid("breaks", caption, columns, [_tested(one, look) for one in tests if not one.too_few])


def _tested(one: ArchTests, look: Mapping[str, Look]) -> list[Cell]:
    head = [Cell(one.arch, look=look.get(one.arch)), Cell(str(one.points), one.points)]
    return [*head, *_evidence(one.test), _licence(one.extrapolation)]


def _evidence(test: BreakTest | None) -> list[Cell]:
    if test is None or test.evidence is None:
        why = "not tested here" if test is None else test.status.value.replace("_", " ")
        return [Cell(why, kind="open"), *[Cell("–")] * 4]
    found = test.evidence
    low, high = found.position.interval
    (first, second) = found.position.alpha_intervals
    return [
        Cell("yes", kind="bad") if found.claimed else Cell("one law is rejected" if found.rejected else "no"),
        Cell(with_interval(found.p_value, found.p_interval), found.p_value),
        Cell(digits(found.delta_bic), found.delta_bic),
        Cell(f"{flops(found.position.flops)} ({flops(low)} to {flops(high)})", found.position.flops),
        Cell(f"{with_interval(found.two.alpha1, first)}, then {with_interval(found.two.alpha2, second)}"),
    ]


def _licence(test: Extrapolation | None) -> Cell:
    if test is None or not test.cuts:
        return Cell("none: nothing to test on", kind="open")
    cut = earned(test)
    if cut is None:
        return Cell(
            "none: the tests fail" if contradicted(test) else "none", kind="bad" if contradicted(test) else "open"
        )
    return Cell(f"{digits(cut.licence_decades, 2)}, to {flops(test.flops_range[1] * 10**cut.licence_decades)} FLOPs",
                cut.licence_decades, kind="good")  # fmt: skip


def breaks_sentences(tests: Sequence[ArchTests]) -> list[tuple[str, list[str]]]:
    """Per architecture with enough points what was found, in sentences, or why it was not tested."""
    told = []
    for one in tests:
        if one.too_few:
            continue
        if one.test is None or one.extrapolation is None:
            told.append((one.arch, [f"Not tested here: {one.skipped}."]))
        else:
            said = [break_sentence(one.test), extrapolation_sentence(one.extrapolation), *break_warnings(one.test)]
            told.append((one.arch, said))
    return told


def untested_sentence(tests: Sequence[ArchTests]) -> str:
    """Which architectures have too few points for any test; empty if none has."""
    few = [one for one in tests if one.too_few]
    if not few:
        return ""
    names = listed([f"{one.arch} ({one.points})" for one in few])
    return (
        f"Too few points on the frontier to test anything: {names}. Predictions need {FEWEST_POINTS} budgets, a test for a "
        "break five on each side of it."
    )


def breaks_method(tests: Sequence[ArchTests]) -> str:
    """How p and limits were made; empty without a test."""
    made = [one.test.method for one in tests if one.test is not None and one.test.evidence is not None]
    return made[0] if made else ""


def beyond_sentences(found: Answers) -> list[tuple[str, str]]:
    """Extrapolated gains and what licenses them."""
    return [
        (
            f"{one.gain.b} over {one.gain.a} at {flops(one.gain.flops_b)} FLOPs",
            " ".join(
                ["Licensed." if one.allowed else "Not licensed.", *(licence.sentence for licence in one.licences)]
            ),
        )
        for one in found.beyond
    ]


def chain_table(chain: Chain) -> Grid:
    """Every step with its factor and share, composed and at one compute."""
    level, span = percent(chain.found.level), chain.span
    columns = (
        "step", f"factor, composed ({level})", "share of ln gain", "factor at one compute", "share of ln gain",
    )  # fmt: skip
    caption = (
        f"Decomposition at {chain.title}. Composed: factors multiply to the total gain, in compute of "
        f"{chain.asked.stages[0]}. At one compute: each step's own gain with every architecture at the same compute."
    )
    if not shares_told(span.composed.total):
        caption += " No shares: the interval of the total includes 1, so there is no gain to share."
    rows = []
    for name in span.composed.factors:
        cells = [Cell(name)]
        for part in (span.composed, span.study):
            cells += [_factor(part.factors[name]), _share(part.shares[name], shares_told(part.total))]
        rows.append(cells)
    total = [Cell("total"), _factor(span.composed.total), Cell("–"), _factor(span.study.total), Cell("–")]
    return Grid("decomposition", caption, columns, [*rows, total])


def _factor(one: Estimate) -> Cell:
    return Cell(with_interval(one.value, one.interval), one.value)


def _share(one: Estimate, told: bool) -> Cell:
    if not told:
        return Cell("–")
    ends = None if one.interval is None else (100 * one.interval[0], 100 * one.interval[1])
    return Cell(f"{with_interval(100 * one.value, ends)} %", 100 * one.value)


def chain_sentence(chain: Chain) -> str:
    """The total and each step's share in one sentence, and whether it lies inside the data."""
    first, last, found = chain.asked.stages[0], chain.asked.stages[-1], chain.span.composed
    total = with_interval(found.total.value, found.total.interval)
    beyond = (
        "" if not found.decades_beyond else f", extrapolated {digits(found.decades_beyond, 2)} decades beyond the data"
    )
    head = f"At {flops(chain.flops)} FLOPs of {last}{beyond}, the gain over {first} is {total}"
    if not shares_told(found.total):
        return f"{head}; as that interval includes 1, there is no gain to divide among the steps."
    parts = [f"{name} {_share(found.shares[name], True).text}" for name in found.factors]
    return f"{head}; of its logarithm come from {'; '.join(parts)}."


def references_table(chain: Chain) -> Grid:
    """The same recipe against every stage: the gain at the end, and how fast it grows."""
    assert chain.found.references is not None
    level, last = percent(chain.found.level), chain.asked.stages[-1]
    unit = "year" if chain.timed else "decade of compute"
    where = "" if chain.timed else f" of {last}"
    columns = ("measured against", "at", f"gain of {last} ({level})", "inside the data", f"factor per {unit} ({level})")
    rows = []
    for name, part in chain.found.references.rows.items():
        for i in (0, len(part) - 1):
            rows.append(_reference(name, part[i], chain.inside[name][i], chain.timed))
    caption = (
        f"The same recipe, {last}, against every architecture of the chain{where and ', over the compute' + where}: the growth "
        "of a gain belongs to its reference, and against itself nothing grows."
    )
    return Grid("references", caption, columns, rows)


def _reference(name: str, row: AgainstReference, inside: bool, timed: bool) -> list[Cell]:
    rate = row.composed.log_rate
    ends = None if rate.interval is None else (_exp(rate.interval[0]), _exp(rate.interval[1]))
    growth = (
        Cell("1, by definition") if rate.value == 0 and ends is None else Cell(with_interval(_exp(rate.value), ends))
    )
    at = f"{row.year:g}, {flops(row.flops)} FLOPs" if timed else f"{flops(row.flops)} FLOPs"
    gain = row.composed.gain
    told = Cell("1, by definition") if gain.value == 1 and gain.interval is None else _factor(gain)
    return [
        Cell(name),
        Cell(at, row.flops),
        told,
        Cell("yes", kind="good") if inside else Cell("no", kind="bad"),
        growth,
    ]


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
