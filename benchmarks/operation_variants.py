"""One problem per operation of the package: inputs, the ways to compute it, and what it costs by its own formula.

Every way takes the same inputs and gives the same outputs. ``eager`` is what a user would write, ``reference`` the package's
plain PyTorch, ``fused`` its kernels, ``compiled`` is ``reference`` under torch.compile; the rest are peers, by their names.
"""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
for _folder in (ROOT, ROOT / "benchmarks" / "gpu"):
    if str(_folder) not in sys.path:
        sys.path.append(str(_folder))  # the package need not be installed on the GPU machine

from bench import Bench, Unsupported  # noqa: E402

from algoprog import kernels  # noqa: E402

Function = Callable[..., Any]
EPS = 1e-6


@dataclass(frozen=True)
class Problem:
    """``inputs``: tensors and plain arguments; floating tensors get gradients. ``work``: amounts of a forward pass and of
    forward and backward together (bytes or flops)."""

    inputs: tuple[Any, ...]
    ways: Mapping[str, Callable[[Bench, torch.dtype], Function]]
    work: Mapping[str, tuple[float, float]]


def _peer(module: str, name: str) -> Any:
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:  # a peer that does not import is a row that says so
        line = str(error).strip().splitlines()
        raise Unsupported(f"{module}.{name}: {type(error).__name__}: {line[0] if line else ''}"[:200]) from None


def _ours(op: str) -> dict[str, Callable[[Bench, torch.dtype], Function]]:
    def fused(bench: Bench, dtype: torch.dtype) -> Function:
        if bench.device.type != "cuda":
            raise Unsupported("fused kernels need a GPU; the interpreter's speed says nothing")
        return getattr(kernels.select("fused", bench.device, dtype), op)  # type: ignore[no-any-return]

    def compiled(bench: Bench, dtype: torch.dtype) -> Function:
        if bench.device.type != "cuda":
            raise Unsupported("torch.compile is compared on a GPU")
        return torch.compile(getattr(kernels, op), dynamic=False)

    return {"reference": lambda *_: getattr(kernels, op), "fused": fused, "compiled": compiled}


def rms_norm(bench: Bench, rows: int, width: int, dtype: torch.dtype) -> Problem:
    def eager(x: Tensor, weight: Tensor, eps: float) -> Tensor:
        wide = x if x.dtype == torch.float64 else x.float()
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps) * weight).to(x.dtype)

    def liger(*_: object) -> Function:
        function = _peer("liger_kernel.ops.rms_norm", "LigerRMSNormFunction")
        return lambda x, weight, eps: function.apply(x, weight, eps, 0.0, "llama", False)

    def quack(*_: object) -> Function:
        function = _peer("quack", "rmsnorm")
        return lambda x, weight, eps: function(x, weight, eps=eps)

    size = float(rows * width * dtype.itemsize)
    inputs = bench.normal(rows, width, dtype=dtype), 1 + 0.5 * bench.normal(width), EPS
    ways = {"eager": lambda *_: eager, **_ours("rms_norm"), "liger": liger, "quack": quack}
    return Problem(inputs, ways, {"bytes": (2 * size, 5 * size)})


def add_rms_norm(bench: Bench, rows: int, width: int, dtype: torch.dtype) -> Problem:
    def eager(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        s = x + residual
        wide = s if s.dtype == torch.float64 else s.float()
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps) * weight).to(s.dtype), s

    size = float(rows * width * dtype.itemsize)
    x, residual = (bench.normal(rows, width, dtype=dtype) for _ in range(2))
    ways = {"eager": lambda *_: eager, **_ours("add_rms_norm")}
    return Problem((x, residual, 1 + 0.5 * bench.normal(width), EPS), ways, {"bytes": (4 * size, 8 * size)})


def swiglu(bench: Bench, rows: int, width: int, dtype: torch.dtype) -> Problem:
    def eager(packed: Tensor) -> Tensor:
        gate, up = packed.chunk(2, dim=-1)
        return gate * torch.sigmoid(gate) * up

    def liger(*_: object) -> Function:
        function = _peer("liger_kernel.ops.swiglu", "LigerSiLUMulFunction")
        return lambda packed: function.apply(*packed.chunk(2, dim=-1))

    size = float(rows * width * dtype.itemsize)
    ways = {"eager": lambda *_: eager, **_ours("swiglu"), "liger": liger}
    return Problem((bench.normal(rows, 2 * width, dtype=dtype),), ways, {"bytes": (3 * size, 8 * size)})


