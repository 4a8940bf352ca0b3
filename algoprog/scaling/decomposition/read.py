"""A decomposition's plan from a plain mapping, such as a parsed YAML file, checked key by key."""

from __future__ import annotations

import math
from collections.abc import Mapping

from algoprog.scaling.allocation import AllocationGain, Policy, RoundedFactor
from algoprog.scaling.decomposition.mapping_reader import Section, number, require_name
from algoprog.scaling.decomposition.plan import (
    AllocationStage,
    InvariantStage,
    LawStage,
    Part,
    Plan,
    Reference,
    ReferencePlan,
    Stage,
    StatedLaw,
)
from algoprog.scaling.errors import InputError
from algoprog.scaling.growth import ComputeTrend
from algoprog.scaling.laws import PowerLaw
from algoprog.scaling.surface.law import Surface

MAX_STAGES = 12  # the sets of stages double with each one

TOP = ("name", "start", "laws", "stages", "compute", "spans", "level_at", "target", "reference_dependence")


def read_plan(values: object, where: str = "decomposition") -> Plan:
    """Check a mapping (see ``configs/decompose/gundlach-2025.yaml`` for all keys) and make it a plan.

    Raises InputError with the path of the key for anything missing, unknown, malformed or inconsistent.
    """
    top = Section(values, where, TOP)
    laws = {name: _law(Section(part, f"{where}.laws.{name}", LAW)) for name, part in top.named("laws").items()}
    stages = _stages(top, tuple(laws))
    trend = _trend(top.section("compute", ("flops", "year", "growth")))
    spans = tuple(_span(item, f"{where}.spans[{i}]", stages) for i, item in enumerate(top.items("spans")))
    if not spans:
        raise InputError("no span", where=top.where("spans"), expected="at least one [first year, last year]")
    return Plan(
        name=top.text("name"),
        start=top.text("start", tuple(laws)),
        laws=laws,
        stages=stages,
        trend=trend,
        spans=spans,
        level_at=top.numbers("level_at", above=0.0) if top.has("level_at") else (),
        target=top.number("target", above=0.0) if top.has("target") else None,
        references=_references(top, laws, stages) if top.has("reference_dependence") else None,
    )


LAW = ("E", "A", "alpha", "arch", "flops_range")


def _law(part: Section) -> StatedLaw:
    law = PowerLaw(part.number("E", least=0.0), part.number("A", above=0.0), part.number("alpha", above=0.0))
    span = part.numbers("flops_range", 2, above=0.0) if part.has("flops_range") else None
    if span is not None and span[0] >= span[1]:
        raise InputError("bad range", where=part.where("flops_range"), got=list(span), expected="[lowest, highest]")
    return StatedLaw(law, part.text("arch") if part.has("arch") else None, None if span is None else (span[0], span[1]))


def _trend(part: Section) -> ComputeTrend:
    return ComputeTrend(part.number("flops", above=0.0), part.number("year"), part.number("growth", above=0.0))


def _span(value: object, where: str, stages: tuple[Stage, ...]) -> tuple[float, float]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise InputError("not a span", where=where, got=repr(value), expected="[first year, last year]")
    first, last = (number(v, where) for v in value)
    if not first < stages[0].year <= last:
        expected = f"a first year before {stages[0].year:g}, when the first stage comes, and a last year from then on"
        raise InputError("bad span", where=where, got=f"{first:g} to {last:g}", expected=expected)
    return first, last


COMMON = ("name", "kind", "year", "after")
KINDS = {
    "law": (*COMMON, "law"),
    "invariant": (*COMMON, "gain", "parts", "joint"),
    "allocation": (*COMMON, "surface", "policy", "policies", "rounded"),
}


def _stages(top: Section, laws: tuple[str, ...]) -> tuple[Stage, ...]:
    stages: list[Stage] = []
    items = top.items("stages")
    if not 1 <= len(items) <= MAX_STAGES:
        raise InputError("bad number of stages", where=top.where("stages"), got=len(items), expected="1 to 12")
    for i, item in enumerate(items):
        path = f"{top.path}.stages[{i}]"
        every = tuple(sorted({key for keys in KINDS.values() for key in keys}))
        kind = Section(item, path, every).text("kind", tuple(KINDS))
        stage = _stage(Section(item, path, KINDS[kind]), kind, laws, tuple(s.name for s in stages))
        if stage.name in [s.name for s in stages]:
            raise InputError("two stages of one name", where=path, got=stage.name)
        if stages and stage.year < stages[-1].year:
            raise InputError("stages are not in historical order", where=f"{path}.year", got=f"{stage.year:g}")
        stages.append(stage)
    return tuple(stages)


