"""The vocabulary head: ``cross_entropy(hidden @ weight.T + bias, target)`` without a tensor of all logits.

Two methods give the same numbers up to rounding: "flash" computes tiles of logits where they are needed and never stores
them (:mod:`algoprog.kernels.fused.head_flash`), "chunked" stores those of a few hundred rows at a time
(:mod:`algoprog.kernels.fused.head_chunked`). :func:`method_for` chooses by width and type. Both are exact, no gradient is
skipped; both sum the weight's gradient over all tokens in fp32 and round it once, to the type of the weight.

The operation gives one loss per token; sums and means over tokens are plain PyTorch. Weight and bias may be of another type
than hidden, usually fp32 parameters under bf16 activations: the weight is converted for the products, not its gradient.
Saved for the backward pass: the inputs and 8 bytes per token. FLOPs: 6 N V D by the mathematics, :func:`hardware_flops` with
repeated products.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor

from algoprog.kernels.formulas import register_formula
from algoprog.kernels.fused import head_chunked, head_flash, launch
from algoprog.kernels.fused.launch import require, require_input, require_shape

METHODS = ("auto", "flash", "chunked")
REDUCTIONS = ("sum", "mean", "none")
OP = "linear_cross_entropy"


def method_for(width: int, dtype: torch.dtype, device: torch.device) -> Literal["flash", "chunked"]:
    """The method for hidden states of this width and type on this device: "flash" or "chunked".

    Below the limit the traffic of logits costs more than computing them again. In fp32 flash has no tensor cores to use.
    The limit follows from instruction and byte counts and is not measured yet.
    """
    return "flash" if width <= head_flash.max_width(device) and dtype != torch.float32 else "chunked"


def describe(device: torch.device, dtype: torch.dtype) -> str:
    """Which method serves which width, in one line."""
    if dtype == torch.float32:
        return "chunked"
    return f"flash to width {head_flash.max_width(device)}, chunked beyond"


def hardware_flops(tokens: int, vocab: int, width: int, method: str) -> tuple[int, int]:
    """FLOPs that (forward, backward) execute, products alone: logits are computed again, by flash once per gradient."""
    product = 2 * tokens * vocab * width
    return product, (4 if method == "flash" else 3) * product


def _implementation(method: str) -> ModuleType:
    return head_flash if method == "flash" else head_chunked


def _operands(x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Contiguous x and weight of one type, bias in fp32: copies of what is not so already."""
    weight = weight.to(x.dtype).contiguous()
    return x.contiguous(), weight, None if bias is None else bias.float().contiguous()


@torch.library.custom_op("algoprog::linear_cross_entropy", mutates_args=())
def _token_loss(
    x: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, ignore_index: int, method: str
) -> tuple[Tensor, Tensor, Tensor]:
    """(loss in nats, logit of the target, log2-sum-exp), each [N] fp32."""
    if x.shape[0] == 0:
        nothing = x.new_empty(0, dtype=torch.float32)
        return nothing, nothing.clone(), nothing.clone()
    target = target.contiguous()
    hit, lse = _implementation(method).forward(*_operands(x, weight, bias), target)
    ignored = target == ignore_index
    return torch.where(ignored, 0.0, lse * math.log(2) - hit), torch.where(ignored, 0.0, hit), lse


