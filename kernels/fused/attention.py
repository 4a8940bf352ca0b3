"""Causal attention by the best library at hand: flash-attn, or one named backend of PyTorch's own attention.

Nothing here is a kernel of ours. What is: the choice, made once per (device, type, head dimension) and visible, and the
layout that each library wants. PyTorch alone would choose per call, silently, and differently between versions.

| where | choice, first that can serve |
| --- | --- |
| CPU | PyTorch's own kernel for CPUs |
| GPU, bf16 and fp16 | flash-attn if it is installed, imports and takes the head; else cuDNN on capability 9.0, flash before |
| GPU, fp32 | PyTorch's memory-efficient kernel |

In deterministic mode (:func:`torch.use_deterministic_algorithms`) cuDNN is passed over and flash-attn is told; else backward
passes add with atomics, so gradients of two calls differ in the last bits. Head dimensions that no kernel takes as they are
(no multiple of 8; in fp32 no multiple of 4) are padded with zeros, which changes no product. ``ALGOPROG_ATTENTION`` names a
choice by force: flash-attn, cudnn, flash, efficient or math; one that cannot serve raises. Which is fastest here: unmeasured.

Tensors: q [B, H, T, K], k and v [B, G, T, K], G dividing H; out [B, H, T, K]. FLOPs: 4 K per visible pair and head forward,
twice that backward; counted from the libraries' own operators (flash-attn's are given a formula when it is chosen).
"""

from __future__ import annotations

import functools
import importlib
import operator
import os
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import flop_registry, register_flop_formula

Backend = Literal["flash-attn", "cudnn", "flash", "efficient", "math", "cpu"]

VARIABLE = "ALGOPROG_ATTENTION"
SDPA: dict[str, SDPBackend] = {
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}
WIDEST = {"flash-attn": 256, "cudnn": 128, "flash": 256}
"""Widest head that a library takes; the others take any."""
HALF = (torch.bfloat16, torch.float16)
SMALLEST_CAPABILITY = (8, 0)


@dataclass(frozen=True)
class Choice:
    """Who computes attention, and why it is neither earlier nor later in the table."""

    backend: Backend
    reason: str
    pad_to: int = 1


@functools.cache
def flash_attn() -> tuple[ModuleType | None, str]:
    """The flash-attn package if it imports, and its version; else None and what is wrong. Importing takes seconds, once."""
    try:
        module = importlib.import_module("flash_attn")
        version = str(getattr(module, "__version__", "of unknown version"))
        if not callable(getattr(module, "flash_attn_func", None)):
            return None, f"flash-attn {version} has no flash_attn_func"
    except ModuleNotFoundError as error:
        return None, f'{error.name} is not installed (pip install "algoprog[flash]")'
    except (
        Exception
    ) as error:  # a build for another torch fails in many ways; each is a reason, none is a fault of ours
        line = str(error).strip().splitlines()
        return None, f"flash-attn does not import: {type(error).__name__}: {line[0] if line else ''}"
    return module, f"flash-attn {version}"


@torch.compiler.assume_constant_result  # a compiled model keeps its choice, and importing libraries is not for its graph
def choose(device: torch.device, dtype: torch.dtype, head_dim: int) -> Choice:
    """The library for heads of ``head_dim`` channels; decided at the first call for these arguments and environment.

    Raises:
        ValueError: ``ALGOPROG_ATTENTION`` names something unknown, or something that cannot serve.
    """
    wanted = os.environ.get(VARIABLE, "auto")
    return _choose(device, dtype, head_dim, wanted, torch.are_deterministic_algorithms_enabled())


@functools.cache
def _choose(device: torch.device, dtype: torch.dtype, head_dim: int, wanted: str, deterministic: bool) -> Choice:
    if wanted != "auto":
        return _by_name(device, dtype, head_dim, wanted, deterministic)
    if device.type != "cuda":
        return Choice("cpu", f"{device.type}: PyTorch's own kernel")
    passed_over: list[str] = []
    for backend in ("flash-attn", "cudnn", "flash", "efficient"):
        obstacle = why_not(backend, device, dtype, head_dim, deterministic)
        if obstacle is None and backend == "cudnn" and torch.cuda.get_device_capability(device) < (9, 0):
            obstacle = "flash is preferred below capability 9.0"
        if obstacle is None:
            return _served(backend, "; ".join(passed_over), dtype)
        passed_over.append(f"not {backend}: {obstacle}")
    return _served("math", "; ".join(passed_over), dtype)


def _by_name(device: torch.device, dtype: torch.dtype, head_dim: int, wanted: str, deterministic: bool) -> Choice:
    names = ("flash-attn", *SDPA)
    if wanted not in names:
        raise ValueError(f"causal_attention: {VARIABLE}: expected auto, {', '.join(names)}, got {wanted!r}")
    obstacle = why_not(wanted, device, dtype, head_dim, deterministic)
    if obstacle is not None:
        raise ValueError(f"causal_attention: {VARIABLE}: expected something that can serve, got {wanted!r}: {obstacle}")
    return _served(wanted, f"{VARIABLE}={wanted}", dtype)


