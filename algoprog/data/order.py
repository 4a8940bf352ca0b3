"""Which tokens a step reads: a pure function of (seed, step), with no state to save or restore.

Two orders share one interface. :class:`WindowOrder` visits disjoint windows in a keyed permutation, for models that see
each window alone. :class:`StreamOrder` lets each row of the batch read on where it stopped, for carried recurrent
state.

Shapes: B batch (the global one), T context, b = B / world rows of one rank. Ranks take slices of the one global
batch, so that 1 and N ranks see the same tokens at the same step. Offsets and tokens are int64.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from algoprog.config import InputError
from algoprog.data.permutation import LARGEST_DOMAIN, permute, round_keys

Ints = npt.NDArray[np.int64]
Tokens = npt.NDArray[np.integer[Any]]


class Order(ABC):
    """What the training loop asks of an order. Immutable by convention: nothing changes after construction.

    Attributes: ``n_tokens`` of the training split, ``context`` T, ``batch_size`` B, ``seed`` of the run, ``n_windows``
    (what one pass consists of).

    Raises:
        InputError: a number is out of range, or the data has fewer than B windows.
    """

    def __init__(self, n_tokens: int, context: int, batch: int, seed: int):
        _check_sizes(n_tokens, context, batch, seed)
        self.n_tokens, self.context, self.batch_size, self.seed = n_tokens, context, batch, seed
        self.n_windows = self._count()
        _check_enough(self.n_windows, batch, n_tokens, context)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.n_tokens}, {self.context}, {self.batch_size}, {self.seed})"

    @abstractmethod
    def _count(self) -> int:
        """Windows in one pass."""

    @abstractmethod
    def windows_of(self, first: int, steps: int, rank: int = 0, world: int = 1) -> Ints:
        """Start offsets [steps, b] of what this rank reads at steps ``first``, ``first + 1``, ...: see :meth:`windows`.

        Many steps at once cost little more than one, for the arithmetic is numpy's.
        """

    def windows(self, step: int, rank: int = 0, world: int = 1) -> Ints:
        """Start offsets [b] of what this rank reads at this step: ``tokens[start : start + T + 1]`` per row."""
        starts: Ints = self.windows_of(step, 1, rank, world)[0]
        return starts

    def batch(self, tokens: Tokens, step: int, rank: int = 0, world: int = 1) -> tuple[Ints, Ints]:
        """Inputs [b, T] and targets [b, T]: the first and the last T of the T+1 tokens of each row."""
        if len(tokens) != self.n_tokens:
            raise InputError("tokens do not match the order", got=len(tokens), expected=f"{self.n_tokens} tokens")
        rows = tokens[self.windows(step, rank, world)[:, None] + np.arange(self.context + 1)].astype(np.int64)
        return np.ascontiguousarray(rows[:, :-1]), np.ascontiguousarray(rows[:, 1:])

    def epochs(self, steps: int) -> float:
        """Passes over the data after ``steps`` steps."""
        return steps * self.batch_size / self.n_windows

    @abstractmethod
    def starts_fresh(self, step: int) -> bool:
        """Whether carried state must be reset before this step."""


class WindowOrder(Order):
    """Disjoint windows of T+1 tokens, shuffled anew in every epoch by a keyed permutation.

    Sample i = step * B + b reads window ``permutation(i mod n)`` of epoch ``i div n``, keyed by (seed, epoch), where
    n is the number of windows. The last ``n_tokens mod (T+1)`` tokens belong to no window.
    """

    def _count(self) -> int:
        return self.n_tokens // (self.context + 1)

    def windows_of(self, first: int, steps: int, rank: int = 0, world: int = 1) -> Ints:
        rows = _rows(self.batch_size, first, rank, world)
        epoch, slot = np.divmod(_each_step(first, steps) * self.batch_size + rows, self.n_windows)
        starts = np.empty_like(slot)
        for e in np.unique(epoch):  # few: a batch holds no more than n windows
            here = epoch == e
            starts[here] = permute(slot[here], self.n_windows, round_keys(self.seed, int(e)))
        return starts * (self.context + 1)

    def starts_fresh(self, step: int) -> bool:
        """Always true: no window continues another, so no state may be carried."""
        return True


class StreamOrder(Order):
    """B streams, each of which reads on where it stopped: T targets per step, every token a target once per pass.

    The data is a ring of n windows of T targets; window c reads ``tokens[c*T : c*T + T + 1]``, so that its last
    target is the first input of window c + 1. Stream b reads window ``(origin + b*n div B + step) mod n``: the
    streams start evenly spaced, the origin follows from the seed, and a stream that reaches its neighbour's start
    goes on into the next pass. The only break is from window n - 1 to window 0; :meth:`starts_fresh` names the steps
    at which a stream crosses it (about one step per pass). The last ``(n_tokens - 1) mod T`` tokens are never
    targets.
    """

    def __init__(self, n_tokens: int, context: int, batch: int, seed: int):
        super().__init__(n_tokens, context, batch, seed)
        self.origin = _draw(f"stream origin {seed}") % self.n_windows

    def _count(self) -> int:
        return (self.n_tokens - 1) // self.context

    def _at(self, rows: Ints, steps: Ints) -> Ints:
        """Ring positions of these streams at these steps, broadcast against each other."""
        return (self.origin + rows * self.n_windows // self.batch_size + steps % self.n_windows) % self.n_windows

    def windows_of(self, first: int, steps: int, rank: int = 0, world: int = 1) -> Ints:
        return self._at(_rows(self.batch_size, first, rank, world), _each_step(first, steps)) * self.context

    def starts_fresh(self, step: int) -> bool:
        """True at step 0, and when any stream of the global batch jumps from the ring's end to its start.

        The answer covers all B streams, so that it does not depend on rank or world.
        """
        return step == 0 or bool(np.any(self._at(np.arange(self.batch_size, dtype=np.int64), np.array(step)) == 0))


def make_order(kind: Literal["shuffled", "streams"], n_tokens: int, context: int, batch: int, seed: int) -> Order:
    """The order that ``DataConfig.order`` names."""
    return (StreamOrder if kind == "streams" else WindowOrder)(n_tokens, context, batch, seed)


def reset_draw(seed: int, step: int) -> float:
    """A uniform draw in [0, 1) for the random state reset of this step; a pure function of (seed, step)."""
    return (_draw(f"state reset {seed} {step}") >> 11) / 2**53


def _draw(label: str) -> int:
    """64 uniform bits that follow from the label alone."""
    return int.from_bytes(hashlib.sha256(f"algoprog {label}".encode()).digest()[:8], "little")


def _rows(batch: int, step: int, rank: int, world: int) -> Ints:
    """Row numbers [b] of the global batch that a rank reads."""
    if step < 0:
        raise InputError("step is negative", got=step, expected="0 or more")
    if world < 1 or not 0 <= rank < world:
        raise InputError("rank is outside its world", got=f"rank {rank} of {world}", expected="0 <= rank < world")
    if batch % world:
        raise InputError(
            "batch does not divide over the ranks", got=f"batch {batch}, world {world}", expected="a multiple"
        )
    share = batch // world
    return np.arange(rank * share, (rank + 1) * share, dtype=np.int64)


def _each_step(first: int, steps: int) -> Ints:
    """Step numbers [steps, 1]."""
    return np.arange(first, first + steps, dtype=np.int64)[:, None]


def _check_sizes(n_tokens: int, context: int, batch: int, seed: int) -> None:
    for name, value, least in (("context", context, 1), ("batch", batch, 1), ("seed", seed, 0)):
        if value < least:
            raise InputError(f"{name} is out of range", got=value, expected=f"{least} or more")
    if n_tokens > LARGEST_DOMAIN:
        raise InputError("too many tokens", got=n_tokens, expected=f"at most {LARGEST_DOMAIN}")


def _check_enough(available: int, batch: int, n_tokens: int, context: int) -> None:
    if available < batch:
        raise InputError(
            f"the data is too small: {n_tokens} tokens hold {max(available, 0)} windows of context {context}",
            got=f"batch {batch}",
            expected=f"at most {max(available, 0)}",
            remedy="use a larger corpus, a smaller batch or a shorter context",
        )