@torch.library.custom_op("algoprog::linear_cross_entropy_backward", mutates_args=())
def _token_loss_backward(
    g: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, hit: Tensor, lse: Tensor,
    ignore_index: int, method: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """(dx, dweight, dbias), each in the type of its tensor; dbias is empty without a bias."""
    dbias_dtype = torch.float32 if bias is None else bias.dtype
    if x.shape[0] == 0:
        dbias = torch.zeros(0 if bias is None else len(bias), dtype=dbias_dtype, device=x.device)
        return torch.zeros_like(x, memory_format=torch.contiguous_format), weight.new_zeros(weight.shape), dbias
    target = target.contiguous()
    ignored = target == ignore_index
    known = (target >= 0) & (target < weight.shape[0])
    g = torch.where(ignored, 0.0, torch.where(known, g.float(), float("nan")))
    lse = torch.where(ignored, float("inf"), lse)
    dx, dweight, dbias = _implementation(method).backward(g, *_operands(x, weight, bias), target, hit, lse)
    return dx.to(x.dtype), dweight.to(weight.dtype), dbias.to(dbias_dtype)


@_token_loss.register_fake
def _(
    x: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, ignore_index: int, method: str
) -> tuple[Tensor, Tensor, Tensor]:
    loss = x.new_empty(x.shape[0], dtype=torch.float32)
    return loss, torch.empty_like(loss), torch.empty_like(loss)


@_token_loss_backward.register_fake
def _(
    g: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, hit: Tensor, lse: Tensor,
    ignore_index: int, method: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    dbias = x.new_empty(0, dtype=torch.float32) if bias is None else bias.new_empty(bias.shape)
    return x.new_empty(x.shape), weight.new_empty(weight.shape), dbias


def _save(ctx, inputs, output) -> None:
    x, weight, bias, target, ctx.ignore_index, ctx.method = inputs
    ctx.save_for_backward(x, weight, bias, target, *output[1:])
    ctx.mark_non_differentiable(*output[1:])


def _differentiate(ctx, g, *_):
    x, weight, bias, target, hit, lse = ctx.saved_tensors
    dx, dweight, dbias = torch.ops.algoprog.linear_cross_entropy_backward(
        g, x, weight, bias, target, hit, lse, ctx.ignore_index, ctx.method
    )
    return dx, dweight, None if bias is None else dbias, None, None, None


_token_loss.register_autograd(_differentiate, setup_context=_save)


def _forward_flops(x: Any, weight: Any, *_: Any, **__: Any) -> int:
    return 2 * int(math.prod(x)) * int(weight[0])


def _backward_flops(g: Any, x: Any, weight: Any, *_: Any, **__: Any) -> int:
    return 4 * int(math.prod(x)) * int(weight[0])


register_formula("linear_cross_entropy", _forward_flops)
register_formula("linear_cross_entropy_backward", _backward_flops)


def _check(hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, reduction: str, method: str) -> None:
    require_input(OP, "hidden", hidden)
    require(hidden.ndim == 2, OP, "hidden", "shape (tokens, width)", tuple(hidden.shape))
    tokens, width = hidden.shape
    require(1 <= width <= launch.MAX_WIDTH, OP, "hidden", f"a width of 1 to {launch.MAX_WIDTH}", tuple(hidden.shape))
    require_input(OP, "weight", weight, like=hidden)
    fits = weight.ndim == 2 and weight.shape[1] == width and weight.shape[0] >= 1
    require(fits, OP, "weight", f"shape (vocabulary, {width})", tuple(weight.shape))
    if bias is not None:
        require_input(OP, "bias", bias, like=hidden)
        require_shape(OP, "bias", bias, weight.shape[:1])
    require(target.dtype == torch.int64, OP, "target", "an int64 tensor", target.dtype)
    require(target.device == hidden.device, OP, "target", f"a tensor on {hidden.device}", target.device)
    require_shape(OP, "target", target, (tokens,))
    require(reduction in REDUCTIONS, OP, "reduction", " or ".join(REDUCTIONS), repr(reduction))
    require(method in METHODS, OP, "method", " or ".join(METHODS), repr(method))
    if method == "flash":
        possible = method_for(width, hidden.dtype, hidden.device) == "flash"
        limits = f"bfloat16 or float16 of width up to {head_flash.max_width(hidden.device)} for flash"
        require(possible, OP, "hidden", limits, f"{hidden.dtype} of width {width}")


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    target: Tensor,
    *,
    ignore_index: int = -100,
    reduction: str = "sum",
    method: str = "auto",
) -> Tensor:
    """As :func:`algoprog.kernels.reference.linear_cross_entropy`, in fp32 whatever the inputs.

    A target outside [0, V) that is not ``ignore_index`` makes the loss NaN: nothing on a GPU can raise without waiting.
    ``method``: "auto" (:func:`method_for`), "flash" or "chunked". Raises ValueError on a bad argument.
    """
    if torch.is_autocast_enabled(hidden.device.type):
        hidden = hidden.to(torch.get_autocast_dtype(hidden.device.type))
    _check(hidden, weight, bias, target, reduction, method)
    chosen = method_for(hidden.shape[1], hidden.dtype, hidden.device) if method == "auto" else method
    loss: Tensor = torch.ops.algoprog.linear_cross_entropy(hidden, weight, bias, target, ignore_index, chosen)[0]
    if reduction == "none":
        return loss
    return loss.sum() if reduction == "sum" else loss.sum() / (target != ignore_index).sum()