def _served(backend: str, reason: str, dtype: torch.dtype) -> Choice:
    unit = 1 if backend == "math" else 4 if dtype == torch.float32 else 8
    if backend == "flash-attn":
        _register_formulas()
        reason = f"{flash_attn()[1]}{'; ' if reason else ''}{reason}"
    return Choice(backend, reason, unit)  # type: ignore[arg-type]


def why_not(backend: str, device: torch.device, dtype: torch.dtype, head_dim: int, deterministic: bool) -> str | None:
    """What keeps ``backend`` from serving; None if nothing does."""
    if device.type != "cuda":
        return f"it needs a CUDA device, not {device.type}"
    if backend == "math":
        return None
    if backend in WIDEST and dtype not in HALF:
        return f"{dtype} is neither bfloat16 nor float16"
    if head_dim > WIDEST.get(backend, head_dim):
        return f"heads of {head_dim} channels, at most {WIDEST[backend]}"
    capability = torch.cuda.get_device_capability(device)
    if capability < SMALLEST_CAPABILITY:
        return f"compute capability {capability[0]}.{capability[1]} is below 8.0"
    if backend == "cudnn" and deterministic:
        return "its backward pass is not deterministic"
    if backend == "cudnn" and not torch.backends.cudnn.is_available():
        return "PyTorch has no cuDNN here"
    if backend == "flash-attn":
        module, about = flash_attn()
        return None if module is not None else about
    return None


def _register_formulas() -> None:
    """Let PyTorch's counter see flash-attn's operators, forward and backward, by the pairs that a causal mask leaves."""
    for name, factor in (("_flash_attn_forward", 4), ("_flash_attn_backward", 8)):
        operator = getattr(torch.ops.flash_attn, name, None)  # older versions have none: then nothing can count them
        if operator is not None and operator not in flop_registry:
            register_flop_formula(operator)(functools.partial(_flash_attn_flops, factor, name))


def _flash_attn_flops(factor: int, name: str, *shapes: Any, out_shape: Any = None, **_: Any) -> int:
    q, k = shapes[:2] if name.endswith("forward") else shapes[1:3]  # [B, T, H, K]; backward has dout first
    (B, T, H, K), S = q, k[1]
    short = min(T, S)  # the mask is aligned to the last key: the first T - S queries see nothing
    return int(factor * B * H * K * (short * (S - short) + short * (short + 1) // 2))


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """As :func:`algoprog.kernels.reference.causal_attention`, also for G key and value heads that divide H.

    Raises:
        ValueError: shapes, types or devices that do not fit together.
    """
    _check(q, k, v)
    # Numbers, also while tracing with symbolic shapes: the choice depends on them.
    heads, groups, width = (operator.index(n) for n in (q.shape[1], k.shape[1], q.shape[-1]))
    choice = choose(q.device, q.dtype, width)
    spare = -width % choice.pad_to
    if spare:
        q, k, v = (F.pad(x, (0, spare)) for x in (q, k, v))
    scale, grouped = width**-0.5, heads != groups
    if choice.backend == "flash-attn":
        out = _by_flash_attn(q, k, v, scale)
    elif choice.backend == "cpu":
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=grouped)
    else:
        if grouped and choice.backend == "efficient":  # it takes as many key heads as query heads
            k, v = (x.repeat_interleave(heads // groups, dim=1) for x in (k, v))
            grouped = False
        with sdpa_kernel(SDPA[choice.backend]):
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=grouped)
    return out[..., :width] if spare else out


def _by_flash_attn(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """flash-attn has time before heads."""
    module = flash_attn()[0]
    assert module is not None
    deterministic = torch.are_deterministic_algorithms_enabled()
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    out: Tensor = module.flash_attn_func(q, k, v, softmax_scale=scale, causal=True, deterministic=deterministic)
    return out.transpose(1, 2)


def _check(q: Tensor, k: Tensor, v: Tensor) -> None:
    def require(fine: bool, argument: str, expected: object, got: object) -> None:
        if not fine:
            raise ValueError(f"causal_attention: {argument}: expected {expected}, got {got}")

    require(q.ndim == 4 and q.shape[-1] > 0, "q", "shape [B, H, T, K]", tuple(q.shape))
    fits = k.ndim == 4 and 0 < k.shape[1] <= q.shape[1] and q.shape[1] % k.shape[1] == 0
    fits = fits and (k.shape[0], *k.shape[2:]) == (q.shape[0], *q.shape[2:])
    require(fits, "k", f"q's shape {tuple(q.shape)}, or a number of heads that divides it", tuple(k.shape))
    require(v.shape == k.shape, "v", f"k's shape {tuple(k.shape)}", tuple(v.shape))
    for name, x in (("k", k), ("v", v)):
        require(x.dtype == q.dtype, name, f"a {q.dtype} tensor", x.dtype)
        require(x.device == q.device, name, f"a tensor on {q.device}", x.device)


def describe(device: torch.device, dtype: torch.dtype, head_dim: int = 64) -> str:
    """Backend and reason for a head dimension, in one line."""
    choice = choose(device, dtype, head_dim)
    return f"{choice.backend}, heads of {head_dim} ({choice.reason})" if choice.reason else choice.backend
