"""RMSNorm and LayerNorm, plain and with the residual addition."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from algoprog.kernels import reference
from algoprog.kernels.fused import launch, norm

Draw = Callable[..., Tensor]
OPS = ["rms_norm", "add_rms_norm", "layer_norm", "add_layer_norm"]
WIDTHS = [8, 33, 48, 100, 448, 1000]


def arguments(
    op: str, draw: Draw, *shape: int, dtype: torch.dtype = torch.float32, eps: float = 1e-6, **how: Any
) -> Any:
    inputs = [draw(*shape, dtype=dtype, **how) for _ in range(2 if op.startswith("add") else 1)]
    weights = [draw(shape[-1], mean=1.0, scale=0.5)]
    if op.endswith("layer_norm"):
        weights.append(draw(shape[-1], scale=0.5))
    return *inputs, *weights, eps


def both(op: str) -> tuple[Any, Any]:
    return getattr(norm, op), getattr(reference, op)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("op", OPS)
def test_accuracy(op: str, dtype: torch.dtype, draw: Draw, agree: Any) -> None:
    for width in WIDTHS:
        agree(*both(op), *arguments(op, draw, 3, 9, width, dtype=dtype))


@pytest.mark.parametrize("op", OPS)
def test_a_width_that_nobody_chose(op: str, draw: Draw, agree: Any, any_width: int) -> None:
    agree(*both(op), *arguments(op, draw, 5, any_width))
    agree(*both(op), *arguments(op, draw, 5, any_width, dtype=torch.bfloat16))


@pytest.mark.parametrize("op", OPS)
def test_widest_and_narrowest_rows(op: str, draw: Draw, agree: Any) -> None:
    agree(*both(op), *arguments(op, draw, 3, 8192))
    agree(*both(op), *arguments(op, draw, 200, 3, eps=1e-2))


def test_rows_of_one_element(draw: Draw) -> None:
    """The gradient of the weight is one number, a sum of either sign, so that only its absolute error means something."""
    found = []
    x, weight = draw(700, 1), draw(1)
    for op in both("rms_norm"):
        y = op(x, weight, 0.5)
        found.append((y, *torch.autograd.grad((y * y.detach().cos()).sum(), (x, weight))))
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("op", OPS)
def test_small_large_and_few_values(op: str, draw: Draw, agree: Any) -> None:
    agree(*both(op), *arguments(op, draw, 40, 64, eps=1e-8, scale=0.02))
    agree(
        *both(op), *arguments(op, draw, 40, 64, eps=1e-8, scale=1e12)
    )  # eager PyTorch cubes 1 / rms: at 1e17 it loses the gradient
    agree(*both(op), *arguments(op, draw, 40, 64, dtype=torch.float16, scale=9000.0))
    agree(*both(op), *arguments(op, draw, 40, 64, scale=0.3, mean=3.0))
    agree(*both(op), *arguments(op, draw, 1, 300))


@pytest.mark.parametrize("layout", ["misaligned", "transposed", "expanded"])
@pytest.mark.parametrize("op", OPS)
def test_layouts(op: str, layout: str, draw: Draw, agree: Any) -> None:
    agree(*both(op), *arguments(op, draw, 6, 7, 48, dtype=torch.bfloat16, layout=layout))
    agree(*both(op), *arguments(op, draw, 6, 33, layout=layout))


@pytest.mark.parametrize("rows", [1, 127, 128, 129, 1000])
def test_programs_that_walk_over_several_tiles(
    rows: int, draw: Draw, agree: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "PROGRAMS", 2)
    for op in OPS:
        agree(*both(op), *arguments(op, draw, rows, 12))


@pytest.mark.parametrize("op", OPS)
def test_no_rows(op: str, draw: Draw) -> None:
    given = arguments(op, draw, 2, 0, 16)
    outputs = getattr(norm, op)(*given)
    for y in outputs if isinstance(outputs, tuple) else (outputs,):
        assert y.shape == (2, 0, 16)
    (outputs[0] if isinstance(outputs, tuple) else outputs).sum().backward()
    for tensor in given[:-1]:
        assert torch.equal(tensor.grad, torch.zeros_like(tensor))


@pytest.mark.parametrize("used", [0, 1])
@pytest.mark.parametrize("op", ["add_rms_norm", "add_layer_norm"])
def test_either_output_alone(op: str, used: int, draw: Draw, agree: Any) -> None:
    fused, plain = both(op)
    given = arguments(op, draw, 9, 40)
    if used == 0:
        agree(lambda *a: fused(*a)[0], lambda *a: plain(*a)[0], *given)
        return
    fused(*given)[1].sum().backward()
    assert torch.equal(given[0].grad, torch.ones_like(given[0])) and given[2].grad is None


def test_a_branch_of_another_type(draw: Draw, agree: Any) -> None:
    """Under autocast branches are bf16 and the stream is fp32; the sum has the type it has in PyTorch."""
    x, residual, weight = draw(9, 24, dtype=torch.bfloat16), draw(9, 24), draw(24, mean=1.0, scale=0.5)
    y, s = norm.add_rms_norm(x, residual, weight, 1e-6)
    assert y.dtype == s.dtype == torch.float32
    (y.sum() + s.sum()).backward()
    assert x.grad.dtype == torch.bfloat16 and residual.grad.dtype == torch.float32
    agree(norm.add_rms_norm, reference.add_rms_norm, x, residual, weight, 1e-6)


def test_low_precision_weights(draw: Draw, agree: Any) -> None:
    kind = SimpleNamespace(dtype=torch.bfloat16)
    weight, bias = draw(40, mean=1.0, scale=0.5, dtype=kind.dtype), draw(40, dtype=kind.dtype)
    agree(norm.layer_norm, reference.layer_norm, draw(30, 40, dtype=kind.dtype), weight, bias, 1e-5)
    agree(norm.layer_norm, reference.layer_norm, draw(30, 40, dtype=kind.dtype), weight, None, 1e-5)


def test_equal_bit_for_bit_when_repeated_and_inputs_untouched(draw: Draw) -> None:
    given = arguments("add_layer_norm", draw, 300, 24)
    before = [t.detach().clone() for t in given[:-1]]
    runs = []
    for _ in range(2):
        for tensor in given[:-1]:
            tensor.grad = None
        y, s = norm.add_layer_norm(*given)
        (y * s).sum().backward()
        runs.append([y, s, *(t.grad for t in given[:-1])])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(before, given[:-1], strict=True))


def test_double_backward_raises(draw: Draw) -> None:
    x, weight = draw(4, 16), draw(16)
    (dx,) = torch.autograd.grad(norm.rms_norm(x, weight, 1e-6).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError):
        dx.sum().backward()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": (17,)}, r"add_rms_norm: weight: expected shape \(16,\), got \(17,\)"),
        ({"residual": (4, 15)}, r"add_rms_norm: residual: expected shape \(4, 16\), got \(4, 15\)"),
        ({"x": (4, 8193), "residual": (4, 8193), "weight": (8193,)}, "add_rms_norm: x: expected a last dimension of 1 to 8192"),
        ({"dtype": torch.float64}, "add_rms_norm: x: expected a float32, bfloat16 or float16 tensor, got torch.float64"),
        ({"eps": 0.0}, "add_rms_norm: eps: expected a number above 0, got 0.0"),
        ({"device": "meta"}, "add_rms_norm: weight: expected a tensor on .*, got meta"),
    ],
)  # fmt: skip
def test_bad_arguments_name_themselves(change: dict[str, Any], message: str, draw: Draw) -> None:
    shapes = {"x": (4, 16), "residual": (4, 16), "weight": (16,)} | change
    x, residual, weight = (draw(*shapes[name]) for name in ("x", "residual", "weight"))
    x, weight = x.to(change.get("dtype", x.dtype)), weight.to(change.get("device", weight.device))
    with pytest.raises(ValueError, match=message):
        norm.add_rms_norm(x, residual, weight, change.get("eps", 1e-6))


@pytest.mark.parametrize("op", OPS)
def test_rows_wider_than_8192_are_refused_by_name(op: str, draw: Draw) -> None:
    with pytest.raises(ValueError, match=rf"{op}: x: expected a last dimension of 1 to 8192, got \(2, 8193\)"):
        getattr(norm, op)(*arguments(op, draw, 2, 8193))


@pytest.mark.parametrize("op", OPS)
def test_rows_beyond_two_to_the_31_elements(op: str, only_program: Callable[[int], None]) -> None:
    width, rows = 1024, 2**21 + 2
    tile = launch.row_tile(width, norm.TILE)[0]
    inputs = [torch.empty(rows, width) for _ in range(2 if op.startswith("add") else 1)]
    for tensor in inputs:
        tensor[-2:] = torch.randn(2, width)
    center, weight = "layer" in op, torch.rand(width) + 0.5
    bias = weight if center else None
    only_program(rows // tile - 1)
    y, s, _ = norm._launch_forward(inputs[0], inputs[-1] if len(inputs) > 1 else None, weight, bias, 1e-6, center)
    expected = getattr(reference, op)(*(t[-2:] for t in inputs), weight, *([bias] if center else []), 1e-6)
    torch.testing.assert_close((y[-2:], s[-2:]) if len(inputs) > 1 else y[-2:], expected)


def test_gradients_beyond_two_to_the_31_elements(only_program: Callable[[int], None], monkeypatch: Any) -> None:
    width, rows = 1024, 2**21 + 2
    tile = launch.row_tile(width, norm.TILE)[0]
    dy, s, stats = torch.empty(rows, width), torch.empty(rows, width), torch.empty(1, rows)
    x, weight = torch.randn(2, width, requires_grad=True), torch.rand(width) + 0.5
    s[-2:], dy[-2:] = x.detach(), torch.randn(2, width)
    stats[0, -2:] = (s[-2:].square().mean(-1) + 1e-6).rsqrt()
    monkeypatch.setattr(launch, "PROGRAMS", rows)  # a tile per program, as if the persistent grid had come that far
    only_program(rows // tile - 1)
    dx, dweight, _ = norm._launch_backward(dy, None, s, weight, stats, False)
    (expected,) = torch.autograd.grad(reference.rms_norm(x, weight, 1e-6), x, dy[-2:])
    torch.testing.assert_close(dx[-2:], expected, rtol=1e-4, atol=1e-5)


def test_row_strides_beyond_two_to_the_31_elements() -> None:
    torch.utils.deterministic.fill_uninitialized_memory = False
    wide = torch.empty(2**31 + 80, dtype=torch.bfloat16).as_strided((2, 64), (2**31 + 16, 1))
    wide.copy_(torch.randn(2, 64))
    x, weight = wide.clone().requires_grad_(), torch.rand(64) + 0.5
    y = norm.rms_norm(wide.requires_grad_(), weight, 1e-6)
    torch.testing.assert_close(y, reference.rms_norm(x, weight, 1e-6))
    stats = (x.float().square().mean(-1) + 1e-6).rsqrt()[None]
    dx = norm._launch_backward(wide.detach(), None, wide.detach(), weight, stats, False)[0]
    torch.testing.assert_close(dx, norm._launch_backward(x.detach(), None, x.detach(), weight, stats, False)[0])
