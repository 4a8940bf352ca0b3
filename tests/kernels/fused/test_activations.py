"""SwiGLU, GLU, GELU and ReLU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from algoprog.kernels import reference
from algoprog.kernels.fused import activations

Draw = Callable[..., Tensor]
GATED = ["swiglu", "gated_linear_unit"]
PLAIN = ["gelu", "relu"]


def both(op: str) -> tuple[Any, Any]:
    return getattr(activations, op), getattr(reference, op)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("op", GATED + PLAIN)
def test_accuracy(op: str, dtype: torch.dtype, draw: Draw, agree: Any) -> None:
    for hidden in (4, 33, 48, 100, 448, 1025):
        agree(*both(op), draw(3, 9, 2 * hidden, dtype=dtype))


@pytest.mark.parametrize("op", GATED + PLAIN)
def test_a_width_that_nobody_chose(op: str, draw: Draw, agree: Any, any_width: int) -> None:
    agree(*both(op), draw(5, 2 * any_width))
    agree(*both(op), draw(5, 2 * any_width, dtype=torch.bfloat16))


@pytest.mark.parametrize("op", GATED + PLAIN)
def test_small_large_and_few_values(op: str, draw: Draw, agree: Any) -> None:
    agree(*both(op), draw(60, 64, scale=0.02))
    agree(*both(op), draw(60, 64, scale=40.0))
    agree(*both(op), draw(60, 64, dtype=torch.bfloat16, scale=100.0))
    agree(*both(op), draw(1, 400))
    agree(*both(op), draw(3, 8192))


@pytest.mark.parametrize("op", GATED + PLAIN)
def test_extreme_values_neither_overflow_nor_turn_to_nan(op: str, device: torch.device) -> None:
    x = torch.tensor([[-1e30, 1e30, -100.0, 100.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0]], device=device, requires_grad=True)
    y = both(op)[0](x)
    y.sum().backward()
    expected = x.detach().clone().requires_grad_()
    wanted = both(op)[1](expected)
    wanted.sum().backward()
    torch.testing.assert_close(y, wanted)
    assert x.grad.isfinite().all()
    torch.testing.assert_close(x.grad, expected.grad)


@pytest.mark.parametrize("op", PLAIN)
def test_nan_stays_nan(op: str, device: torch.device) -> None:
    assert both(op)[0](torch.tensor([float("nan"), 1.0], device=device)).isnan().tolist() == [True, False]


@pytest.mark.parametrize("layout", ["misaligned", "transposed", "expanded"])
@pytest.mark.parametrize("op", GATED + PLAIN)
def test_layouts(op: str, layout: str, draw: Draw, agree: Any) -> None:
    agree(*both(op), draw(6, 7, 48, dtype=torch.bfloat16, layout=layout))
    agree(*both(op), draw(6, 66, layout=layout))


@pytest.mark.parametrize("rows", [1, 127, 128, 129])
def test_rows_around_a_tile(rows: int, draw: Draw, agree: Any) -> None:
    for op in GATED:
        agree(*both(op), draw(rows, 32))


@pytest.mark.parametrize("op", GATED + PLAIN)
def test_no_rows(op: str, draw: Draw) -> None:
    x = draw(0, 6)
    y = both(op)[0](x)
    assert y.shape == both(op)[1](x).shape
    y.sum().backward()
    assert x.grad.shape == x.shape


@pytest.mark.parametrize("op", GATED + PLAIN)
def test_saved_input_and_upstream_gradient_are_not_touched(op: str, draw: Draw) -> None:
    x = draw(5, 40)
    y = both(op)[0](x)
    before, upstream = x.detach().clone(), torch.ones_like(y)
    y.backward(upstream)
    assert torch.equal(x, before) and torch.equal(upstream, torch.ones_like(y))
    with pytest.raises(RuntimeError):
        (dx,) = torch.autograd.grad(both(op)[0](x).square().sum(), x, create_graph=True)
        dx.sum().backward()


def test_bad_arguments_name_themselves(draw: Draw) -> None:
    with pytest.raises(
        ValueError, match=r"swiglu: gate_up: expected an even last dimension, \[gate \| up\], got \(3, 5\)"
    ):
        activations.swiglu(draw(3, 5))
    with pytest.raises(ValueError, match="gelu: x: expected a float32, bfloat16 or float16 tensor, got torch.float64"):
        activations.gelu(draw(3).double())
    with pytest.raises(ValueError, match="gated_linear_unit: gate_up: expected at least one dimension, got a scalar"):
        activations.gated_linear_unit(draw())


@pytest.mark.parametrize("op", GATED)
def test_gates_beyond_two_to_the_31_elements(op: str, only_program: Callable[[int], None]) -> None:
    hidden, rows = 1024, 2**21 + 2
    packed, dh = torch.empty(rows, 2 * hidden, dtype=torch.bfloat16), torch.empty(rows, hidden, dtype=torch.bfloat16)
    packed[-2:], dh[-2:] = torch.randn(2, 2 * hidden), torch.randn(2, hidden)
    only_program(rows // activations.tile(hidden)[0] - 1)
    kind = "glu" if op == "gated_linear_unit" else op
    tail = packed[-2:].clone().requires_grad_()
    wanted = both(op)[1](tail)
    torch.testing.assert_close(torch.ops.algoprog.gate(packed, kind)[-2:], wanted)
    wanted.backward(dh[-2:])
    torch.testing.assert_close(torch.ops.algoprog.gate_backward(dh, packed, kind)[-2:], tail.grad, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("op", PLAIN)
def test_flat_tensors_beyond_two_to_the_31_elements(op: str, only_program: Callable[[int], None]) -> None:
    n = 2**31 + activations.TILE
    x = torch.empty(n, dtype=torch.bfloat16)
    x[-8:] = torch.randn(8)
    only_program(n // activations.TILE - 1)
    tail = x[-8:].clone().requires_grad_()
    wanted = both(op)[1](tail)
    torch.testing.assert_close(torch.ops.algoprog.activate(x, op)[-8:], wanted)
    wanted.sum().backward()
    ones = torch.ones((), dtype=torch.bfloat16).expand(8)
    x_like = torch.empty(n, dtype=torch.bfloat16)
    x_like[-8:] = ones
    torch.testing.assert_close(
        torch.ops.algoprog.activate_backward(x_like, x, op)[-8:], tail.grad, rtol=2e-2, atol=2e-2
    )
