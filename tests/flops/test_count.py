"""Counts are exact: published golden shapes, and equality with a counter that watches the products."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from algoprog.config import LstmConfig, TransformerConfig
from algoprog.flops import FlopCount
from algoprog.models import build_model, model_flops

GOLDEN = [  # width, depth, context, mlp width; training FLOPs per token: projections, scores, mlp, head
    (64, 1, 512, 192, 98304, 196992, 221184, 19298688),
    (128, 2, 512, 320, 786432, 787968, 1474560, 38597376),
    (256, 4, 512, 704, 6291456, 3151872, 12976128, 77194752),
    (512, 8, 1024, 1344, 50331648, 25190400, 99090432, 154389504),
    (768, 12, 1024, 2048, 169869312, 56678400, 339738624, 231584256),
]


@pytest.mark.parametrize(("d", "depth", "T", "ff", "proj", "scores", "mlp", "head"), GOLDEN)
def test_golden_transformers(d: int, depth: int, T: int, ff: int, proj: int, scores: int, mlp: int, head: int) -> None:
    config = TransformerConfig(
        width=d, depth=depth, heads=d // 64, vocab=50257, context=T, mlp_ratio=8 / 3, mlp_multiple=64
    )
    assert config.mlp_width == ff
    count = model_flops(config)
    per_token = {name: (e["forward"] + e["backward"]) / T for name, e in count.as_dict().items()}
    assert per_token == {"embed": 0, "attn_proj": proj, "attn_scores_causal": scores, "mlp": mlp, "head": head}
    assert count.training_total == T * (proj + scores + mlp + head)


@pytest.mark.parametrize(
    ("d", "depth", "recurrent", "total"),
    [(64, 1, 196608, 19495296), (128, 2, 1572864, 40170240), (512, 2, 25165824, 179555328)],
)
def test_golden_lstms(d: int, depth: int, recurrent: int, total: int) -> None:
    count = model_flops(LstmConfig(width=d, depth=depth, vocab=50257, context=128))
    assert count.forward["recurrent"] + count.backward["recurrent"] == 128 * recurrent
    assert count.training_total == 128 * total


def watched(config: TransformerConfig | LstmConfig) -> tuple[int, int]:
    """Forward and backward FLOPs of one sequence as PyTorch's counter sees the products on the meta device."""
    with torch.device("meta"):
        model = build_model.__globals__["FAMILIES"][config.family](config, None, torch.float32)
        tokens = torch.zeros(1, config.context, dtype=torch.int64)
    with FlopCounterMode(display=False) as forward, sdpa_kernel(SDPBackend.MATH):
        loss, _ = model(tokens, tokens)
    with FlopCounterMode(display=False) as backward, sdpa_kernel(SDPBackend.MATH):
        loss.backward()
    return forward.get_total_flops(), backward.get_total_flops()


@settings(max_examples=25, deadline=None)
@given(
    heads=st.integers(1, 4), half=st.integers(2, 8), depth=st.integers(1, 3), context=st.integers(1, 40),
    activation=st.sampled_from(["swiglu", "glu", "gelu", "relu"]), tied=st.booleans(), bias=st.booleans(),
    position=st.sampled_from(["rotary", "sinusoidal", "learned"]), placement=st.sampled_from(["pre", "post"]),
)  # fmt: skip
def test_transformer_count_equals_the_watched_products(
    heads: int,
    half: int,
    depth: int,
    context: int,
    activation: str,
    tied: bool,
    bias: bool,
    position: str,
    placement: str,
) -> None:
    config = TransformerConfig.model_validate(
        {"width": 2 * half * heads, "depth": depth, "heads": heads, "vocab": 31, "context": context, "tied": tied,
         "activation": activation, "bias": bias, "position": position, "norm_placement": placement}
    )  # fmt: skip
    count = model_flops(config)
    # The counter multiplies whole score matrices: T*T pairs instead of the T*(T+1)/2 visible ones.
    full = count.forward["attn_scores_causal"] * 2 * context // (context + 1)
    forward, backward = watched(config)
    assert forward == count.forward_total - count.forward["attn_scores_causal"] + full
    assert backward == 2 * forward


@settings(max_examples=10, deadline=None)
@given(
    width=st.integers(4, 32),
    depth=st.integers(1, 3),
    context=st.integers(2, 24),
    tied=st.booleans(),
    bias=st.booleans(),
)
def test_lstm_count_equals_the_watched_products(width: int, depth: int, context: int, tied: bool, bias: bool) -> None:
    config = LstmConfig(width=width, depth=depth, vocab=31, context=context, bptt=context, tied=tied, bias=bias)
    count = model_flops(config)
    forward, backward = watched(config)
    assert forward == count.forward_total
    # No gradient flows into the first state, so one recurrent product per layer is not executed; our rule counts it.
    assert backward == 2 * forward - depth * 2 * 4 * width * width


def test_vectors_add_and_scale_exactly() -> None:
    a, b = FlopCount.of_products("mlp", 7), FlopCount({"head": 1}, {"head": 5})
    total = (a + b) * 10**20
    assert total.training_total == 27 * 10**20 and total.forward_total == 8 * 10**20
    assert total.as_dict() == {
        "mlp": {"forward": 7 * 10**20, "backward": 14 * 10**20}, "head": {"forward": 10**20, "backward": 5 * 10**20},
    }  # fmt: skip
    with pytest.raises(AssertionError, match="unknown FLOP component"):
        FlopCount({"magic": 1})
