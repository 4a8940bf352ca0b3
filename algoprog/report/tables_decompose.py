"""A decomposition on a terminal. Everything printed here is also in the JSON of the command."""

from __future__ import annotations

from algoprog.report.numbers import digits, flops, percent, with_interval
from algoprog.report.tables import _table as print_table
from algoprog.scaling.decomposition.estimate import Estimate
from algoprog.scaling.decomposition.reference_dependence import YearGain
from algoprog.scaling.decomposition.result import Decomposition, SpanResult


def print_decomposition(found: Decomposition) -> None:
    """Per span both arithmetics with shares, then orders, level and slope, references, and the notes."""
    print(f"{found.plan.name}: gains in compute of {found.plan.start}; {found.method}")
    if any(span.composed.total.interval is not None for span in found.spans):
        print(f"in brackets: {percent(found.level)} intervals")
    for span in found.spans:
        _span(span)
        _orders(span)
    _level_slope(found)
    _references(found)
    for note in found.notes:
        print(f"note: {note}")


def _span(span: SpanResult) -> None:
    s, c = span.study, span.composed
    rows = [
        (name, _factor(s.factors[name]), _share(s.shares[name]), _factor(c.factors[name]), _share(c.shares[name]))
        for name in c.factors
    ]
    rows.append(("total", _factor(s.total, 6), "", _factor(c.total, 6), ""))
    columns = ("stage", "at one compute", "share", "composed", "share")
    print_table(f"{span.label}, {flops(span.flops, 4)} FLOPs at the frontier", columns, rows)
    scale = f"{_share(s.scale_dependent_share)} of ln gain is called scale-dependent ({_factor(s.scale_dependent)}"
    print(f"at one compute: {scale}, level and slope alike)")
    if s.per_year is not None:
        steady = f"{digits(s.per_year.factor, 5)} per year, doubling in {digits(s.per_year.doubling_months)} months"
        gap = "" if s.gap is None else f"; the published gain is {digits(s.gap)} times as large"
        print(f"at one compute: {steady}{gap}")
    print(f"composed: {_factor(c.total_in_last)} in compute of the last recipe")
    for name, spread in c.policy_range.items():
        low, high = (100 * value for value in spread.share)
        totals = " to ".join(digits(value, 6) for value in dict.fromkeys(spread.total))
        print(f"composed, other policies before {name}: its share {low:.1f} to {high:.1f} %, the total {totals}")


def _orders(span: SpanResult) -> None:
    c = span.composed
    rows: list[tuple[str, ...]] = [
        (" > ".join(one.order), *(_share(one.shares[name]) for name in c.factors)) for one in c.orders
    ]
    rows.append((f"mean of {c.n_orders} (Shapley)", *(_share(c.shapley_shares[name]) for name in c.factors)))
    if c.reference_free is not None:
        rows.append(("of the fall of ln(L - E)", *(_share(c.reference_free[name]) for name in c.factors)))
    print_table(f"{span.label}, composed: shares by order of the stages", ("order", *c.factors), rows)


def _level_slope(found: Decomposition) -> None:
    for span in found.spans:
        rows = [
            (flops(row.C0), _number(row.level), _number(row.slope), _share(row.level_share))
            for row in span.composed.level_slope
        ]
        if rows:
            first = span.composed.level_slope[0]
            title = f"{span.label}: level and slope of ln G, {first.new} over {first.old}, about C0"
            print_table(title, ("C0, FLOPs", "level, ln G(C0)", "slope, the rest", "level share"), rows)


def _references(found: Decomposition) -> None:
    if found.references is None:
        return
    ends = {span.span[1] for span in found.spans}
    rows = [
        (name, f"{row.year:g}", *_growth(row.study), *_growth(row.composed))
        for name, part in found.references.rows.items()
        for row in part
        if row.year in ends or row is part[-1]
    ]
    recipe = f"{found.references.recipe} with an invariant gain of {digits(found.references.gain)}"
    columns = ("against", "year", "gain", "log rate", "a year", "composed", "log rate", "a year")
    print_table(f"{recipe}: gain at one compute and composed, with growth", columns, rows)


def _growth(one: YearGain) -> tuple[str, str, str]:
    return _factor(one.gain), _number(one.log_rate), f"{100 * one.annual:.1f} %"


def _factor(one: Estimate, n: int = 4) -> str:
    return f"{digits(one.value, n)}×" if one.interval is None else with_interval(one.value, one.interval)


def _number(one: Estimate) -> str:
    return digits(one.value) if one.interval is None else with_interval(one.value, one.interval)


def _share(one: Estimate) -> str:
    value = f"{100 * one.value:.1f}"
    if one.interval is None:
        return f"{value} %"
    return f"{value} % ({100 * one.interval[0]:.1f} to {100 * one.interval[1]:.1f})"
