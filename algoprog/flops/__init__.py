"""Exact FLOP accounting: component vectors, the conventions that read them, and counters that check them."""

from algoprog.flops.count import (
    COMPONENTS,
    MODEL_COMPONENTS,
    FlopCount,
    causal_attention_flops,
    causal_pairs,
    linear_flops,
    lstm_flops,
)
from algoprog.flops.elementwise import elementwise_flops

__all__ = [
    "COMPONENTS",
    "MODEL_COMPONENTS",
    "FlopCount",
    "causal_attention_flops",
    "causal_pairs",
    "elementwise_flops",
    "linear_flops",
    "lstm_flops",
]
