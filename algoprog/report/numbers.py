"""Numbers as people read them: significant digits, intervals and FLOPs, the same in tables, figures and on the page."""

from __future__ import annotations

import math

Interval = tuple[float, float] | None


def digits(value: float | None, n: int = 3) -> str:
    """``value`` with ``n`` significant digits: 0.0903, 4.21, 1,234, 1.23e12; a dash where there is no number."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value != 0 and not 1e-3 <= abs(value) < 1e5:
        return _scientific(value, n)
    rounded = float(f"{value:.{n - 1}e}")  # 9.996 has one digit before the point, its rounding 10.0 two
    magnitude = math.floor(math.log10(abs(rounded))) if rounded else 0
    return f"{value:,.{max(0, n - 1 - magnitude)}f}".replace("-", "−")


def _scientific(value: float, n: int) -> str:
    mantissa, exponent = f"{value:.{n - 1}e}".split("e")
    return f"{mantissa}e{int(exponent)}".replace("-", "−")


def flops(value: float | None, n: int = 2) -> str:
    """FLOPs with ``n`` digits, always in scientific notation: 1.2e12."""
    if value is None or not math.isfinite(value):
        return digits(value)
    return _scientific(value, n) if value > 0 else "0"


def between(interval: Interval) -> str:
    """``0.081 to 0.099``, or ``no interval``."""
    if interval is None:
        return "no interval"
    low, high = _alike([*interval], interval[1] - interval[0])
    return f"{low} to {high}"


def with_interval(value: float, interval: Interval) -> str:
    """``0.090 (0.081 to 0.099)``: all three to the decimals that the width of the interval deserves."""
    if interval is None:
        return f"{digits(value)} (no interval)"
    shown, low, high = _alike([value, *interval], interval[1] - interval[0])
    return f"{shown} ({low} to {high})"


def _alike(values: list[float], width: float) -> list[str]:
    """Numbers with equal decimals, so that half the width has two digits; each by itself where they differ too much.

    One decimal more where an end would otherwise keep a single digit: 1.90 (0.40 to 8.00).
    """
    largest = max(abs(value) for value in values)
    if not (math.isfinite(largest) and 1e-3 <= width and largest < 1e5):
        return [digits(value) for value in values]
    decimals = max(0, 1 - math.floor(math.log10(width / 2)))
    if any(0 < abs(value) < 10 ** (1 - decimals) for value in values[-2:]):
        decimals += 1
    return [f"{value:,.{decimals}f}".replace("-", "−") for value in values]


def percent(level: float) -> str:
    """A confidence level: 0.95 as ``95 %``."""
    return f"{100 * level:g} %"


def count(number: int, noun: str) -> str:
    """``1 run``, ``3 runs``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def listed(items: list[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)
