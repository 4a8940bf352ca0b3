"""Exact FLOP accounting: component vectors and the conventions that read them."""

from algoprog.flops.count import COMPONENTS, FlopCount, causal_scores_flops, linear_flops, lstm_flops

__all__ = ["COMPONENTS", "FlopCount", "causal_scores_flops", "linear_flops", "lstm_flops"]