def _stage(part: Section, kind: str, laws: tuple[str, ...], earlier: tuple[str, ...]) -> Stage:
    after = [str(name) for name in part.items("after")] if part.has("after") else []
    for i, name in enumerate(after):
        require_name(name, earlier, f"{part.where('after')}[{i}]")
    name, year, before = part.text("name"), part.number("year"), frozenset(after)
    if kind == "law":
        return LawStage(name, year, before, part.text("law", laws))
    if kind == "invariant":
        return InvariantStage(name, year, before, _parts(part, name, year))
    return _allocation(part, name, year, before)


def _parts(part: Section, name: str, year: float) -> tuple[Part, ...]:
    if part.has("gain") == part.has("parts"):
        raise InputError("say how large the gain is", where=part.path, expected="exactly one of gain and parts")
    if part.has("gain"):
        gain = part.number("gain", above=0.0)
        return (Part(name, year, gain, gain, True),)
    keys = ("name", "year", "gain", "over", "shrink", "counted")
    sections = [Section(v, f"{part.where('parts')}[{i}]", keys) for i, v in enumerate(part.items("parts"))]
    measured = [s.number("gain", above=0.0) / s.number("over", 1.0, above=0.0) for s in sections]
    shrunk = [s.flag("shrink", False) for s in sections]
    power = _shrinkage(part, [g for g, yes in zip(measured, shrunk, strict=True) if yes])
    return tuple(
        Part(s.text("name"), s.number("year", year), g, g**power if yes else g, s.flag("counted", True))
        for s, g, yes in zip(sections, measured, shrunk, strict=True)
    )


def _shrinkage(part: Section, gains: list[float]) -> float:
    """The power q that makes the product of ``gains`` the ``joint`` gain: ln joint/ln product."""
    if part.has("joint") != bool(gains):
        expected = "joint together with parts that have shrink: true"
        raise InputError("one without the other", where=part.where("joint"), expected=expected)
    if not gains:
        return 1.0
    product = math.prod(gains)
    if product == 1.0:
        raise InputError("a product of 1 cannot be shrunk", where=part.where("parts"))
    return math.log(part.number("joint", above=0.0)) / math.log(product)


def _allocation(part: Section, name: str, year: float, after: frozenset[str]) -> AllocationStage:
    s = part.section("surface", ("E", "A", "B", "alpha", "beta"))
    above_zero = (s.number(key, above=0.0) for key in ("A", "B", "alpha", "beta"))
    surface = Surface(s.number("E", 0.0, least=0.0), *above_zero)
    p = part.section("policy", ("params", "flops", "k", "p"))
    if p.has("k"):
        policy = Policy(p.number("k", above=0.0), p.number("p"))
    else:
        policy = Policy.through(p.number("params", above=0.0), p.number("flops", above=0.0), p.number("p"))
    others: tuple[Policy, ...] = ()
    if part.has("policies"):
        o = part.section("policies", ("p", "pivot"))
        pivot = o.number("pivot", above=0.0)
        others = tuple(policy.pivoted(exponent, pivot) for exponent in o.numbers("p"))
    rounded = None
    if part.has("rounded"):
        r = part.section("rounded", ("scale", "terms", "power"))
        first, second = (_term(item, f"{r.where('terms')}[{i}]") for i, item in enumerate(r.items("terms", 2)))
        rounded = RoundedFactor(r.number("scale", above=0.0), (first, second), r.number("power"))
    return AllocationStage(name, year, after, AllocationGain(surface, policy), rounded, others)


def _term(value: object, where: str) -> tuple[float, float]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise InputError("not a term", where=where, got=repr(value), expected="[c, x] for c C^-x")
    return number(value[0], where, above=0.0), number(value[1], where)


def _references(top: Section, laws: Mapping[str, StatedLaw], stages: tuple[Stage, ...]) -> ReferencePlan:
    part = top.section("reference_dependence", ("law", "gain", "references", "years"))
    allocations = tuple(stage.name for stage in stages if isinstance(stage, AllocationStage))
    found = []
    for name, item in part.named("references").items():
        one = Section(item, f"{part.where('references')}.{name}", ("law", "allocation"))
        if one.has("law") == one.has("allocation"):
            raise InputError("say what to compare with", where=one.path, expected="exactly one of law and allocation")
        law = one.text("law", tuple(laws)) if one.has("law") else None
        allocation = None if law else one.text("allocation", allocations)
        found.append(Reference(name, law, allocation))
    years = part.numbers("years")
    if not years or list(years) != sorted(set(years)):
        raise InputError("bad years", where=part.where("years"), got=list(years), expected="rising years")
    return ReferencePlan(part.text("law", tuple(laws)), part.number("gain", 1.0, above=0.0), tuple(found), years)
