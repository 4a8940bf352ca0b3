"""What the command ``algoprog decompose`` computes, and the JSON that it prints.

The JSON is ``{"study", "composed", "shapley", "level_slope", "reference_free", "reference_dependence", ...}``, by span.

Values are plain numbers, ``study["2012-2023"]["total"]``; their intervals (null: none) stand under the same names in the group
``intervals`` beside them. JSON has no infinity and no NaN: see :mod:`algoprog.scaling.commands`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from algoprog.scaling.commands import parse_irreducible, parse_mapping, plain
from algoprog.scaling.decomposition.composed import Composed, LevelSlope
from algoprog.scaling.decomposition.estimate import Estimate
from algoprog.scaling.decomposition.reference_dependence import ReferenceDependence, YearGain
from algoprog.scaling.decomposition.result import Decomposition, SpanResult, decompose
from algoprog.scaling.decomposition.study import StudyArithmetic
from algoprog.scaling.runs.load import load_runs
from algoprog.scaling.runs.units import parse_units
from algoprog.scaling.study import analyse


def decomposition(
    config: object,
    where: str,
    runs: str | Path | None = None,
    irreducible: str = "shared",
    draws: int = 1000,
    seed: int = 0,
    mapping: Sequence[str] = (),
    units: Sequence[str] = (),
) -> Decomposition:
    """Decompose ``config``, called ``where`` in errors; with ``runs``, their laws replace the stated ones.

    Other arguments as on the command line, for ``runs``. Raises InputError for bad ones.
    """
    if runs is None:
        return decompose(config, where=where)
    points = load_runs(runs, parse_mapping(mapping), units=parse_units(units))
    return decompose(config, analyse(points, parse_irreducible(irreducible), draws, seed), where)


def decomposition_json(found: Decomposition) -> dict[str, Any]:
    """The whole result as plain numbers, texts, lists and dicts."""
    spans = {span.label: span for span in found.spans}
    return plain(
        {
            "name": found.plan.name,
            "unit": found.plan.start,
            "laws": {name: {"E": law.E, "A": law.A, "alpha": law.alpha} for name, law in found.laws.items()},
            "study": {label: _study(span) for label, span in spans.items()},
            "composed": {label: _composed(span) for label, span in spans.items()},
            "shapley": {label: _shapley(span.composed) for label, span in spans.items()},
            "level_slope": {
                label: [_level_slope(row) for row in span.composed.level_slope] for label, span in spans.items()
            },
            "reference_free": {label: _reference_free(span.composed) for label, span in spans.items()},
            "reference_dependence": None if found.references is None else _references(found.references),
            "intervals_by": found.method,
            "level": found.level,
            "notes": list(found.notes),
        }
    )


def _study(span: SpanResult) -> dict[str, Any]:
    s: StudyArithmetic = span.study
    return {
        "flops": span.flops,
        "total": s.total.value,
        "factors": _values(s.factors),
        "shares": _values(s.shares),
        "scale_dependent": {"gain": s.scale_dependent.value, "share": s.scale_dependent_share.value},
        "parts": dict(s.parts),
        "per_year": None if s.per_year is None else s.per_year.factor,
        "log_rate": None if s.per_year is None else s.per_year.log_rate,
        "doubling_months": None if s.per_year is None else s.per_year.doubling_months,
        "gap": s.gap,
        "intervals": {
            "total": s.total.interval,
            "factors": _intervals(s.factors),
            "shares": _intervals(s.shares),
            "scale_dependent": s.scale_dependent.interval,
        },
    }


def _composed(span: SpanResult) -> dict[str, Any]:
    c = span.composed
    return {
        "flops": span.flops,
        "status": c.status,
        "total": c.total.value,
        "total_in_last": c.total_in_last.value,
        "factors": _values(c.factors),
        "shares": _values(c.shares),
        "orders": [{"order": list(o.order), "shares": _values(o.shares)} for o in c.orders],
        "policy_range": {
            name: {"factor": r.factor, "share": r.share, "total": r.total} for name, r in c.policy_range.items()
        },
        "in_range": c.in_range,
        "decades_beyond": c.decades_beyond,
        "intervals": {
            "total": c.total.interval,
            "total_in_last": c.total_in_last.interval,
            "factors": _intervals(c.factors),
            "shares": _intervals(c.shares),
        },
    }


def _shapley(c: Composed) -> dict[str, Any]:
    return {
        "orders": c.n_orders,
        "factors": _values(c.shapley_factors),
        "shares": _values(c.shapley_shares),
        "intervals": {"factors": _intervals(c.shapley_factors), "shares": _intervals(c.shapley_shares)},
    }


def _level_slope(row: LevelSlope) -> dict[str, Any]:
    return {
        "old": row.old,
        "new": row.new,
        "C0": row.C0,
        "log_level": row.level.value,
        "log_slope": row.slope.value,
        "level_share": row.level_share.value,
        "intervals": {
            "log_level": row.level.interval,
            "log_slope": row.slope.interval,
            "level_share": row.level_share.interval,
        },
    }


def _reference_free(c: Composed) -> dict[str, Any] | None:
    shares = c.reference_free
    return None if shares is None else {"shares": _values(shares), "intervals": _intervals(shares)}


def _references(found: ReferenceDependence) -> dict[str, Any]:
    rows = {
        name: [{"year": r.year, "flops": r.flops, "study": _year(r.study), "composed": _year(r.composed)} for r in part]
        for name, part in found.rows.items()
    }
    return {"recipe": found.recipe, "gain": found.gain, "references": rows}


def _year(one: YearGain) -> dict[str, Any]:
    return {
        "gain": one.gain.value,
        "log_rate": one.log_rate.value,
        "annual": one.annual,
        "intervals": {"gain": one.gain.interval, "log_rate": one.log_rate.interval},
    }


def _values(parts: Mapping[str, Estimate]) -> dict[str, float]:
    return {name: part.value for name, part in parts.items()}


def _intervals(parts: Mapping[str, Estimate]) -> dict[str, tuple[float, float] | None]:
    return {name: part.interval for name, part in parts.items()}
