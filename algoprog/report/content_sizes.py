"""The tables and sentences of the optimal size: what the runs say beside the published exponents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from algoprog.report.content import Cell, Grid
from algoprog.report.numbers import Interval, digits, flops, listed, percent, with_interval
from algoprog.report.optimal_size import OptimalSize, Way
from algoprog.report.style import Look
from algoprog.scaling.published.optimal_size import hoffmann_exponents, kaplan_exponent
from algoprog.scaling.surface.law import FLOPS_PER_PARAM_TOKEN


def sizes_table(found: Sequence[OptimalSize], look: Mapping[str, Look]) -> Grid:
    """Per architecture and way the exponent of N*, tokens per parameter, and whether published exponents lie inside."""
    level, (low, high) = _level(found), hoffmann_exponents()
    columns = (
        "architecture", "by", f"exponent a of N* ({level})", "rests on", f"Kaplan's {kaplan_exponent():g} inside",
        f"Hoffmann's {low:.2f} to {high:.2f} inside", f"tokens per parameter ({level})", "at FLOPs",
    )  # fmt: skip
    caption = (
        "Optimal size N* ∝ C^a at compute C, by the loss surface over parameters and tokens and by the minima of IsoFLOP "
        "slices, and whether the exponents of Kaplan et al. 2020 (arXiv 2001.08361) and Hoffmann et al. 2022 (arXiv "
        "2203.15556) lie inside its interval. Tokens per parameter of the optimum: at the middle budget."
    )
    rows = [[Cell(one.arch, look=look.get(one.arch)), *_way(way)] for one in found for way in one.ways]
    return Grid("optimal-size", caption, columns, rows)


def _way(way: Way) -> list[Cell]:
    ratio = Cell("none: no minimum there", kind="open")
    if way.ratio is not None:
        ratio = Cell(with_interval(way.ratio, way.ratio_interval), way.ratio)
    return [
        Cell(way.name),
        Cell(with_interval(way.a, way.interval), way.a, kind="bad" if way.doubt else ""),
        Cell(way.rests_on, kind="bad" if way.doubt else ""),
        _inside(way, _kaplan()),
        _inside(way, hoffmann_exponents()),
        ratio,
        Cell(flops(way.flops), way.flops),
    ]


def _inside(way: Way, published: tuple[float, float]) -> Cell:
    return Cell("–") if way.interval is None else Cell(placed(way.interval, published))


def placed(interval: tuple[float, float], published: tuple[float, float]) -> str:
    """Whether a published range lies inside an interval: ``yes``, ``in part`` or ``no``."""
    if published[1] < interval[0] or interval[1] < published[0]:
        return "no"
    return "yes" if interval[0] <= published[0] and published[1] <= interval[1] else "in part"


def waste_table(found: Sequence[OptimalSize], look: Mapping[str, Look]) -> Grid:
    """The factor of compute that Kaplan's exponent wastes at both ends of the runs."""
    level = _level(found)
    caption = (
        f"Compute wasted by Kaplan's exponent: spent with N growing as C^{kaplan_exponent():g} from our optimum in the middle "
        "of the runs, over the least compute for the same loss. Intervals: the surface is drawn, the policy stays. The factor "
        "is never below 1, so its interval cannot exclude that nothing is wasted; that is read off the exponents."
    )
    rows = [
        [
            Cell(one.arch, look=look.get(one.arch)),
            Cell(where),
            Cell(flops(waste.flops), waste.flops),
            Cell(with_interval(waste.found.gain, waste.found.interval), waste.found.gain),
        ]
        for one in found
        for where, waste in zip(("cheapest budget", "dearest budget"), one.waste, strict=False)
    ]
    return Grid("kaplan-waste", caption, ("architecture", "at", "FLOPs", f"factor wasted ({level})"), rows)


def sizes_told(found: Sequence[OptimalSize]) -> list[tuple[str, str, tuple[str, ...]]]:
    """Per architecture what is established and what is not, or why there is nothing; and what to be wary of."""
    return [(one.arch, _answered(one), one.warnings) for one in found]


def _answered(one: OptimalSize) -> str:
    if not one.ways or one.fits is None:
        return f"No optimal size can be told: {one.why}."
    first, last = one.fits.flops_range
    grown = listed([f"C^{with_interval(way.a, way.interval)} by {_by(way)}" for way in one.ways])
    head = f"From {flops(first)} to {flops(last)} FLOPs the optimal size grows as {grown}"
    usable = [way for way in one.ways if not way.doubt and way.interval is not None]
    doubts = [f"{_by(way)} ({way.doubt or 'no interval'})" for way in one.ways if way not in usable]
    if not usable:
        return f"{head}. No published exponent is confirmed or excluded: nothing is read off {listed(doubts)}."
    (kaplan, _), (low, high) = _kaplan(), hoffmann_exponents()
    told = (
        f"Kaplan's {kaplan:g} is {_verdict(_kaplan(), usable)}, and Hoffmann's {low:.2f} to {high:.2f} is "
        f"{_verdict((low, high), usable)}"
    )
    less = f" Nothing is read off {listed(doubts)}." if doubts else ""
    return f"{head}: {told}. Beyond these budgets nothing is established.{less}"


def _kaplan() -> tuple[float, float]:
    return kaplan_exponent(), kaplan_exponent()


def _by(way: Way) -> str:
    return f"the {way.name}"


def _verdict(published: tuple[float, float], ways: Sequence[Way]) -> str:
    """What the intervals of all ``ways`` together say about a published range."""
    excluding = [way for way in ways if way.interval is not None and placed(way.interval, published) == "no"]
    if not excluding:
        return "not excluded"
    if len(excluding) < len(ways):
        others = [_by(way) for way in ways if way not in excluding]
        return f"excluded by {_by(excluding[0])} but not by {others[0]}, so that it is wrong here is not established"
    sides = {_side(way.interval, published) for way in excluding}
    return f"excluded: N* grows {sides.pop()}" if len(sides) == 1 else "excluded by both ways, on opposite sides"


def _side(interval: Interval, published: tuple[float, float]) -> str:
    assert interval is not None
    return "more slowly" if interval[1] < published[0] else "faster"


def sizes_method(found: Sequence[OptimalSize]) -> str:
    """How fits, intervals and tokens were made; empty without a fit."""
    fits = [one.fits for one in found if one.fits is not None]
    if not fits:
        return ""
    low, high = min(one.conversion[0] for one in fits), max(one.conversion[1] for one in fits)
    return (
        f"surface, {fits[0].surface.boot.method}; slices with the shape of the surface, {fits[0].boot.method}. Tokens follow "
        f"from C = {FLOPS_PER_PARAM_TOKEN:g} N D; the FLOPs counted are {digits(low)} to {digits(high)} times that"
    )


def _level(found: Sequence[OptimalSize]) -> str:
    return listed(sorted({percent(one.fits.level) for one in found if one.fits is not None}))
