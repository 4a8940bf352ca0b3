"""What the compiler makes of the LSTM kernels: no spills, tensor cores, few instructions and barriers per step.

Figures are those of the loop over steps (of the tile kernels) as compiled for bf16; 5 % above the recorded number of
instructions is allowed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason='needs triton: pip install "algoprog[triton]"')
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("interpreted kernels cannot be compiled", allow_module_level=True)

from algoprog.kernels.fused import lstm_group, lstm_tile

BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32
SHARED = {90: 227 * 1024, 80: 163 * 1024}
T, B = 64, 64


@dataclass(frozen=True)
class Budget:
    """Most registers; shared memory in KiB; instructions and barriers of one step, None where a step is many loops."""

    registers: int
    shared: float
    instructions: int | None = None
    barriers: int | None = None
    product: str | None = "HMMA"


TILE = {
    ("tile_forward", 32, BF16, 90): Budget(64, 9, 169, 14),
    ("tile_backward", 32, BF16, 90): Budget(80, 10.5, 315, 22),
    ("tile_forward", 64, BF16, 90): Budget(104, 34, 235, 14),
    ("tile_backward", 64, BF16, 90): Budget(112, 37, 442, 22),
    ("tile_forward", 128, BF16, 90): Budget(104, 132, 268, 14),
    ("tile_backward", 128, BF16, 90): Budget(112, 138, 471, 22),
    ("tile_forward", 104, BF16, 90): Budget(104, 132, 268, 14),
    ("tile_backward", 104, BF16, 90): Budget(112, 138, 474, 22),
    ("tile_forward", 128, FP16, 90): Budget(104, 132, 441, 14),
    ("tile_backward", 128, FP16, 90): Budget(112, 138, 625, 22),
    ("tile_forward", 64, FP32, 90): Budget(240, 68, 1538, 12, None),
    ("tile_backward", 64, FP32, 90): Budget(104, 74, 1993, 22, None),
    ("tile_forward", 128, BF16, 80): Budget(104, 132, 276, 14),
    ("tile_backward", 128, BF16, 80): Budget(112, 138, 467, 22),
}
GROUP = {
    ("group_forward", 256, BF16, 90): Budget(144, 102, product="HGMMA"),
    ("group_backward", 256, BF16, 90): Budget(184, 60, product="HGMMA"),
    ("group_forward", 1024, BF16, 90): Budget(144, 102, product="HGMMA"),
    ("group_backward", 1024, BF16, 90): Budget(184, 60, product="HGMMA"),
    ("group_forward", 512, FP16, 90): Budget(224, 102, product="HGMMA"),
    ("group_backward", 512, FP16, 90): Budget(184, 60, product="HGMMA"),
    ("group_forward", 264, BF16, 90): Budget(144, 102, product="HGMMA"),
    ("group_backward", 264, BF16, 90): Budget(184, 60, product="HGMMA"),
    ("group_forward", 256, FP32, 90): Budget(168, 68, product=None),
    ("group_backward", 256, FP32, 90): Budget(112, 20, product=None),
    ("group_forward", 256, BF16, 80): Budget(176, 68),
    ("group_backward", 256, BF16, 80): Budget(200, 40),
}
QUICK = [
    ("tile_forward", 64, BF16, 90),
    ("tile_backward", 64, BF16, 90),
    ("tile_backward", 128, BF16, 80),
    ("group_forward", 256, BF16, 90),
    ("group_backward", 256, BF16, 90),
]
CASES = TILE | GROUP


def launcher(name: str, H: int, dtype: torch.dtype) -> Callable[[], object]:
    module = lstm_tile if name.startswith("tile") else lstm_group

    def empty(*shape: int, kind: torch.dtype = dtype) -> Tensor:
        return torch.empty(*shape, dtype=kind)

    wide, weight, c0 = empty(T, B, 4 * H), empty(4 * H, H), empty(B, H, kind=FP32)
    if name.endswith("forward"):
        return lambda: module.forward(wide, weight, empty(B, H), c0, None)
    dhidden, cell = empty(T, B, H), empty(T, B, H, kind=FP32)
    return lambda: module.backward(dhidden, empty(B, H), c0, wide, weight, c0, cell, None, None, T)


def step_loop(sass: str) -> list[str]:
    """The longest loop of the code."""
    lines = sass.splitlines()
    labels = {m[1]: i for i, line in enumerate(lines) if (m := re.match(r"\s*(\.L_x_\d+):", line))}
    loops: list[list[str]] = [[]]
    for i, line in enumerate(lines):
        jump = re.search(r"\bBRA\b.*`\((\.L_x_\d+)\)", line)
        if jump and labels.get(jump[1], i) < i:
            loops.append([s for s in lines[labels[jump[1]] : i + 1] if re.match(r"\s*/\*[0-9a-f]{4,}\*/", s)])
    return max(loops, key=len)


def check(compiled: Callable[..., Any], case: tuple[str, int, torch.dtype, int], budget: Budget) -> None:
    name, H, dtype, capability = case
    module = lstm_tile if name.startswith("tile") else lstm_group
    made = compiled(module, name, launcher(name, H, dtype), capability)
    assert made.stack == 0, f"{made.stack} bytes of stack, spills included"
    assert made.registers <= budget.registers, f"{made.registers} registers, budget {budget.registers}"
    assert made.shared <= min(budget.shared * 1024, SHARED[capability]), f"{made.shared} bytes of shared memory"
    assert budget.product is None or budget.product in made.sass, f"no {budget.product}"
    if budget.instructions is not None:
        loop = step_loop(made.sass)
        barriers = sum("BAR." in line for line in loop)
        assert 0 < len(loop) <= 1.05 * budget.instructions, f"{len(loop)} instructions per step"
        assert barriers <= (budget.barriers or 0), f"{barriers} barriers per step"
    between_blocks = r"\bMEMBAR\.\w+\.(GPU|SYS)\b|\bATOM|\bRED\b|\bNANOSLEEP\b"
    assert not re.search(between_blocks, made.sass), "nothing may order, wait for, or add to another block's memory"


@pytest.mark.parametrize("case", [pytest.param(c, marks=() if c in QUICK else pytest.mark.slow) for c in CASES])
def test_within_budget(case: tuple[str, int, torch.dtype, int], compiled: Callable[..., Any]) -> None:
    check(compiled, case, CASES[case])


def test_every_budget_can_be_exceeded(compiled: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    case = ("tile_forward", 32, BF16, 90)
    for budget, message in (
        (Budget(16, 9), "registers, budget 16"),
        (Budget(64, 1), "bytes of shared memory"),
        (Budget(64, 9, product="HGMMA"), "no HGMMA"),
        (Budget(64, 9, 50, 14), "instructions per step"),
        (Budget(64, 9, 169, 1), "barriers per step"),
    ):
        with pytest.raises(AssertionError, match=message):
            check(compiled, case, budget)
    monkeypatch.setitem(lstm_group.BACKWARD, BF16, (64, 256, 4, 3))
    with pytest.raises(AssertionError, match="bytes of stack"):
        check(compiled, ("group_backward", 256, BF16, 90), Budget(255, 200))
