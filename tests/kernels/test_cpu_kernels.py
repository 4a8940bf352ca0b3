"""The operations for CPUs: values and gradients of the reference, no less exact than it, recorded, and refused elsewhere."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from algoprog import kernels
from algoprog.config import BudgetConfig, InputError, RunConfig
from algoprog.data.store import TokenStore
from algoprog.kernels import cpu, dispatch, reference
from algoprog.kernels.cpu import linear_cross_entropy as head
from algoprog.kernels.dispatch import OPERATIONS
from algoprog.kernels.modules import rotary_tables
from algoprog.recipes import resolve
from algoprog.training.engines import Engine
from algoprog.training.loop import train

CPU = torch.device("cpu")
Case = tuple[Callable[..., Tensor | tuple[Tensor, ...]], list[Tensor]]


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def case(op: str, dtype: torch.dtype, operations: kernels.Operations, B: int = 3, T: int = 8, D: int = 12) -> Case:
    """The operation as a function of the tensors that get gradients."""
    x, y = (randn(B, T, D, seed=seed, dtype=dtype) for seed in (1, 2))
    gain, bias = 1 + 0.1 * randn(D, seed=3, dtype=dtype), randn(40, seed=5, dtype=dtype)
    cos, sin = (table.to(dtype) for table in rotary_tables(T + 2, 4, 100.0))
    target = torch.arange(B * T) * 7 % 40
    target[3] = -100
    return {
        "rms_norm": (lambda x, w: operations.rms_norm(x, w, 1e-5), [x, gain]),
        "add_rms_norm": (lambda x, y, w: operations.add_rms_norm(x, y, w, 1e-5), [x, y, gain]),
        "swiglu": (operations.swiglu, [x]),
        "rope": (lambda qkv: operations.rope(qkv, cos, sin, 2, 1), [randn(B, T, 16, seed=4, dtype=dtype)]),
        "linear_cross_entropy": (
            lambda h, w, b: operations.linear_cross_entropy(h, w, b, target),
            [x.reshape(-1, D), randn(40, D, seed=6, dtype=dtype), bias],
        ),
    }[op]


def values_and_gradients(
    function: Callable[..., Tensor | tuple[Tensor, ...]], inputs: Sequence[Tensor]
) -> list[Tensor]:
    """Outputs, and gradients of their sum with fixed weights, all in float64."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    found = function(*leaves)
    outputs = (found,) if isinstance(found, Tensor) else found
    weights = [
        randn(*y.shape, seed=9 + i, dtype=y.dtype) if y.ndim else torch.ones_like(y) for i, y in enumerate(outputs)
    ]
    gradients = torch.autograd.grad(outputs, leaves, weights)
    return [value.detach().double() for value in (*outputs, *gradients)]


@pytest.mark.parametrize("op", dispatch.CPU)
def test_gradients_are_those_of_finite_differences(op: str) -> None:
    function, inputs = case(op, torch.float64, kernels.select("cpu", CPU, torch.float64))
    assert torch.autograd.gradcheck(function, [x.requires_grad_() for x in inputs])


@pytest.mark.parametrize("op", dispatch.CPU)
@pytest.mark.parametrize("shape", [(3, 8, 12), (8, 128, 32)], ids=["small", "a step's"])
def test_at_least_as_exact_as_the_reference(op: str, shape: tuple[int, int, int]) -> None:
    """Against float64. Where both are exact to rounding neither is always the better one, so twice its error is allowed."""
    ours, plain = (
        case(op, torch.float32, kernels.select(name, CPU, torch.float32), *shape) for name in ("cpu", "reference")
    )
    exact_function, inputs = case(op, torch.float64, kernels.REFERENCE, *shape)
    exact = values_and_gradients(exact_function, [x.float().double() for x in inputs])
    found = [values_and_gradients(function, inputs) for function, inputs in (ours, plain)]
    for truth, got, theirs in zip(exact, *found, strict=True):
        error, allowed = ((value - truth).norm() / truth.norm() for value in (got, theirs))
        assert error <= max(2 * allowed, 3e-7), (op, float(error), float(allowed))


