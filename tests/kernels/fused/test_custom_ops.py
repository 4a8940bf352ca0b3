"""The operators as PyTorch sees them: schemas, fakes, tracing, counting FLOPs, autocast."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from algoprog.kernels import dispatch, formulas, reference, select
from algoprog.kernels.dispatch import OPERATIONS
from algoprog.kernels.fused import activations, adamw, linear_cross_entropy, lstm, norm, qk_norm_rope, rope  # noqa: F401

Draw = Callable[..., Tensor]
ops = torch.ops.algoprog


def cases(draw: Draw, device: torch.device) -> dict[str, tuple[Any, ...]]:
    x, r, w, b = draw(3, 5, 12), draw(3, 5, 12), draw(12), draw(12)
    stats = draw(2, 15).detach().abs()
    angle = draw(6, 2).detach()
    dq, dk = (draw(2, 5, heads, 4).detach() for heads in (2, 1))
    position = torch.tensor([3, 0, 5, 1, 1], device=device)
    hidden, table, table_bias = draw(5, 8), draw(7, 8), draw(7)
    target = torch.tensor([3, -100, 0, 6, 3], device=device)
    recurrence, start = (draw(4, 3, 32), draw(32, 8), draw(3, 8)), draw(3, 8)
    kept, last = (torch.tensor(x, device=device) for x in ([[1, 0, 1]] * 4, [3, 0, 2]))
    kept = kept.to(torch.uint8)
    flat = [draw(2048).detach().abs().clone() for _ in range(4)]
    rates = [torch.full((1,), value, dtype=torch.float64, device=device) for value in (0.1, 0.01, 1.0)]
    group, step, norm_, ok = (
        torch.zeros(shape, dtype=kind, device=device)
        for shape, kind in ((2, torch.int32), ((), torch.int64), ((), torch.float32), ((), torch.int32))
    )
    return {
        "adamw_": (*flat, group, *rates, step, norm_, ok, flat[0].bfloat16(), None, 0.9, 0.95, 1e-8, 1.0),
        "norm": (x, w, b, 1e-6, True),
        "add_norm": (x, r, w, None, 1e-6, False),
        "norm_backward": (x.detach(), r.detach(), x.detach(), w.detach(), stats, True),
        "gate": (x, "swiglu"),
        "gate_backward": (draw(3, 5, 6).detach(), x.detach(), "glu"),
        "activate": (x, "gelu"),
        "activate_backward": (r.detach(), x.detach(), "relu"),
        "rope": (draw(2, 5, 16), angle.cos(), angle.sin(), position, 2, 1),
        "rope_backward": (dq, dk, dk.clone(), angle.cos(), angle.sin(), None),
        "rope_": (draw(2, 5, 16).detach(), angle.cos(), angle.sin(), position, 2, 1),
        "qk_norm_rope": (draw(2, 5, 16), draw(4), draw(4), angle.cos(), angle.sin(), None, 2, 1, 1e-6),
        "qk_norm_rope_backward": (
            dq, dk, dk.clone(), draw(2, 5, 16).detach(), draw(4).detach(), draw(4).detach(), angle.cos(), angle.sin(),
            position, 1e-6,
        ),
        "linear_cross_entropy": (hidden, table, table_bias, target, -100, "chunked"),
        "linear_cross_entropy_backward": (
            draw(5).detach(), *(a.detach() for a in (hidden, table, table_bias)), target, draw(5).detach(),
            draw(5).detach(), -100, "flash",
        ),
        "lstm": (*recurrence, start, kept, last, 2, "tile"),
        "lstm_backward": (
            *(part.detach() for part in (draw(4, 3, 8), draw(3, 8), draw(3, 8), *recurrence, start)), kept, last,
            *(draw(4, 3, 8).detach() for _ in range(2)), draw(0).detach(), 2, "group",
        ),
    }  # fmt: skip


OPERATORS = [
    "adamw_", "norm", "add_norm", "norm_backward", "gate", "gate_backward", "activate", "activate_backward", "rope",
    "rope_backward", "rope_", "qk_norm_rope", "qk_norm_rope_backward", "linear_cross_entropy",
    "linear_cross_entropy_backward", "lstm", "lstm_backward",
]  # fmt: skip


@pytest.mark.parametrize("name", OPERATORS)
def test_opcheck(name: str, draw: Draw, device: torch.device) -> None:
    # Output memory is compared with a second run of the same operator, so it must not be poisoned differently.
    torch.library.opcheck(getattr(ops, name).default, cases(draw, device)[name])


@pytest.mark.parametrize("name", OPERATORS)
def test_repeats_bit_for_bit_and_writes_only_what_its_schema_says(name: str, draw: Draw, device: torch.device) -> None:
    op = getattr(ops, name).default
    written = {a.name for a in op._schema.arguments if a.alias_info is not None and a.alias_info.is_write}
    given = cases(draw, device)[name]
    outcomes = []
    for _ in range(2):
        arguments = [a.detach().clone() if isinstance(a, Tensor) else a for a in given]
        found = op(*arguments)
        outputs = list(found) if isinstance(found, tuple) else [] if found is None else [found]
        outcomes.append([*outputs, *(a for a in arguments if isinstance(a, Tensor))])
        for formal, got, before in zip(op._schema.arguments, arguments, given, strict=True):
            if isinstance(got, Tensor) and formal.name not in written:
                assert torch.equal(got, before), formal.name
    for one, two in zip(*outcomes, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0, equal_nan=False)


HOST = ("item", "tolist", "nonzero", "numpy", "__bool__", "__int__", "__float__", "__index__")


@pytest.mark.parametrize("name", OPERATORS)
def test_nothing_asks_the_device_for_a_value(
    name: str, draw: Draw, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What would wait for a GPU, or break a captured graph, is not called on a tensor anywhere on the way to a launch."""
    given = cases(draw, device)[name]

    def refuse(what: str) -> Callable[..., Any]:
        def call(*_: Any, **__: Any) -> Any:
            raise AssertionError(f"{name} asks for a value: {what}")

        return call

    given = tuple(a.detach().clone() if isinstance(a, Tensor) else a for a in given)
    with monkeypatch.context() as patched:
        for method in HOST:
            patched.setattr(Tensor, method, refuse(method))
        for function in ("equal", "allclose", "unique", "masked_select"):
            patched.setattr(torch, function, refuse(function))
        with pytest.raises(AssertionError, match="asks for a value: item"):
            torch.ones(()).item()
        getattr(ops, name).default(*given)


