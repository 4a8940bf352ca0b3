"""Data order: bijective, equal to its oracle, the same for any number of ranks, and never changed by accident."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algoprog.config import InputError
from algoprog.data.order import StreamOrder, WindowOrder, make_order, reset_draw
from algoprog.data.permutation import permute, permute_one, round_keys

quick = settings(deadline=None, max_examples=60)
seeds = st.integers(0, 2**31 - 1)


@quick
@given(n=st.integers(1, 3000), seed=seeds, epoch=st.integers(0, 50))
def test_permutation_is_a_bijection(n: int, seed: int, epoch: int) -> None:
    image = permute(np.arange(n), n, round_keys(seed, epoch))
    assert np.array_equal(np.sort(image), np.arange(n))


@quick
@given(n=st.integers(1, 2**62), seed=seeds, data=st.data())
def test_vectorised_permutation_equals_the_oracle(n: int, seed: int, data: st.DataObject) -> None:
    indices = data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=20))
    keys = round_keys(seed, 3)
    image = permute(np.array(indices, dtype=np.int64), n, keys)
    assert image.tolist() == [permute_one(i, n, keys) for i in indices]
    assert image.min() >= 0 and image.max() < n


def test_permutation_golden_indices() -> None:
    assert round_keys(0, 0)[:2] == (2798309760, 1729207469)
    assert permute(np.arange(8), 1000, round_keys(0, 0)).tolist() == [888, 65, 907, 886, 641, 416, 64, 303]
    assert permute(np.arange(8), 1000, round_keys(7, 2)).tolist() == [80, 981, 292, 725, 570, 215, 550, 431]


def test_permutation_looks_random() -> None:
    """Rank correlation with the identity and between epochs stays within five standard errors of zero."""
    n = 20_000
    first, second = (permute(np.arange(n), n, round_keys(1, e)) for e in (0, 1))
    for a, b in ((np.arange(n), first), (first, second), (first[:-1], first[1:])):
        assert abs(np.corrcoef(a, b)[0, 1]) < 5 / np.sqrt(n)


@quick
@given(n_tokens=st.integers(60, 800), context=st.integers(1, 12), batch=st.integers(1, 4), seed=seeds)
def test_every_epoch_visits_every_window_once(n_tokens: int, context: int, batch: int, seed: int) -> None:
    order = WindowOrder(n_tokens, context, batch, seed)
    n = order.n_windows
    starts = np.concatenate([order.windows(step) for step in range(2 * n)])
    assert starts.max() + context + 1 <= n_tokens
    for epoch in range(2):
        visited = np.sort(starts[epoch * n : (epoch + 1) * n])
        assert np.array_equal(visited, np.arange(n) * (context + 1))
    assert order.epochs(n) == batch


@quick
@given(kind=st.sampled_from(["shuffled", "streams"]), world=st.sampled_from([1, 2, 3, 6]), step=st.integers(0, 10**9))
def test_ranks_see_slices_of_the_one_batch(kind: str, world: int, step: int) -> None:
    order = make_order(kind, 5000, 16, 12, seed=5)  # type: ignore[arg-type]
    parts = [order.windows(step, rank, world) for rank in range(world)]
    assert np.array_equal(np.concatenate(parts), order.windows(step))


def test_batches_hold_inputs_and_their_next_tokens() -> None:
    tokens = np.arange(1000, dtype=np.uint16)
    inputs, targets = WindowOrder(1000, 9, 4, seed=7).batch(tokens, step=3)
    assert inputs.shape == targets.shape == (4, 9) and inputs.dtype == np.int64
    assert np.array_equal(targets, inputs + 1)
    assert np.all(inputs[:, 0] % 10 == 0)


def test_orders_differ_by_seed_and_epoch() -> None:
    first, other = (WindowOrder(100_000, 9, 50, seed=seed) for seed in (0, 1))
    assert not np.array_equal(first.windows(0), other.windows(0))
    assert not np.array_equal(first.windows(0), first.windows(200))  # the same place in the next epoch
    starts = {int(StreamOrder(100_000, 9, 50, seed=seed).windows(0)[0]) for seed in range(5)}
    assert len(starts) == 5


def test_order_golden_windows() -> None:
    assert WindowOrder(1000, 9, 4, seed=7).windows(0).tolist() == [30, 250, 590, 910]
    assert WindowOrder(1000, 9, 4, seed=7).windows(25).tolist() == [170, 140, 600, 250]
    assert StreamOrder(1000, 9, 4, seed=7).windows(0).tolist() == [612, 855, 108, 360]
    assert [reset_draw(7, step) for step in range(2)] == pytest.approx(
        [0.6114568188524876, 0.2706981123231519], abs=1e-12
    )


@quick
@given(n_tokens=st.integers(60, 800), context=st.integers(1, 12), batch=st.integers(1, 4), seed=seeds)
def test_streams_continue_unless_they_say_so(n_tokens: int, context: int, batch: int, seed: int) -> None:
    order = StreamOrder(n_tokens, context, batch, seed)
    tokens = np.arange(n_tokens)
    last = None
    resets = 0
    for step in range(order.n_windows + 1):
        inputs, targets = order.batch(tokens, step)
        assert np.array_equal(inputs[:, 1:], targets[:, :-1])
        if order.starts_fresh(step):
            resets += 1
        else:
            assert last is not None and np.array_equal(inputs[:, 0], last)
        last = targets[:, -1]
    assert resets <= batch + 2


@quick
@given(n_tokens=st.integers(60, 800), context=st.integers(1, 12), batch=st.integers(1, 4), seed=seeds)
def test_streams_share_the_data_evenly(n_tokens: int, context: int, batch: int, seed: int) -> None:
    order = StreamOrder(n_tokens, context, batch, seed)
    n = order.n_windows
    starts = np.stack([order.windows(step) for step in range(n)])
    first_pass = starts[: n // batch].ravel()
    assert len(np.unique(first_pass)) == first_pass.size
    values, counts = np.unique(starts, return_counts=True)
    assert np.array_equal(values, np.arange(n) * context) and np.all(counts == batch)
    assert starts.max() + context + 1 <= n_tokens


def test_reset_draws_are_uniform_and_repeatable() -> None:
    draws = np.array([reset_draw(3, step) for step in range(4000)])
    assert np.all((draws >= 0) & (draws < 1))
    assert abs(draws.mean() - 0.5) < 5 / np.sqrt(12 * 4000)
    assert abs(np.mean(draws < 0.01) - 0.01) < 0.008
    assert reset_draw(3, 17) == draws[17] != reset_draw(4, 17)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((100, 9, 12, 0), "batch 12"),
        ((5, 9, 1, 0), "too small"),
        ((0, 9, 1, 0), "too small"),
        ((100, 0, 1, 0), "context"),
        ((100, 9, 0, 0), "batch"),
        ((100, 9, 1, -1), "seed"),
        ((2**63, 9, 1, 0), "too many"),
    ],
)
@pytest.mark.parametrize("order", [WindowOrder, StreamOrder])
def test_bad_sizes(order: type[WindowOrder], arguments: tuple[int, int, int, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        order(*arguments)


def test_bad_steps_ranks_and_tokens() -> None:
    order = WindowOrder(1000, 9, 4, 0)
    for bad in ((-1, 0, 1), (0, 2, 2), (0, 0, 3), (0, -1, 2), (0, 0, 0)):
        with pytest.raises(InputError):
            order.windows(*bad)
    with pytest.raises(InputError, match="999"):
        order.batch(np.arange(999), 0)