def head_inputs(N: int, D: int, V: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    ids = torch.randint(V, (N,), generator=torch.Generator().manual_seed(N))
    return randn(N, D, seed=1, dtype=dtype), randn(V, D, seed=2, dtype=dtype), randn(V, seed=3, dtype=dtype), ids


@settings(max_examples=30, deadline=None)
@given(N=st.integers(1, 70), D=st.integers(1, 9), V=st.integers(2, 50), rows=st.integers(1, 40), bias=st.booleans(),
       ignored=st.integers(0, 70))  # fmt: skip
def test_chunks_of_any_size_give_the_reference(N: int, D: int, V: int, rows: int, bias: bool, ignored: int) -> None:
    x, weight, b, target = head_inputs(N, D, V)
    target[:ignored] = -100
    inputs = [x, weight, b] if bias else [x, weight]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(head, "CHUNK_LOGITS", rows * V)
        patch.setattr(head, "LEAST_ROWS", 1)
        ours = values_and_gradients(lambda x, w, b=None: head.linear_cross_entropy(x, w, b, target), inputs)
    plain = values_and_gradients(lambda x, w, b=None: reference.linear_cross_entropy(x, w, b, target), inputs)
    for got, expected in zip(ours, plain, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-11)


def test_extreme_logits_neither_overflow_nor_lose_the_loss() -> None:
    """A target 300 nats below the largest logit has a loss of 300, though its probability is zero in fp32."""
    x, weight = torch.tensor([[300.0], [-300.0], [0.0]]), torch.tensor([[1.0], [0.0], [-1.0]])
    target = torch.tensor([1, 1, 0])
    x.requires_grad_()
    loss = head.linear_cross_entropy(x, weight, None, target)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(600.0 + torch.log(torch.tensor(3.0)).item(), rel=1e-6)
    torch.testing.assert_close(x.grad, torch.tensor([[1.0], [-1.0], [-1.0]]))


def test_a_number_that_is_not_finite_shows_in_the_loss() -> None:
    x, weight, bias, target = head_inputs(5, 3, 7, torch.float32)
    for bad in (torch.nan, torch.inf):
        broken = x.clone()
        broken[2, 1] = bad
        assert not torch.isfinite(head.linear_cross_entropy(broken, weight, bias, target))


def test_without_gradients_the_value_is_the_same() -> None:
    x, weight, bias, target = head_inputs(300, 8, 1024, torch.float32)
    with torch.no_grad():
        alone = head.linear_cross_entropy(x, weight, bias, target)
    assert alone == head.linear_cross_entropy(x.requires_grad_(), weight, bias, target).detach()


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_other_reductions_are_those_of_the_reference(reduction: str) -> None:
    inputs = head_inputs(9, 4, 11, torch.float32)
    found, expected = (
        function(*inputs, reduction=reduction)
        for function in (head.linear_cross_entropy, reference.linear_cross_entropy)
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("heads, kv_heads, width", [*itertools.product((1, 4), (1, 2), (4, 6))])
def test_rope_of_grouped_heads_of_given_positions_and_of_a_part(heads: int, kv_heads: int, width: int) -> None:
    qkv = randn(2, 5, (heads + 2 * kv_heads) * width, dtype=torch.float64)
    for rotated, positions in ((width, None), (width, torch.tensor([4, 0, 2, 2, 1])), (2, None)):
        cos, sin = rotary_tables(8, rotated, 50.0)
        for got, expected in zip(
            cpu_operations().rope(qkv, cos, sin, heads, kv_heads, positions=positions),
            reference.rope(qkv, cos, sin, heads, kv_heads, positions=positions),
            strict=True,
        ):
            torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


def cpu_operations() -> kernels.Operations:
    return kernels.select("cpu", CPU, torch.float64)


def test_what_runs_is_named_and_what_cannot_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    operations = kernels.select("cpu", CPU, torch.float32)
    record = operations.record()
    assert record["cpu"] == [op for op in OPERATIONS if op in dispatch.CPU] and record["fused"] == []
    assert sorted(record["cpu"] + record["reference"]) == sorted(OPERATIONS)
    assert operations.linear_cross_entropy is head.linear_cross_entropy and operations.lstm is reference.lstm
    assert dispatch.head_kind(operations, 32, torch.float32, CPU) == "plain"
    with pytest.raises(kernels.Unavailable, match="cpu is for float32 on a CPU, got bfloat16 on cpu; use auto or"):
        kernels.select("cpu", CPU, torch.bfloat16)
    with pytest.raises(kernels.Unavailable, match="got float32 on cuda"):
        kernels.select("cpu", torch.device("cuda"), torch.float32)
    monkeypatch.setenv("ALGOPROG_KERNELS", "cpu")
    assert kernels.select("auto", CPU, torch.float32).record() == record
    assert cpu.__doc__


def config_of(arch: str, **overrides: object) -> RunConfig:
    model = {"context": 16, **({"bptt": 8} if arch == "lstm" else {})}
    values = {"batch": 4, "model": model, "data": {"tokenizer": "bpe-300"}, **overrides}
    return resolve(arch, 16, BudgetConfig(tokens=30 * 64), lr=0.01, overrides=values)


@pytest.mark.parametrize("arch", ["modern", "retro", "lstm"])
def test_a_run_has_the_losses_of_the_reference_and_says_what_ran(
    arch: str, periodic: TokenStore, engine: Engine
) -> None:
    rows: dict[str, list[dict[str, float]]] = {"cpu": [], "reference": []}
    outcomes = {
        name: train(config_of(arch), periodic, engine, kernels=name, on_metrics=seen.append)
        for name, seen in rows.items()
    }
    ours, plain = ([row["loss"] for row in seen] for seen in rows.values())
    assert len(ours) == 30 and ours == pytest.approx(plain, rel=5e-6)
    assert outcomes["cpu"].loss == pytest.approx(outcomes["reference"].loss, rel=5e-6)
    assert "linear_cross_entropy" in outcomes["cpu"].kernels["cpu"] and "cpu" not in outcomes["reference"].kernels
    assert outcomes["cpu"].flops == outcomes["reference"].flops


def test_a_run_in_bf16_with_them_is_refused(periodic: TokenStore, engine: Engine) -> None:
    config = config_of("modern").model_copy(update={"precision": "bf16"})
    with pytest.raises(InputError, match="--kernels: kernels: cpu is for float32"):
        train(config, periodic, engine, kernels="cpu")