def rope(bench: Bench, rows: int, width: int, dtype: torch.dtype) -> Problem:
    T, heads = min(rows, 512), max(1, width // 64)
    K = width // heads
    angle = torch.outer(
        torch.arange(T, device=bench.device), 10_000 ** -(torch.arange(0, K, 2, device=bench.device) / K)
    )

    def eager(qkv: Tensor, cos: Tensor, sin: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
        parts = qkv.view(*qkv.shape[:2], 3, heads, K).permute(2, 0, 3, 1, 4)
        c, s = (
            torch.cat((t, t), -1).to(qkv.dtype if qkv.dtype == torch.float64 else torch.float32) for t in (cos, sin)
        )

        def turned(x: Tensor) -> Tensor:
            half = torch.cat((-x[..., K // 2 :], x[..., : K // 2]), -1)
            return (x * c + half * s).to(x.dtype)

        return turned(parts[0]), turned(parts[1]), parts[2].clone()

    size = float(rows * width * dtype.itemsize)
    inputs = bench.normal(rows // T, T, 3 * width, dtype=dtype), Plain(angle.cos()), Plain(angle.sin()), heads
    return Problem(inputs, {"eager": lambda *_: eager, **_ours("rope")}, {"bytes": (6 * size, 12 * size)})


class Plain:
    """A tensor without a gradient among the inputs."""

    def __init__(self, value: Tensor) -> None:
        self.value = value


def causal_attention(bench: Bench, rows: int, width: int, dtype: torch.dtype) -> Problem:
    T, heads = min(rows, 512), max(1, width // 64)
    B, K = rows // T, width // heads
    hidden = torch.ones(T, T, dtype=torch.bool, device=bench.device).triu(1)

    def eager(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = (q @ k.transpose(-1, -2) / math.sqrt(K)).masked_fill(hidden, -torch.inf)
        return torch.softmax(scores, -1) @ v

    flops = 4.0 * K * B * heads * T * (T + 1) / 2
    inputs = tuple(bench.normal(B, heads, T, K, dtype=dtype) for _ in range(3))
    return Problem(inputs, {"eager": lambda *_: eager, **_ours("causal_attention")}, {"flops": (flops, 3 * flops)})


def linear_cross_entropy(
    bench: Bench, rows: int, width: int, dtype: torch.dtype, vocabulary: int | None = None
) -> Problem:
    V = vocabulary or (50257 if bench.device.type == "cuda" else 211)

    def eager(hidden: Tensor, weight: Tensor, bias: None, target: Tensor) -> Tensor:
        logits = hidden @ weight.T
        return F.cross_entropy(logits if logits.dtype == torch.float64 else logits.float(), target, reduction="sum")

    def built_in(*_: object) -> Function:
        function = _peer("torch.nn.functional", "linear_cross_entropy")
        return lambda hidden, weight, bias, target: function(hidden, weight, target, reduction="sum")

    def liger(*_: object) -> Function:
        found = _peer("liger_kernel.ops.fused_linear_cross_entropy", "LigerFusedLinearCrossEntropyFunction")

        def call(hidden: Tensor, weight: Tensor, bias: None, target: Tensor) -> Tensor:
            loss = found.apply(hidden, weight, target, None, None, -100, 0.0, 0.0, "sum")
            return loss[0] if isinstance(loss, tuple) else loss  # type: ignore[no-any-return]

        return call

    inputs = (
        bench.normal(rows, width, dtype=dtype), bench.normal(V, width, dtype=dtype, scale=width**-0.5), None,
        Plain(bench.integers(V, rows)),
    )  # fmt: skip
    peers = {"F.linear_cross_entropy": built_in, "liger": liger}
    ways = {"eager": lambda *_: eager, **_ours("linear_cross_entropy"), **peers}
    flops = 2.0 * rows * width * V
    return Problem(inputs, ways, {"flops": (flops, 3 * flops)})


PROBLEMS = {
    problem.__name__: problem
    for problem in (rms_norm, add_rms_norm, swiglu, rope, causal_attention, linear_cross_entropy)
}
WAYS = {
    name: ("eager", "reference", "fused", "compiled", *extra)
    for name, extra in (
        ("rms_norm", ("liger", "quack")), ("add_rms_norm", ()), ("swiglu", ("liger",)), ("rope", ()),
        ("causal_attention", ()), ("linear_cross_entropy", ("F.linear_cross_entropy", "liger")),
    )
}  # fmt: skip
