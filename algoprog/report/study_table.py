"""The study's published numbers on a terminal. Everything printed here is also in the JSON of the command."""

from __future__ import annotations

from algoprog.report.numbers import digits
from algoprog.report.study import Comparison
from algoprog.report.tables import _table as print_table
from algoprog.scaling.published.commands import all_numbers
from algoprog.scaling.published.derived import derived


def print_study(found: Comparison) -> None:
    """Every number with its source, what follows from it, and the files written."""
    for group, numbers in all_numbers().items():
        rows = [(n.name, digits(n.value, 6), n.unit, n.read_from, n.source) for n in numbers]
        print_table(f"published: {group}", ("number", "value", "unit", "read from", "source"), rows)
    checked = [
        (
            d.printed.name,
            digits(d.printed.value, 5),
            digits(d.computed, 5),
            "yes" if d.agrees else "no",
            d.reason or d.how,
        )
        for d in derived()
    ]
    print_table(
        "computed again from the constants", ("number", "printed", "computed", "agrees", "how, or why not"), checked
    )
    for name, told in found.as_json()["runs"].items():
        print(f"our runs, {name}: {told['from'] or told['why_not']}")
    for path in found.files:
        print(path)
