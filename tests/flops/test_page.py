"""The tables of docs/flops.md are those that the code gives today."""

from __future__ import annotations

from pathlib import Path

import pytest

from algoprog.flops.conventions import CONVENTIONS, DEFAULT
from algoprog.training.counting import count

PAGE = Path(__file__).parents[2] / "docs" / "flops.md"


def tables() -> list[list[list[str]]]:
    """Every table between the markers, as rows of cells without the rule."""
    text = PAGE.read_text().split("<!-- tables: begin -->")[1].split("<!-- tables: end -->")[0]
    blocks = [block for block in text.split("\n\n") if block.startswith("| presets")]
    return [
        [
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in block.strip().splitlines()
            if "---" not in line
        ]
        for block in blocks
    ]


def test_conventions_on_the_page() -> None:
    header, *rows = tables()[0]
    assert header[4:] == list(CONVENTIONS) and {row[1] for row in rows} == {"32", "64", "128", "256", "512", "1024"}
    for names, width, depth, params, exact, *ratios in rows:
        if int(width) > 256 and "lstm" not in names:
            continue  # the same code, and seconds each
        for name in names.split(", "):
            counted = count(name, int(width), None, 50257, [])
            values = counted.conventions
            assert (f"{counted.config.model.depth}", f"{counted.facts.params:,}") == (depth, params)
            assert f"{values[DEFAULT]:,}" == exact
            assert [f"{v / values[DEFAULT]:.3f}" for k, v in values.items() if k != DEFAULT] == ratios


def test_counters_on_the_page() -> None:
    header, *rows = tables()[1]
    assert header[3:5] == ["dispatch", "FlopCounterMode"] and all(row[3] == "1.0000" for row in rows)
    assert len(rows) == len(tables()[0]) - 1
    for row in rows:
        counted = count(row[0].split(", ")[0], int(row[1]), None, 50257, []) if int(row[1]) <= 128 else None
        if counted is not None:
            conventions = counted.conventions
            assert row[4] == f"{conventions['study_profiler'] / conventions[DEFAULT]:.4f}"
    assert "no reason explains, summed over all rows and counters: 0." in " ".join(PAGE.read_text().split())


@pytest.mark.parametrize("name", CONVENTIONS)
def test_every_convention_is_described(name: str) -> None:
    assert f"| `{name}` |" in PAGE.read_text()
