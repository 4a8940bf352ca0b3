"""The sources of spread in words and cells, the same on a terminal and on the page."""

from __future__ import annotations

from algoprog.report.numbers import Interval, between, with_interval
from algoprog.scaling.sensitivity import Range, Sources

SOURCES_NOTE = (
    "Bootstrap and profile likelihood are intervals for sampling; the rest are the lowest and highest point estimate over "
    "admissible choices, and no intervals: they must not be added in quadrature."
)


def source_columns(level: str) -> tuple[str, ...]:
    """Headers of :func:`source_cells`; ``level`` as text."""
    return ("result", f"bootstrap ({level})", f"profile ({level})", "E in its set", "E held fixed", "rules and cuts")


def source_cells(found: Sources) -> tuple[str, ...]:
    """One row of text."""
    return (found.name, with_interval(found.estimate, found.sampling), *spread(found).values())


def spread(found: Sources) -> dict[str, str]:
    """What there is besides the bootstrap interval, by its label; a dash where there is none."""
    return {
        "profile likelihood": interval_text(found.profile),
        "over E in its profile set": range_text(found.profile_e),
        "over E held fixed": range_text(found.fixed_e),
        "over frontier rules and cuts": range_text(found.frontier),
    }


def interval_text(ends: Interval) -> str:
    """``0.081 to 0.099``, or a dash."""
    return "–" if ends is None else between(ends)


def range_text(found: Range | None) -> str:
    """``0.081 to 0.099``, or a dash where there is no other choice."""
    return "–" if found is None else between((found.low, found.high))
