"""Exact intervals for a share that was counted: Monte-Carlo error of p-values, false-alarm rates and power."""

from __future__ import annotations

from algoprog.scaling.errors import InputError


def binomial_interval(hits: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """The interval of Clopper and Pearson (1934) for the probability behind ``hits`` of ``trials``.

    Raises InputError unless ``0 <= hits <= trials``, ``trials >= 1`` and ``0 < level < 1``.
    """
    if not (trials >= 1 and 0 <= hits <= trials and 0 < level < 1):
        got = f"{hits} of {trials} at level {level}"
        raise InputError("no binomial interval", got=got, expected="0 <= hits <= trials, trials >= 1, 0 < level < 1")
    # Imported here: scipy costs as much to import as the rest of this folder together.
    from scipy.special import betaincinv

    tail = 0.5 * (1.0 - level)
    low = 0.0 if hits == 0 else float(betaincinv(hits, trials - hits + 1, tail))
    high = 1.0 if hits == trials else float(betaincinv(hits + 1, trials - hits, 1.0 - tail))
    return low, high