def test_every_operator_has_a_formula_and_a_case(draw: Draw, device: torch.device) -> None:
    registered = {
        name.split("::")[1].split(".")[0] for name in torch._C._dispatch_get_all_op_names() if "algoprog::" in name
    }
    assert registered == set(formulas.FORMULAS) == set(cases(draw, device))


def test_flops_of_elementwise_operators_are_counted_as_zero(draw: Draw, device: torch.device) -> None:
    weight = draw(24, 12)
    with FlopCounterMode(display=False) as counter:
        y, _ = norm.add_rms_norm(draw(3, 5, 12), draw(3, 5, 12), draw(12), 1e-6)
        activations.swiglu(y @ weight.T).sum().backward()
    assert counter.get_total_flops() == 3 * 2 * 15 * 12 * 24
    counted = {str(op) for op in counter.get_flop_counts()["Global"]}
    assert {"algoprog.add_norm", "algoprog.gate", "algoprog.gate_backward", "algoprog.norm_backward"} <= counted


class Everything(nn.Module):
    """Each operation once."""

    def __init__(self, request: str, device: torch.device) -> None:
        super().__init__()
        self.operations = select(request, device, torch.float32)
        self.weight = nn.Parameter(torch.linspace(0.5, 1.5, 24, device=device))
        angle = torch.outer(torch.arange(5.0), torch.tensor([1.0, 0.1])).to(device)
        self.register_buffer("cos", angle.cos())
        self.register_buffer("sin", angle.sin())
        self.register_buffer("turn", torch.arange(5, device=device).flip(0))

    def forward(self, x: Tensor) -> Tensor:
        op = self.operations
        y = op.rms_norm(x, self.weight, 1e-6)
        y, s = op.add_layer_norm(y, x, self.weight, self.weight, 1e-5)
        q, _, v = op.rope(y, self.cos, self.sin, 2)
        _, k, _ = op.qk_norm_rope(
            y, self.weight[:4], self.weight[4:8], self.cos, self.sin, 2, eps=1e-6, positions=self.turn
        )
        mixed = op.causal_attention(q, k, v).transpose(1, 2).flatten(2)
        packed = torch.cat((op.gelu(mixed), op.relu(mixed), mixed, mixed, mixed, mixed), dim=-1)
        y = op.swiglu(packed) + op.gated_linear_unit(torch.cat((packed, packed), dim=-1))[..., :24]
        y, s = op.add_rms_norm(y, s, self.weight, 1e-6)
        return op.layer_norm(y * s, self.weight, None, 1e-5)


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiles_without_graph_breaks(dynamic: bool, draw: Draw, device: torch.device) -> None:
    torch._dynamo.reset()
    eager = Everything("fused", device)
    compiled = torch.compile(eager, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    x = draw(2, 5, 24)
    outcomes = []
    for module in (eager, compiled, Everything("reference", device)):
        y = module(x)
        found = torch.autograd.grad(y.square().sum(), (x, *module.parameters()))
        outcomes.append((y, *found))
    torch.testing.assert_close(outcomes[1], outcomes[0])
    torch.testing.assert_close(outcomes[1], outcomes[2], rtol=1e-4, atol=1e-4)


def test_autocast_gives_the_types_of_the_reference(draw: Draw, device: torch.device) -> None:
    x, weight, projection = draw(3, 5, 8), draw(8), draw(16, 8)
    kinds = []
    for implementation in (norm, reference):
        gate = activations if implementation is norm else reference
        with torch.autocast(device.type, torch.bfloat16):
            y = implementation.rms_norm(x, weight, 1e-6)
            h = gate.swiglu(nn.functional.linear(y, projection))
            y, s = implementation.add_rms_norm(h, x, weight, 1e-6)
        (gradient,) = torch.autograd.grad((y * s).sum(), x)
        kinds.append((h.dtype, y.dtype, s.dtype, gradient.dtype))
    assert kinds[0] == kinds[1] == (torch.bfloat16, torch.float32, torch.float32, torch.float32)


def test_every_operation_that_has_a_fused_file_is_bound_to_it(device: torch.device) -> None:
    operations = select("fused", device, torch.bfloat16)
    assert set(dispatch.FUSED) <= set(OPERATIONS)
    for op in OPERATIONS:
        home = getattr(operations, op).__module__
        fused = f"algoprog.kernels.fused.{dispatch.FUSED[op]}" if op in dispatch.FUSED else None
        assert home == (fused or "algoprog.kernels.reference")
    assert operations.record() == {
        "fused": [op for op in OPERATIONS if op in dispatch.FUSED],
        "reference": [op for op in OPERATIONS if op not in dispatch.FUSED],
        "lstm": ["requested: tile to width 128, group beyond; not measured"],
    }


def test_double_precision_is_refused_by_name(device: torch.device) -> None:
    with pytest.raises(dispatch.Unavailable, match="torch.float64 is none of float32, bfloat16, float16"):
        select("fused", device, torch.float64)
