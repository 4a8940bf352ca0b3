"""What steps read on the device is what the data order says, whatever the order, the epoch, the rank and the place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from algoprog.config import BudgetConfig, LstmConfig, RunConfig
from algoprog.data.order import Order, make_order, reset_draw
from algoprog.data.store import TokenStore
from algoprog.recipes import resolve
from algoprog.training import device_data
from algoprog.training.engines import Placement
from algoprog.training.step_inputs import StepInputs

KINDS = ["shuffled", "streams"]


def store_of(tokens: int, dtype: str) -> TokenStore:
    """Random ids up to the largest of their type, so that a wrong sign or width shows."""
    largest = np.iinfo(np.dtype(dtype)).max
    ids = np.random.default_rng(tokens).integers(0, largest, tokens, dtype=np.dtype(dtype), endpoint=True)
    ids[:2] = largest
    return TokenStore(Path("random"), ids, ids[:100], 300, 299, "random", 1, 1, {})


def config_of(kind: str, batch: int, context: int, seed: int) -> RunConfig:
    arch, model = (
        ("lstm", {"context": context, "bptt": context}) if kind == "streams" else ("modern", {"context": context})
    )
    overrides = {"batch": batch, "model": model, "data": {"tokenizer": "bpe-300"}}
    return resolve(arch, 16, BudgetConfig(tokens=10**6), seed=seed, overrides=overrides)


def forgets(config: RunConfig, order: Order, step: int) -> bool:
    """What an LSTM's step must do with the state that it is handed."""
    model = config.model
    if not isinstance(model, LstmConfig):
        return False
    return order.starts_fresh(step) or reset_draw(config.seed, step) < model.reset_probability


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    batch=st.integers(1, 6),
    context=st.integers(1, 9),
    seed=st.integers(0, 2**31 - 1),
    first=st.integers(0, 3000),
    steps=st.integers(1, 50),
    spare=st.integers(0, 300),
)
def test_many_steps_at_once_are_the_same_windows(
    kind: str, batch: int, context: int, seed: int, first: int, steps: int, spare: int
) -> None:
    order = make_order(kind, batch * (context + 1) + 1 + spare, context, batch, seed)  # type: ignore[arg-type]
    for rank, world in [(0, 1)] + [(rank, batch) for rank in range(batch)]:
        together = order.windows_of(first, steps, rank, world)
        assert together.dtype == np.int64 and together.shape == (steps, batch // world)
        for i in (0, steps // 2, steps - 1):
            assert np.array_equal(together[i], order.windows(first + i, rank, world))


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    dtype=st.sampled_from(["<u2", "<u4"]),
    residence=st.sampled_from(["device", "interval"]),
    world=st.sampled_from([1, 2, 4]),
    context=st.integers(1, 9),
    seed=st.integers(0, 2**31 - 1),
    first=st.integers(0, 500),
)
def test_a_step_reads_the_batch_of_the_order(
    kind: str, dtype: str, residence: str, world: int, context: int, seed: int, first: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device_data, "residence", lambda size, device: residence)
        store, config = store_of(200, dtype), config_of(kind, 4, context, seed)
        order = make_order(config.data.order, 200, context, 4, seed)
        for rank in range(world):
            inputs = StepInputs(config, store, Placement(rank, world, torch.device("cpu"), "torch"), 5)
            assert inputs.tokens.residence == residence
            for start in (first, first + 3):  # tables are written anew, the same tensors
                rates = [0.1 / (1 + start + i) for i in range(3)]
                inputs.load(config, order, rates, start)
                for i in range(3):
                    found, targets = inputs.batch()
                    want, want_targets = order.batch(store.train, start + i, rank, world)
                    assert torch.equal(found, torch.from_numpy(want)) and found.dtype == torch.int64
                    assert torch.equal(targets, torch.from_numpy(want_targets))
                    assert inputs.rate.item() == rates[i]
                    assert inputs.keep.item() is not forgets(config, order, start + i)
                    inputs.advance()


def test_tokens_that_fit_are_kept_whole_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 2000))
    assert device_data.residence(250, gpu) == "device"
    assert device_data.residence(251, gpu) == "interval"
    assert device_data.residence(10**12, torch.device("cpu")) == "device"
