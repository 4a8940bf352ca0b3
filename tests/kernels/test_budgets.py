"""What the compiler makes of every fused kernel, held to budgets: a changed number is a reviewed line here.

No spills and no stack anywhere. Registers have a ceiling, tensors are read and written 16 bytes at a time where their rows
allow it; what is read narrower is the statistics, one number per row.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason='needs triton: pip install "algoprog[triton]"')
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("interpreted kernels cannot be compiled", allow_module_level=True)

from algoprog.kernels.fused import activations, adamw, norm, qk_norm_rope, rope

BF16, FP32 = torch.bfloat16, torch.float32
gate, activate = torch.ops.algoprog.gate, torch.ops.algoprog.activate


@dataclass(frozen=True)
class Budget:
    """Most registers per thread; least bits of a data access; most loads and stores that may be narrower."""

    registers: int
    bits: int = 128
    narrow_loads: int = 0
    narrow_stores: int = 0


def empty(*shape: int, dtype: torch.dtype = BF16) -> Tensor:
    return torch.empty(*shape, dtype=dtype)


def norm_forward(width: int, center: bool, dtype: torch.dtype = BF16) -> Callable[[], object]:
    x, weight = empty(64, width, dtype=dtype), empty(width, dtype=FP32)
    return lambda: norm._launch_forward(x, x.clone(), weight, weight if center else None, 1e-6, center)


def norm_backward(width: int, center: bool, dtype: torch.dtype = BF16) -> Callable[[], object]:
    x, weight, stats = empty(64, width, dtype=dtype), empty(width, dtype=FP32), empty(2, 64, dtype=FP32)
    return lambda: norm._launch_backward(x, x, x, weight, stats, center)


def gate_backward(kind: str) -> Callable[[], object]:
    dh, packed = empty(64, 1024), empty(64, 2048)
    return lambda: torch.ops.algoprog.gate_backward(dh, packed, kind)


def plain_backward(kind: str) -> Callable[[], object]:
    x = empty(64, 1024)
    return lambda: torch.ops.algoprog.activate_backward(x, x, kind)


def rotation(heads: int, kv_heads: int, width: int, rotary: int, dtype: torch.dtype = BF16) -> Callable[[], object]:
    qkv, angles = empty(2, 64, (heads + 2 * kv_heads) * width, dtype=dtype), empty(64, rotary // 2, dtype=FP32)
    return lambda: torch.ops.algoprog.rope(qkv, angles, angles, None, heads, kv_heads)


def rotation_backward(heads: int, kv_heads: int, width: int, rotary: int) -> Callable[[], object]:
    dq, dk = empty(2, heads, 64, width).transpose(1, 2), empty(2, kv_heads, 64, width).transpose(1, 2)
    angles = empty(64, rotary // 2, dtype=FP32)
    return lambda: torch.ops.algoprog.rope_backward(dq, dk, dk, angles, angles, None)


def rotation_by_position() -> object:
    qkv, angles = empty(2, 64, 3 * 8 * 64), empty(64, 32, dtype=FP32)
    return torch.ops.algoprog.rope(qkv, angles, angles, torch.zeros(2, 64, dtype=torch.int64), 8, 8)


def normed_rotation(heads: int, kv_heads: int, width: int, rotary: int) -> Callable[[], object]:
    qkv, angles = empty(2, 64, (heads + 2 * kv_heads) * width), empty(64, rotary // 2, dtype=FP32)
    gain = empty(width, dtype=FP32)
    return lambda: qk_norm_rope._launch_forward(qkv, gain, gain, angles, angles, None, heads, kv_heads, 1e-6)


def normed_rotation_backward(heads: int, kv_heads: int, width: int, rotary: int) -> Callable[[], object]:
    dq, dk = empty(2, heads, 64, width).transpose(1, 2), empty(2, kv_heads, 64, width).transpose(1, 2)
    qkv, angles = empty(2, 64, (heads + 2 * kv_heads) * width), empty(64, rotary // 2, dtype=FP32)
    gain = empty(width, dtype=FP32)
    return lambda: qk_norm_rope._launch_backward(dq, dk, dk, qkv, gain, gain, angles, angles, None, 1e-6)


def optimizer_update(shadow: bool) -> Callable[[], object]:
    param, grad, m, v = (empty(4096, dtype=FP32) for _ in range(4))
    group, ok, control = (empty(n, dtype=kind) for n, kind in ((4, torch.int32), (1, torch.int32), (6, FP32)))
    copy = empty(4096) if shadow else None
    return lambda: adamw._launch_update(param, grad, m, v, copy, group, ok, control, 0.9, 0.95, 1e-8)


def optimizer_squares() -> object:
    return adamw._launch_squares(empty(4096, dtype=FP32))


def optimizer_scalars() -> Callable[[], object]:
    table, step, norm = empty(2, dtype=torch.float64), empty(1, dtype=torch.int64), empty(1, dtype=FP32)
    ok, partial = empty(1, dtype=torch.int32), empty(264, dtype=FP32)
    return lambda: adamw._launch_scalars(partial, table, table, table, step, norm, norm, ok, 0.9, 0.95, 1.0)


BY_HEAD = Budget(128, narrow_stores=4)  # the sums for the gains, a channel per thread
CASES: dict[str, tuple[Any, str, Callable[[], object], Budget]] = {
    "rms forward 64": (norm, "norm_forward", norm_forward(64, False), Budget(48, narrow_stores=1)),
    "rms forward fp32": (norm, "norm_forward", norm_forward(768, False, FP32), Budget(48, narrow_stores=1)),
    "layer forward 100": (norm, "norm_forward", norm_forward(100, True), Budget(64, 64, 2, 2)),
    "layer forward 8192": (norm, "norm_forward", norm_forward(8192, True), Budget(64, narrow_stores=2)),
    "rms backward 64": (norm, "norm_backward", norm_backward(64, False), Budget(88, narrow_loads=2, narrow_stores=1)),
    "rms backward 8192": (norm, "norm_backward", norm_backward(8192, False), Budget(88, narrow_loads=1)),
    "layer backward 1024": (norm, "norm_backward", norm_backward(1024, True), Budget(120, narrow_loads=4)),
    "layer backward fp32": (norm, "norm_backward", norm_backward(8192, True, FP32), Budget(128, narrow_loads=2)),
    "swiglu forward": (activations, "gate_forward", lambda: gate(empty(64, 2048), "swiglu"), Budget(40)),
    "swiglu forward 172": (activations, "gate_forward", lambda: gate(empty(64, 344), "swiglu"), Budget(40, 64)),
    "swiglu backward": (activations, "gate_backward", gate_backward("swiglu"), Budget(48)),
    "gelu forward": (activations, "plain_forward", lambda: activate(empty(64, 1024), "gelu"), Budget(40)),
    "gelu backward": (activations, "plain_backward", plain_backward("gelu"), Budget(40)),
    "rope 64": (rope, "rotate_parts", rotation(12, 4, 64, 64), Budget(40)),
    "rope partial": (rope, "rotate_parts", rotation(4, 4, 64, 32), Budget(48)),
    "rope 24 fp32": (rope, "rotate_parts", rotation(2, 2, 24, 24, FP32), Budget(48)),
    "rope backward 64": (rope, "rotate_parts", rotation_backward(8, 8, 64, 64), Budget(40)),
    "rope by position": (rope, "rotate_parts", rotation_by_position, Budget(40, narrow_loads=2)),
    "normed rope 64": (qk_norm_rope, "norm_and_rotate", normed_rotation(12, 4, 64, 64), Budget(48)),
    "normed rope partial": (qk_norm_rope, "norm_and_rotate", normed_rotation(4, 4, 64, 32), Budget(72)),
    "normed rope backward 64": (qk_norm_rope, "rotate_back", normed_rotation_backward(8, 8, 64, 64), BY_HEAD),
    "normed rope backward 128": (qk_norm_rope, "rotate_back", normed_rotation_backward(8, 2, 128, 128), BY_HEAD),
    "adamw squares": (adamw, "squares", optimizer_squares, Budget(32, narrow_stores=1)),
    "adamw scalars": (adamw, "scalars", optimizer_scalars(), Budget(40, 32)),
    "adamw update": (adamw, "update", optimizer_update(False), Budget(56, narrow_loads=6)),
    "adamw update with a bf16 copy": (adamw, "update", optimizer_update(True), Budget(56, narrow_loads=6)),
}
ON_AMPERE = [
    "adamw squares",
    "adamw update with a bf16 copy",
    "layer backward 1024",
    "swiglu backward",
    "rope 64",
    "normed rope backward 64",
]


def problems(made: Any, budget: Budget) -> list[str]:
    """What exceeds the budget, in words."""
    found = []
    if made.stack:
        found.append(f"{made.stack} bytes of stack, spills included")
    if made.registers > budget.registers:
        found.append(f"{made.registers} registers, budget {budget.registers}")
    if made.shared > 48 * 1024:
        found.append(f"{made.shared} bytes of shared memory")
    for kind, widths, allowed in (
        ("loads", made.loads, budget.narrow_loads),
        ("stores", made.stores, budget.narrow_stores),
    ):
        narrow = sum(count for bits, count in widths.items() if bits < budget.bits)
        if narrow > allowed:
            found.append(f"{narrow} {kind} narrower than {budget.bits} bits, budget {allowed}: {widths}")
    return found


@pytest.mark.parametrize("case", CASES)
def test_hopper(case: str, compiled: Callable[..., Any]) -> None:
    module, kernel, launch, budget = CASES[case]
    assert not problems(compiled(module, kernel, launch, 90), budget)


@pytest.mark.parametrize("case", ON_AMPERE)
def test_ampere(case: str, compiled: Callable[..., Any]) -> None:
    module, kernel, launch, budget = CASES[case]
    assert not problems(compiled(module, kernel, launch, 80), budget)


def test_each_budget_can_be_exceeded(compiled: Callable[..., Any]) -> None:
    """The harness sees spills, registers and narrow accesses when they are there."""
    made = compiled(activations, "gate_forward", lambda: gate(empty(64, 342), "swiglu"), 90)
    assert {text.split()[1] for text in problems(made, Budget(16))} == {"registers,", "loads", "stores"}
    wide = empty(64, 2048, dtype=FP32)

    def two_thousand_columns_in_one_warp() -> None:
        norm.norm_backward[(1,)](
            wide, wide, wide, wide, wide, None, wide, wide, None, 128, 128, 128, 64,
            D=2048, UNIT=16, ROWS=1, COLUMNS=2048, num_warps=1,
        )  # fmt: skip

    spilled = compiled(norm, "norm_backward", two_thousand_columns_in_one_warp, 90)
    assert "bytes of stack" in problems(spilled, Budget(255))[0]
