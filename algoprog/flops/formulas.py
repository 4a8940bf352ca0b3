"""FLOPs of the operations that multiply matrices, from the shapes they are called with.

Each formula reads the arguments of one call by their names in the operator's schema and says where the products belong:
``OWN`` is the component of the module that runs, ``BATCHED`` its component for products of activations with activations,
anything else a component by name. This table shares nothing with the models' own counts, so that each can check the other.

Custom operations register a formula with :func:`torch.utils.flop_counter.register_flop_formula`, which the counter of
:mod:`algoprog.flops.dispatch` reads; their products are ``OWN``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

Arguments = Mapping[str, Any]
Formula = Callable[[Arguments], dict[str, int]]

OWN, BATCHED = "own", "batched"


def pairs(queries: int, keys: int, causal: bool) -> int:
    """Query-key pairs in use. A causal mask is aligned to the first key, as PyTorch aligns it."""
    if not causal:
        return queries * keys
    square = min(queries, keys)
    return square * (square + 1) // 2 + max(0, queries - keys) * keys


def matrix(first: str, second: str, component: str = OWN) -> Formula:
    """``[..., n, k] @ [..., k, m]``: two FLOPs per entry of the first and column of the second."""
    return lambda call: {component: 2 * call[first].numel() * call[second].shape[-1]}


def vector(first: str) -> Formula:
    """A product with a vector: two FLOPs per entry of the first operand."""
    return lambda call: {OWN: 2 * call[first].numel()}


def linear(call: Arguments) -> dict[str, int]:
    """``input @ weight.T``, weight [outputs, inputs]."""
    return {OWN: 2 * call["input"].numel() * call["weight"].shape[0]}


def _heads_first(call: Arguments) -> tuple[int, int, int, int, int]:
    """Batch times heads, queries, keys, and the head sizes of queries and values, from [B, H, T, K] tensors."""
    query, key, value = (call.get(name, call.get(name[0])) for name in ("query", "key", "value"))
    return query.shape[0] * query.shape[1], query.shape[2], key.shape[2], query.shape[3], value.shape[3]


def _heads_inside(call: Arguments) -> tuple[int, int, int, int, int]:
    """The same from [B, T, H, K] tensors."""
    query, key, value = (call[name] if name in call else call[name[0]] for name in ("query", "key", "value"))
    return query.shape[0] * query.shape[2], query.shape[1], key.shape[1], query.shape[3], value.shape[3]


def _is_causal(call: Arguments) -> bool:
    """By flag, or by the mask type of memory-efficient attention (1: aligned to the first key, 2: to the last)."""
    return bool(call.get("is_causal") or call.get("causal") or call.get("custom_mask_type"))


def attention(layout: Callable[[Arguments], tuple[int, int, int, int, int]]) -> Formula:
    """Query-key and weight-value products of a fused kernel: ``2 (q + v)`` per pair and head. A mask tensor counts as full."""

    def formula(call: Arguments) -> dict[str, int]:
        rows, queries, keys, q, v = layout(call)
        return {_scores(call): 2 * rows * pairs(queries, keys, _is_causal(call)) * (q + v)}

    return formula


def attention_backward(layout: Callable[[Arguments], tuple[int, int, int, int, int]]) -> Formula:
    """dV, dP, dQ, dK: twice the forward; the scores once more are recomputation (Dao et al. 2022, algorithm 4)."""

    def formula(call: Arguments) -> dict[str, int]:
        rows, queries, keys, q, v = layout(call)
        each = 2 * rows * pairs(queries, keys, _is_causal(call))
        return {_scores(call): each * (2 * q + 2 * v), "recompute": each * q}

    return formula


def _scores(call: Arguments) -> str:
    return "attn_scores_causal" if _is_causal(call) else "attn_scores_full"


def recurrent_layer(input_weight: str, hidden_weight: str, factor: int) -> Formula:
    """One fused layer and direction: every step multiplies both weights, the first too. Backward is twice that."""

    def formula(call: Arguments) -> dict[str, int]:
        first, second = call[input_weight], call[hidden_weight]
        steps = call["input"].numel() // first.shape[1]
        return {OWN: factor * 2 * steps * (first.numel() + second.numel())}

    return formula


def recurrent_stack(factor: int) -> Formula:
    """All layers and directions in one call (cuDNN): every matrix among the weights is multiplied at every step."""

    def formula(call: Arguments) -> dict[str, int]:
        steps = call["input"].numel() // call["input"].shape[-1]
        return {OWN: factor * 2 * steps * sum(w.numel() for w in call["weight"] if w.ndim == 2)}

    return formula


def convolution(call: Arguments) -> dict[str, int]:
    """Two FLOPs per tap, input channel of the group and output element."""
    return {OWN: _taps(call)}


def convolution_backward(call: Arguments) -> dict[str, int]:
    """As much again for the gradient of the input, and for that of the weight."""
    return {OWN: _taps(call) * sum(call["output_mask"][:2])}


def _taps(call: Arguments) -> int:
    """Each output element meets one weight per tap and input channel of its group; transposed, each input element does."""
    weight, grid = call["weight"], call["input"] if call["transposed"] else call.get("grad_output", call.get("out"))
    return int(2 * grid.numel() * math.prod(weight.shape[1:]))


FORMULAS: dict[str, Formula] = {
    "aten::mm": matrix("self", "mat2"),
    "aten::addmm": matrix("mat1", "mat2"),
    "aten::_addmm_activation": matrix("mat1", "mat2"),
    "aten::_scaled_mm": matrix("self", "mat2"),
    "aten::bmm": matrix("self", "mat2", BATCHED),
    "aten::baddbmm": matrix("batch1", "batch2", BATCHED),
    "aten::addbmm": matrix("batch1", "batch2", BATCHED),
    "aten::mv": vector("self"),
    "aten::addmv": vector("mat"),
    "aten::dot": vector("self"),
    "aten::vdot": vector("self"),
    "aten::linear": linear,
    "aten::convolution": convolution,
    "aten::convolution_backward": convolution_backward,
    "aten::_scaled_dot_product_flash_attention_for_cpu": attention(_heads_first),
    "aten::_scaled_dot_product_flash_attention_for_cpu_backward": attention_backward(_heads_first),
    "aten::_scaled_dot_product_flash_attention": attention(_heads_first),
    "aten::_scaled_dot_product_flash_attention_backward": attention_backward(_heads_first),
    "aten::_scaled_dot_product_efficient_attention": attention(_heads_first),
    "aten::_scaled_dot_product_efficient_attention_backward": attention_backward(_heads_first),
    "aten::_scaled_dot_product_cudnn_attention": attention(_heads_first),
    "aten::_scaled_dot_product_cudnn_attention_backward": attention_backward(_heads_first),
    "aten::_efficient_attention_forward": attention(_heads_inside),
    "aten::_efficient_attention_backward": attention_backward(_heads_inside),
    "aten::_flash_attention_forward": attention(_heads_inside),
    "aten::_flash_attention_backward": attention_backward(_heads_inside),
    "flash_attn::_flash_attn_forward": attention(_heads_inside),
    "flash_attn::_flash_attn_backward": attention_backward(_heads_inside),
    "aten::mkldnn_rnn_layer": recurrent_layer("weight0", "weight1", 1),
    "aten::mkldnn_rnn_layer_backward": recurrent_layer("weight1", "weight2", 2),
    "aten::_cudnn_rnn": recurrent_stack(1),
    "aten::_cudnn_rnn_backward": recurrent_stack(2),
}
"""Operator (``namespace::name``) -> formula."""
