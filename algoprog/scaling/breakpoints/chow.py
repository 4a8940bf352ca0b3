"""The usual log-log test of a break, two free straight lines against one (Chow 1960): kept to show when it misleads.

A law with an irreducible loss is curved in log-log coordinates, so this test sees breaks where there are none; and its
F table holds for a split that was fixed beforehand. :mod:`algoprog.scaling.breakpoints.sup_f` has neither fault.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from algoprog.scaling.errors import InputError
from algoprog.scaling.laws import FloatArray


def chow_f(x: FloatArray, y: FloatArray, splits: Sequence[int]) -> FloatArray:
    """F of two free lines of the first ``k`` and the other points against one line, for every ``k`` of ``splits``.

    ``x`` (n,) ascending, ``y`` (B, n); shape (B, len(splits)). Under a straight line with normal noise each entry has an
    F(2, n - 4) distribution. Raises InputError unless both sides of every split have two distinct x at least.
    """
    n = x.size
    for k in splits:
        if not (2 <= k <= n - 2 and np.ptp(x[:k]) > 0 and np.ptp(x[k:]) > 0):
            raise InputError("bad split", got=k, expected=f"two distinct x on each side of the {n} points")
    rss0 = _line_rss(x, y)
    rss1 = np.stack([_line_rss(x[:k], y[:, :k]) + _line_rss(x[k:], y[:, k:]) for k in splits], axis=1)
    return np.asarray(((rss0[:, None] - rss1) / 2.0) / (rss1 / (n - 4)))


def _line_rss(x: FloatArray, y: FloatArray) -> FloatArray:
    """RSS of the straight line through each row of ``y`` (B, m), shape (B,)."""
    dx, dy = x - x.mean(), y - y.mean(axis=1, keepdims=True)
    return np.asarray((dy**2).sum(axis=1) - (dy @ dx) ** 2 / (dx @ dx))
