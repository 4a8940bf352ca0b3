"""Which implementation of each operation runs, decided once and visible.

:func:`select` turns a request ("auto", "reference", "fused" or "cpu"), a device and a compute type into
:class:`Operations`: one callable per operation, and the :class:`Choice` behind each with its reason. Models keep the
callables they were built with, so nothing switches in the middle of a run. A request that cannot be met raises; it never
falls back in silence. "cpu" changes the last bits of a loss, so it is asked for by name.

"auto" means the environment variable ``ALGOPROG_KERNELS`` if that is set, else fused where a fused implementation exists
and the device is a GPU that can run it (compute capability 8.0 or newer, triton installed; fp32, bf16 or fp16), else the
reference. The LSTM is an exception: PyTorch's own operator, which is cuDNN on a GPU, until a row of measurements says that
another kernel is faster there. Triton's interpreter is slow and only serves tests: it runs when "fused" is asked for by name.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor

from algoprog.kernels import reference

REQUESTS = ("auto", "reference", "fused", "cpu")
VARIABLE = "ALGOPROG_KERNELS"
MINIMUM_CAPABILITY = (8, 0)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)

FUSED = {
    "rms_norm": "norm",
    "add_rms_norm": "norm",
    "layer_norm": "norm",
    "add_layer_norm": "norm",
    "swiglu": "activations",
    "gated_linear_unit": "activations",
    "gelu": "activations",
    "relu": "activations",
    "rope": "rope",
    "qk_norm_rope": "qk_norm_rope",
    "adamw_": "adamw",
    "causal_attention": "attention",
    "linear_cross_entropy": "linear_cross_entropy",
    "lstm": "lstm",
}
"""Operation -> file in ``kernels/fused`` that implements it under the same name."""

CPU = {
    "rms_norm": "norm",
    "add_rms_norm": "norm",
    "swiglu": "activations",
    "rope": "rope",
    "linear_cross_entropy": "linear_cross_entropy",
}
"""Operation -> file in ``kernels/cpu`` that implements it under the same name, in fp32 or float64."""

WHEN_MEASURED = ("lstm",)
"""Operations that have a library kernel on a GPU, which "auto" prefers until a measurement on that GPU says otherwise."""


class Unavailable(ValueError):
    """The requested implementation does not exist or cannot run here; the message says why and what would."""


@dataclass(frozen=True)
class Choice:
    """One operation's implementation and why it was chosen; "measured": per shape the fastest that was measured."""

    op: str
    implementation: Literal["reference", "fused", "cpu", "measured"]
    reason: str


@dataclass(frozen=True)
class Operations:
    """One callable per operation, with the signatures of :mod:`algoprog.kernels.reference`."""

    rms_norm: Callable[[Tensor, Tensor, float], Tensor]
    add_rms_norm: Callable[[Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor]]
    layer_norm: Callable[[Tensor, Tensor, Tensor | None, float], Tensor]
    add_layer_norm: Callable[[Tensor, Tensor, Tensor, Tensor | None, float], tuple[Tensor, Tensor]]
    swiglu: Callable[[Tensor], Tensor]
    gated_linear_unit: Callable[[Tensor], Tensor]
    gelu: Callable[[Tensor], Tensor]
    relu: Callable[[Tensor], Tensor]
    rope: Callable[..., tuple[Tensor, Tensor, Tensor]]
    qk_norm_rope: Callable[..., tuple[Tensor, Tensor, Tensor]]
    causal_attention: Callable[[Tensor, Tensor, Tensor], Tensor]
    linear_cross_entropy: Callable[..., Tensor]
    lstm: Callable[..., tuple[Tensor, tuple[Tensor, Tensor]]]
    adamw_: Callable[..., None]
    choices: tuple[Choice, ...]

    def record(self) -> dict[str, list[str]]:
        """``{"fused": [operations], "reference": [operations]}``, for the record of a run.

        Where the LSTM is not the reference, ``"lstm"`` says by which rule its kernel is chosen, and ``"measured"`` lists it
        if that rule is a table of measurements.
        """
        made: dict[str, list[str]] = {
            kind: [choice.op for choice in self.choices if choice.implementation == kind]
            for kind in ("fused", "reference", "cpu", "measured")
        }
        made["lstm"] = [c.reason for c in self.choices if c.op == "lstm" and c.implementation != "reference"]
        return {key: listed for key, listed in made.items() if listed or key in ("fused", "reference")}


OPERATIONS = tuple(field.name for field in fields(Operations) if field.name != "choices")


def select(request: str, device: torch.device, dtype: torch.dtype) -> Operations:
    """The operations for tensors of ``dtype`` on ``device``.

    Raises:
        Unavailable: the request is unknown, or "fused" cannot run there.
    """
    return _bind(choose(request, device, dtype))


def choose(request: str, device: torch.device, dtype: torch.dtype) -> tuple[Choice, ...]:
    """The choice for every operation; see :func:`select`."""
    wanted, source = request, "requested"
    if request == "auto" and os.environ.get(VARIABLE):
        wanted, source = os.environ[VARIABLE], VARIABLE
    if wanted not in REQUESTS:
        raise Unavailable(f"kernels: expected {', '.join(REQUESTS[:-1])} or {REQUESTS[-1]}, got {wanted!r} ({source})")
    if wanted == "reference":
        return tuple(Choice(op, "reference", source) for op in OPERATIONS)
    if wanted == "cpu":
        return _for_cpu(device, dtype, source)
    obstacle = why_not_fused(device, dtype)
    if wanted == "auto" and device.type != "cuda":
        obstacle = f"fused kernels need a CUDA device, not {device.type}"
    if wanted == "fused" and obstacle is not None:
        raise Unavailable(f"kernels: fused kernels cannot run here: {obstacle}; use auto or reference")
    choices = tuple(_choice(op, obstacle, source if wanted == "fused" else "usable") for op in OPERATIONS)
    if obstacle is not None:
        return choices
    choices = tuple(_lstm(c, wanted, device, dtype) if c.op == "lstm" else c for c in choices)
    return tuple(_with_library(choice, device, dtype) for choice in choices)


