"""Formulas of fused operations, those of GPUs included, from the names in each operator's own schema."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from algoprog.flops import causal_attention_flops, lstm_flops
from algoprog.flops.formulas import FORMULAS, OWN, pairs

B, H, T, K, V = 2, 3, 5, 4, 6
ATTENTION = [name for name in FORMULAS if "attention" in name and name.startswith("aten::")]


def empty(*shape: int) -> Tensor:
    return torch.empty(shape, device="meta")


def schema(name: str) -> list[str]:
    return [
        argument.name for argument in getattr(torch.ops.aten, name.removeprefix("aten::")).default._schema.arguments
    ]


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (5, 5), (3, 7), (7, 3)])
def test_pairs_one_by_one(queries: int, keys: int) -> None:
    visible = sum(1 for q, k in itertools.product(range(queries), range(keys)) if k <= q)
    assert pairs(queries, keys, True) == visible and pairs(queries, keys, False) == queries * keys


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", ATTENTION)
def test_attention_kernels(name: str, causal: bool) -> None:
    names = schema(name)
    first = "_scaled_dot_product" in name
    q, k, v = (empty(B, H, T, d) if first else empty(B, T, H, d) for d in (K, K, V))
    call: dict[str, Any] = {"query": q, "key": k, "value": v, "is_causal": causal}
    if "is_causal" not in names:
        call["custom_mask_type"] = int(call.pop("is_causal"))
    assert set(call) <= set(names)
    visible = B * H * pairs(T, T, causal)
    scores = "attn_scores_causal" if causal else "attn_scores_full"
    expected = {scores: 2 * visible * (K + V)}
    if "backward" in name:
        expected = {scores: 4 * visible * (K + V), "recompute": 2 * visible * K}
    assert FORMULAS[name](call) == expected


def test_flash_attention_package() -> None:
    """Its operations name their arguments q, k, v and put heads inside; fewer key heads change nothing."""
    call = {"q": empty(B, T, H, K), "k": empty(B, T, 1, K), "v": empty(B, T, 1, K), "causal": True}
    model = causal_attention_flops(H * K, T) * B
    forward, backward = (FORMULAS[f"flash_attn::_flash_attn_{way}"](call) for way in ("forward", "backward"))
    assert forward == {"attn_scores_causal": model.forward["attn_scores_causal"]}
    assert backward == {name: model.backward[name] for name in ("attn_scores_causal", "recompute")}


def test_fused_recurrent_layers() -> None:
    """cuDNN takes all layers at once, oneDNN one by one, with weights under other names in each direction."""
    x, width = empty(T, B, 7), 4
    weights = [empty(16, 7), empty(16, width), empty(16), empty(16), empty(16, width), empty(16, width), empty(16)]
    expected = lstm_flops(7, width, T * B) + lstm_flops(width, width, T * B)
    for name, direction in (("_cudnn_rnn", "forward"), ("_cudnn_rnn_backward", "backward")):
        assert {"input", "weight"} <= set(schema(f"aten::{name}"))
        found = FORMULAS[f"aten::{name}"]({"input": x, "weight": weights})
        assert found == {OWN: getattr(expected, direction)["recurrent"]}
    one = lstm_flops(7, width, T * B)
    for name, names, direction in (
        ("mkldnn_rnn_layer", ("weight0", "weight1"), "forward"),
        ("mkldnn_rnn_layer_backward", ("weight1", "weight2"), "backward"),
    ):
        assert set(names) <= set(schema(f"aten::{name}"))
        found = FORMULAS[f"aten::{name}"]({"input": x, **dict(zip(names, weights[:2], strict=True))})
        assert found == {OWN: getattr(one, direction)["recurrent"]}


@pytest.mark.parametrize(
    ("name", "call", "flops"),
    [
        ("mm", {"self": empty(2, 3), "mat2": empty(3, 5)}, 60),
        ("addmm", {"mat1": empty(2, 3), "mat2": empty(3, 5)}, 60),
        ("bmm", {"self": empty(7, 2, 3), "mat2": empty(7, 3, 5)}, 420),
        ("baddbmm", {"batch1": empty(7, 2, 3), "batch2": empty(7, 3, 5)}, 420),
        ("mv", {"self": empty(2, 3), "vec": empty(3)}, 12),
        ("addmv", {"mat": empty(2, 3), "vec": empty(3)}, 12),
        ("dot", {"self": empty(9), "tensor": empty(9)}, 18),
    ],
)
def test_plain_products(name: str, call: dict[str, Tensor], flops: int) -> None:
    assert set(call) <= set(schema(f"aten::{name}"))
    assert sum(FORMULAS[f"aten::{name}"](call).values()) == flops
