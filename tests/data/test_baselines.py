"""Baselines: equal to a slow and obvious computation, and better than it where they may be."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algoprog.data import baselines as module
from algoprog.data.baselines import baselines


def slow_unigram(train: list[int], validation: list[int], vocab: int) -> float:
    counts = Counter(train)
    losses = [-math.log((counts[t] + 1) / (len(train) + vocab)) for t in validation[1:]]
    return sum(losses) / len(losses)


def slow_bigram(train: list[int], validation: list[int], vocab: int, weight: float) -> float:
    """One weight for all; unseen histories use the unigram alone."""
    single, pair, history = Counter(train), Counter(zip(train, train[1:], strict=False)), Counter(train[:-1])
    loss = 0.0
    for a, b in zip(validation, validation[1:], strict=False):
        p = (single[b] + 1) / (len(train) + vocab)
        loss -= math.log(weight * pair[a, b] / history[a] + (1 - weight) * p if history[a] else p)
    return loss / (len(validation) - 1)


@settings(deadline=None, max_examples=60)
@given(data=st.data(), vocab=st.integers(2, 7))
def test_against_slow_counts(data: st.DataObject, vocab: int) -> None:
    tokens = st.lists(st.integers(0, vocab - 1), min_size=2, max_size=80)
    train, validation = data.draw(tokens), data.draw(tokens)
    found = baselines(np.array(train, np.uint16), np.array(validation, np.uint16), vocab)
    assert found["uniform"] == math.log(vocab)
    assert found["unigram"] == pytest.approx(slow_unigram(train, validation, vocab))
    best = min(slow_bigram(train, validation, vocab, w / 50) for w in range(50))
    assert found["bigram"] <= best + 1e-9


def test_one_bucket_is_the_best_single_weight() -> None:
    """Every history is seen equally often, so one weight serves all and the optimum can be searched."""
    rng = np.random.default_rng(0)
    train = np.concatenate([np.array([0, 1, 2, 3])[rng.permutation(4)] for _ in range(400)])
    train = train[: len(train) - 1] if train[-1] else train
    validation = rng.integers(0, 4, 300)
    found = baselines(train.astype(np.uint16), validation.astype(np.uint16), 4)["bigram"]
    grid = [slow_bigram(train.tolist(), validation.tolist(), 4, w / 400) for w in range(400)]
    assert found == pytest.approx(min(grid), abs=1e-4)


def test_pieces_do_not_change_the_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    train, validation = (rng.zipf(1.5, n).clip(max=50_000).astype(np.uint16) for n in (5000, 700))
    whole = baselines(train, validation, 50_257)
    monkeypatch.setattr(module, "CHUNK", 7)
    assert baselines(train, validation, 50_257) == pytest.approx(whole, rel=1e-12)


def test_a_deterministic_language_costs_almost_nothing() -> None:
    cycle = np.tile(np.arange(10, dtype=np.uint16), 500)
    found = baselines(cycle, cycle[:1000], 10)
    assert found["bigram"] < 1e-6 < found["unigram"] < found["uniform"] + 1e-3
