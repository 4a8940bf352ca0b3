"""Micro-batches and recomputation: the same gradient from less memory, and what it costs."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from algoprog.config import BudgetConfig, InputError, RunConfig
from algoprog.data.store import TokenStore
from algoprog.flops.compare import executed
from algoprog.flops.dispatch import ProductCounter
from algoprog.models import build_model, flop_facts, model_flops
from algoprog.recipes import resolve
from algoprog.training.accumulate import forward_backward, slices
from algoprog.training.engines import Engine
from algoprog.training.loop import train
from algoprog.training.memory import PLAIN, Memory, parse_memory

ARCHS = ("modern", "retro", "lstm", "modern-bias-free", "lstm-2")


def config(arch: str, **model: Any) -> RunConfig:
    sizes = {"context": 16, "depth": 2, **({"bptt": 8} if arch.startswith("lstm") else {}), **model}
    overrides = {"batch": 6, "model": sizes, "data": {"tokenizer": "bpe-300"}}
    return resolve(arch, 16, BudgetConfig(tokens=10 * 6 * 16), lr=0.01, overrides=overrides)


@given(rows=st.integers(1, 40), size=st.integers(1, 50))
def test_slices_cover_all_rows_once_in_order(rows: int, size: int) -> None:
    parts = slices(rows, size)
    assert [row for part in parts for row in range(rows)[part]] == list(range(rows))
    assert all(len(range(rows)[part]) == size for part in parts[:-1]) and len(range(rows)[parts[-1]]) <= size
    assert slices(rows, None) == [slice(0, rows)]


class OneRank:
    """As much of an engine as one step needs; notes which micro-batch was announced as the last."""

    def __init__(self) -> None:
        self.last: list[bool] = []

    def accumulating(self, last: bool) -> nullcontext[None]:
        self.last.append(last)
        return nullcontext()

    def backward(self, loss: torch.Tensor) -> None:
        loss.backward()  # type: ignore[no-untyped-call]


def gradient(arch: str, size: int | None, fresh: bool) -> tuple[torch.Tensor, list[torch.Tensor], Any, list[bool]]:
    """Loss, gradients, state and announcements of one step in double precision."""
    model_config = config(arch).model
    model = build_model(model_config, 0, torch.float64).double()
    ids = torch.randint(0, 300, (6, 17), generator=torch.Generator().manual_seed(1))
    state = None
    if arch == "lstm" and not fresh:
        shape, generator = (1, 6, 16), torch.Generator().manual_seed(2)
        state = [tuple(torch.randn(shape, dtype=torch.float64, generator=generator) for _ in "hc") for _ in range(2)]
    engine = OneRank()
    loss, after = forward_backward(
        model, engine, ids[:, :-1].contiguous(), ids[:, 1:].contiguous(), state, None, slices(6, size)  # type: ignore[arg-type]
    )  # fmt: skip
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    return loss, grads, after, engine.last


@pytest.mark.parametrize("arch", ["modern", "retro", "lstm"])
@given(size=st.integers(1, 6), fresh=st.booleans())
@settings(max_examples=12, deadline=None)
def test_micro_batches_give_the_gradient_of_the_whole(arch: str, size: int, fresh: bool) -> None:
    """In double precision, so that the order of summation is all that could differ; uneven last pieces included."""
    loss, grads, after, _ = gradient(arch, None, fresh)
    loss_again, grads_again, after_again, last = gradient(arch, size, fresh)
    torch.testing.assert_close(loss_again, loss, rtol=1e-12, atol=0)
    torch.testing.assert_close(grads_again, grads, rtol=1e-9, atol=1e-14)
    assert last == [False] * (len(last) - 1) + [True] and len(last) == -(-6 // size)
    if arch == "lstm":
        torch.testing.assert_close(after_again, after, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("arch", ARCHS)
def test_recomputation_is_counted_exactly_and_changes_nothing_else(arch: str) -> None:
    model_config = config(arch).model
    found = {}
    for recompute in (False, True):
        model = build_model(model_config, 0)
        model.recompute = recompute  # type: ignore[assignment]
        ids = torch.randint(0, 300, (3, 17), generator=torch.Generator().manual_seed(0))
        with ProductCounter(model) as counter:
            loss, _ = model(ids[:, :-1].contiguous(), ids[:, 1:].contiguous())
            loss.backward()
        assert executed(counter.count()) == executed(model_flops(model_config, recompute) * 3)
        found[recompute] = [loss.detach(), *(p.grad for p in model.parameters())]
    assert all(map(torch.equal, found[False], found[True])), "bit for bit"
    kept, again = (flop_facts(model_config, recompute).count for recompute in (False, True))
    assert again.of("recompute") > kept.of("recompute")
    assert again.model == kept.model and again.only(("elementwise",)) == kept.only(("elementwise",))


def test_evaluation_recomputes_nothing() -> None:
    model = build_model(config("modern").model, 0)
    model.recompute = True  # type: ignore[assignment]
    ids = torch.zeros(2, 16, dtype=torch.int64)
    with torch.no_grad(), ProductCounter(model) as counter:
        model(ids, ids)
    assert counter.count().of("recompute") == 0


def test_outcome_says_what_was_done_and_only_the_hardware_convention_grows(
    periodic: TokenStore, engine: Engine
) -> None:
    run = config("modern")
    plain, again = train(run, periodic, engine), train(run, periodic, engine, memory=Memory(4, "blocks"))
    assert (plain.execution["micro_batches"], plain.execution["recompute"]) == (1, "none")
    assert (again.execution["micro_batches"], again.execution["recompute"]) == (2, "blocks")
    extra = {name for name, flops in again.flops_by_convention.items() if flops != plain.flops_by_convention[name]}
    assert extra == {"hardware"} and again.flops == plain.flops
    grown = again.flops_by_convention["hardware"] - plain.flops_by_convention["hardware"]
    assert grown == again.flops_vector["recompute"]["backward"] - plain.flops_vector["recompute"]["backward"] > 0
    assert again.loss == pytest.approx(plain.loss, rel=1e-5)


def test_bad_options_get_one_line(periodic: TokenStore, engine: Engine) -> None:
    assert parse_memory(None, "none") == PLAIN and parse_memory(3, "blocks") == Memory(3, "blocks")
    with pytest.raises(InputError, match="--recompute: unknown recomputation 'block'; did you mean 'blocks'"):
        parse_memory(None, "block")
    with pytest.raises(InputError, match="--micro-batch: no rows; got 0; expected at least 1"):
        train(config("modern"), periodic, engine, memory=Memory(0))
    dropout = config("lstm", dropout=0.1)
    with pytest.raises(InputError, match="dropout in several micro-batches would change the run"):
        train(dropout, periodic, engine, memory=Memory(2))
    Memory(6, "blocks").check(dropout, 1)  # one piece draws the masks of the whole
    Memory(2).check(dropout, 3)
