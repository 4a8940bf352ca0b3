"""The published numbers with their sources as JSON."""

from __future__ import annotations

from typing import Any

from algoprog.scaling.published import changes, frontier_history, optimal_size, scaling_laws
from algoprog.scaling.published.derived import Derived, derived
from algoprog.scaling.published.number import STUDY, Number


def all_numbers() -> dict[str, tuple[Number, ...]]:
    """Every published number by the group that a figure is drawn from; names are unique within a group."""
    return {
        "scaling": (scaling_laws.IRREDUCIBLE, *scaling_laws.LINES, *scaling_laws.REFITTED, *scaling_laws.GAINS),
        "ablations": tuple(change.gain for change in (*changes.ABLATIONS, *changes.CLASSES)),
        "interactions": changes.TOGETHER,
        "allocation": (
            *frontier_history.SURFACE, *frontier_history.POLICY, *optimal_size.EXPONENTS, *frontier_history.ALLOCATION_GAINS,
        ),
        "progress": (
            *frontier_history.TREND, *frontier_history.TOTALS, *frontier_history.SCALE_DEPENDENT,
            frontier_history.FIRST_TRANSFORMER, frontier_history.INVARIANT, frontier_history.TARGET,
            frontier_history.REFERENCE_GROWTH,
        ),
        "sensitivity": frontier_history.SENSITIVITY,
    }  # fmt: skip


def published_json() -> dict[str, Any]:
    """``{"study", "numbers": {group: [...]}, "points", "derived"}``: plain numbers and texts."""
    return {
        "study": STUDY,
        "numbers": {group: [dict(vars(number)) for number in numbers] for group, numbers in all_numbers().items()},
        "points": {"source": scaling_laws.POINTS_FROM, "rows": [dict(vars(point)) for point in scaling_laws.POINTS]},
        "derived": [_derived(one) for one in derived()],
    }


def _derived(one: Derived) -> dict[str, Any]:
    return {
        "name": one.printed.name,
        "printed": one.printed.value,
        "computed": one.computed,
        "how": one.how,
        "within": one.within,
        "agrees": one.agrees,
        "reason": one.reason,
    }