def _for_cpu(device: torch.device, dtype: torch.dtype, source: str) -> tuple[Choice, ...]:
    """What has an implementation of its own for CPUs, and the reference for the rest."""
    if device.type != "cpu" or dtype not in (torch.float32, torch.float64):
        kind = str(dtype).removeprefix("torch.")
        raise Unavailable(f"kernels: cpu is for float32 on a CPU, got {kind} on {device.type}; use auto or reference")
    return tuple(
        Choice(op, "cpu", source) if op in CPU else Choice(op, "reference", "no implementation for CPUs")
        for op in OPERATIONS
    )


def _choice(op: str, obstacle: str | None, reason: str) -> Choice:
    if op not in FUSED:
        return Choice(op, "reference", "no fused implementation")
    return Choice(op, "fused", reason) if obstacle is None else Choice(op, "reference", obstacle)


def _with_library(choice: Choice, device: torch.device, dtype: torch.dtype) -> Choice:
    """Attention is somebody else's kernel: say whose. The head has two methods: say which."""
    if choice.op not in ("causal_attention", "linear_cross_entropy"):
        return choice
    from algoprog.kernels.fused import attention, linear_cross_entropy

    home = attention if choice.op == "causal_attention" else linear_cross_entropy
    try:
        return replace(choice, reason=f"{choice.reason}: {home.describe(device, dtype)}")
    except ValueError as problem:
        raise Unavailable(str(problem)) from None


def _lstm(choice: Choice, wanted: str, device: torch.device, dtype: torch.dtype) -> Choice:
    """Asked for by name, the fused kernel that the width calls for; with "auto" the library until there are measurements."""
    from algoprog.kernels import lstm_table

    if wanted == "fused":
        from algoprog.kernels.fused import lstm_tile

        widest = lstm_tile.WIDEST[dtype]
        return replace(choice, reason=f"{choice.reason}: tile to width {widest}, group beyond; not measured")
    kind, rows = str(dtype).removeprefix("torch."), lstm_table.rows()
    name = torch.cuda.get_device_name(device) if rows else "this GPU"
    count = sum(row.device == name and row.dtype == kind for row in rows)
    if count:
        return Choice(choice.op, "measured", f"the fastest at each width and batch by {count} measured rows on {name}")
    return Choice(choice.op, "reference", f"cuDNN: no fused kernel has been measured on {name}; fused by name runs one")


def why_not_fused(device: torch.device, dtype: torch.dtype) -> str | None:
    """What keeps fused kernels from running on this device in this type; None if they can."""
    if importlib.util.find_spec("triton") is None:
        return 'triton is not installed (pip install "algoprog[triton]")'
    if dtype not in DTYPES:
        return f"{dtype} is none of float32, bfloat16, float16"
    if device.type != "cuda":
        return None if _interpreted() else f"they need a CUDA device, not {device.type}"
    capability = torch.cuda.get_device_capability(device)
    if capability < MINIMUM_CAPABILITY:
        return f"compute capability {capability[0]}.{capability[1]} is below 8.0"
    return None


def _interpreted() -> bool:
    if os.environ.get("TRITON_INTERPRET") != "1":  # spares CPU runs the import of triton
        return False
    from algoprog.kernels.fused.launch import INTERPRETED

    return INTERPRETED


def _bind(choices: tuple[Choice, ...]) -> Operations:
    functions: dict[str, Any] = {}
    for choice in choices:
        module: ModuleType = reference
        if choice.implementation == "fused":
            module = importlib.import_module(f"algoprog.kernels.fused.{FUSED[choice.op]}")
        elif choice.implementation == "cpu":
            module = importlib.import_module(f"algoprog.kernels.cpu.{CPU[choice.op]}")
        elif choice.implementation == "measured":
            module = importlib.import_module(f"algoprog.kernels.{choice.op}")
        functions[choice.op] = getattr(module, choice.op)
    return Operations(**functions, choices=choices)


def head_kind(
    operations: Operations, width: int, dtype: torch.dtype, device: torch.device
) -> Literal["plain", "chunked", "flash"]:
    """How the vocabulary head of a model of this width forms its logits: kept, in chunks, or never in memory.

    "plain" forms every logit once, as PyTorch's own and that for CPUs do; the other two form them again in the backward
    pass, which executed FLOPs have to count.
    """
    if any(c.op == "linear_cross_entropy" and c.implementation != "fused" for c in operations.choices):
        return "plain"
    from algoprog.kernels.fused.linear_cross_entropy import method_for

    return method_for(width, dtype, device)


def describe(device: torch.device | None = None, dtype: torch.dtype | None = None) -> list[dict[str, str]]:
    """What "auto" selects, one row per operation: op, implementation, reason. Default: this machine's GPU in bf16, else
    its CPU in fp32."""
    if device is None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if dtype is None:
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    return [vars(choice).copy() for choice in choose("auto", device, dtype)]


REFERENCE = _bind(tuple(Choice(op, "reference", "default") for op in OPERATIONS))
"""The reference implementation of everything: any device, any floating type."""
