"""Numbers as text."""

from __future__ import annotations

import math

import pytest

from algoprog.report.numbers import between, count, digits, flops, listed, percent, with_interval


@pytest.mark.parametrize(
    ("value", "n", "text"),
    [
        (0.09034, 3, "0.0903"), (4.2149, 3, "4.21"), (9.996, 3, "10.0"), (0.0, 3, "0.00"), (1234.6, 3, "1,235"),
        (-0.0123, 2, "−0.012"), (1.234e12, 3, "1.23e12"), (5e-7, 2, "5.0e−7"), (99999.6, 3, "100,000"),
        (math.inf, 3, "∞"), (-math.inf, 3, "−∞"), (math.nan, 3, "–"), (None, 3, "–"),
    ],
)  # fmt: skip
def test_digits(value: float | None, n: int, text: str) -> None:
    assert digits(value, n) == text


def test_an_interval_sets_the_decimals_of_its_value() -> None:
    assert with_interval(0.16045, (0.13696, 0.18361)) == "0.160 (0.137 to 0.184)"
    assert with_interval(17.3, (9.2, 30.1)) == "17.3 (9.2 to 30.1)"
    assert with_interval(64.2, (54.3, 75.8)) == "64 (54 to 76)"
    assert with_interval(1.9, (0.4, 8.0)) == "1.90 (0.40 to 8.00)"
    assert with_interval(1.9, (1.9, 1.9)) == "1.90 (1.90 to 1.90)"
    assert with_interval(3.0, (1.0, math.inf)) == "3.00 (1.00 to ∞)"
    assert with_interval(-0.01, (-0.034, 0.012)) == "−0.010 (−0.034 to 0.012)"
    assert with_interval(3.04, (0.0, 3.61)) == "3.0 (0.0 to 3.6)"
    assert with_interval(2.0, None) == "2.00 (no interval)"
    assert between(None) == "no interval"


def test_flops_are_short_and_scientific() -> None:
    assert flops(1.234e12) == "1.2e12" and flops(950.0) == "9.5e2" and flops(math.inf) == "∞" and flops(None) == "–"


def test_words() -> None:
    assert percent(0.95) == "95 %" and count(1, "run") == "1 run" and count(2000, "run") == "2,000 runs"
    assert listed(["a"]) == "a" and listed(["a", "b", "c"]) == "a, b and c" and listed([]) == ""
