"""What a model must beat: the cross-entropy of validation tokens under counts of the training tokens.

All in nats per token, over the same targets (every validation token but the first). They are meant to be strong: the
bigram's interpolation weights are chosen on the validation tokens themselves, which can only lower its loss.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.integer[Any]]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

CHUNK = 1 << 22
BISECTIONS = 40


def baselines(train: Tokens, validation: Tokens, vocab: int) -> dict[str, float]:
    """Losses in nats per token: ``uniform``, ``unigram`` (add-one smoothed) and ``bigram`` (interpolated with it).

    The bigram is ``w * count(a, b) / count(a) + (1 - w) * unigram(b)`` with one weight per bucket of ``count(a)``
    (powers of two), each chosen to minimise the validation loss. ``validation`` needs two tokens or more.
    """
    following = np.zeros(vocab, dtype=np.int64)  # how often a token is followed by another
    unigram = _unigram(train, vocab)
    pairs, weight = np.unique(_codes(validation, vocab), return_counts=True)
    counts = _pair_counts(train, vocab, pairs, following)
    previous, target = np.divmod(pairs, vocab)
    seen = following[previous]
    maximum_likelihood = np.divide(counts, seen, out=np.zeros(len(pairs)), where=seen > 0)
    total = int(weight.sum())
    return {
        "uniform": math.log(vocab),
        "unigram": float(-(weight * np.log(unigram[target])).sum() / total),
        "bigram": _interpolated(maximum_likelihood, unigram[target], seen, weight) / total,
    }


def _unigram(train: Tokens, vocab: int) -> Floats:
    counts = np.ones(vocab, dtype=np.int64)
    for start in range(0, len(train), CHUNK):
        counts += np.bincount(train[start : start + CHUNK], minlength=vocab)
    return np.asarray(counts / counts.sum(), dtype=np.float64)


def _codes(tokens: Tokens, vocab: int) -> Ints:
    """One number per pair of neighbours: ``previous * vocab + next``; below 2^63 for any vocabulary up to 2^31."""
    wide = tokens.astype(np.int64)
    return wide[:-1] * vocab + wide[1:]


def _pair_counts(train: Tokens, vocab: int, pairs: Ints, following: Ints) -> Ints:
    """How often each of the sorted ``pairs`` occurs in training; adds to ``following`` on the way.

    Only pairs that validation needs are counted, in pieces, so memory does not grow with the training data.
    """
    counts = np.zeros(len(pairs), dtype=np.int64)
    for start in range(0, len(train) - 1, CHUNK):
        piece = train[start : start + CHUNK + 1]
        following += np.bincount(piece[:-1], minlength=vocab)
        codes, times = np.unique(_codes(piece, vocab), return_counts=True)
        at = np.minimum(np.searchsorted(pairs, codes), len(pairs) - 1)
        found = pairs[at] == codes
        counts[at[found]] += times[found]
    return counts


def _interpolated(likelihood: Floats, fallback: Floats, seen: Ints, weight: Ints) -> float:
    """Total loss in nats with the best weight per bucket of ``seen``; convex in each weight, so bisection finds it."""
    bucket = np.frexp(seen.astype(np.float64))[1]  # 0 for unseen, then 1, 2-3, 4-7, ...
    low, high = np.zeros(bucket.max() + 1), np.ones(bucket.max() + 1)
    gain = likelihood - fallback
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        slope = np.bincount(bucket, weight * gain / (fallback + middle[bucket] * gain), minlength=len(low))
        low, high = np.where(slope > 0, middle, low), np.where(slope > 0, high, middle)
    return float(-(weight * np.log(fallback + low[bucket] * gain)).sum())
