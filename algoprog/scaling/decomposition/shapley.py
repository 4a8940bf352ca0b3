"""Sharing a total among steps whose contributions depend on their order: orders that respect precedence, and their mean.

The mean over all admissible orders is the Shapley value under precedence constraints (Faigle and Kern 1992).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from algoprog.scaling.laws import FloatArray

Value = Callable[[frozenset[str]], FloatArray]


def admissible_orders(names: Sequence[str], after: Mapping[str, frozenset[str]]) -> Iterator[tuple[str, ...]]:
    """All orders of ``names`` in which each comes later than everything in ``after[name]``; the given one is first."""
    if not names:
        yield ()
    for name in names:
        rest = [other for other in names if other != name]
        if not after[name] & set(rest):
            for tail in admissible_orders(rest, after):
                yield (name, *tail)


def marginal(order: Sequence[str], value: Value) -> dict[str, FloatArray]:
    """What each name adds to ``value`` of the set of names before it."""
    found, done = {}, frozenset[str]()
    for name in order:
        found[name] = _difference(value(done | {name}), value(done))
        done |= {name}
    return found


def shapley(names: Sequence[str], after: Mapping[str, frozenset[str]], value: Value) -> dict[str, FloatArray]:
    """The mean contribution of each name over all admissible orders; ``value`` is asked once per possible set.

    Works on sets and not on orders: of n names without precedence there are n! orders, but 2^n sets.
    """
    everything = frozenset(names)
    to = _paths(everything, lambda done: _next(names, after, done), frozenset())
    back = _paths(everything, lambda done: [n for n in done if not any(n in after[m] for m in done)], everything)
    total, values = to[everything], {done: value(done) for done in to}
    mean = {name: np.zeros_like(values[everything]) for name in names}
    for done in to:
        for name in _next(names, after, done):
            larger = done | {name}
            mean[name] = mean[name] + (to[done] * back[larger] / total) * _difference(values[larger], values[done])
    return mean


def count_orders(names: Sequence[str], after: Mapping[str, frozenset[str]]) -> int:
    """The number of admissible orders, without making them."""
    everything = frozenset(names)
    return _paths(everything, lambda done: _next(names, after, done), frozenset())[everything]


def _difference(after: FloatArray, before: FloatArray) -> FloatArray:
    """NaN between two infinities: what comes after an infinite contribution cannot be told."""
    with np.errstate(invalid="ignore"):
        return after - before


def _next(names: Sequence[str], after: Mapping[str, frozenset[str]], done: frozenset[str]) -> list[str]:
    """What may follow when ``done`` is done."""
    return [name for name in names if name not in done and after[name] <= done]


def _paths(
    everything: frozenset[str], moves: Callable[[frozenset[str]], list[str]], start: frozenset[str]
) -> dict[frozenset[str], int]:
    """For every set that can be reached from ``start``, by adding or removing one name, the number of ways to it."""
    counts = {start: 1}
    layer = counts
    for _ in everything:
        following: dict[frozenset[str], int] = {}
        for done, ways in layer.items():
            for name in moves(done):
                other = done ^ {name}
                following[other] = following.get(other, 0) + ways
        counts = {**counts, **following}
        layer = following
    return counts
