"""Exact FLOP counts as integer vectors, one entry per component, forward and backward apart.

A multiply-add is two FLOPs. Model FLOPs are the matrix products that the mathematics needs: elementwise work, gathers and
the optimiser are outside. Counts are per sequence of T tokens, because causal attention is not an integer per token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

COMPONENTS = ("embed", "attn_proj", "attn_scores_causal", "mlp", "recurrent", "head")


@dataclass(frozen=True)
class FlopCount:
    """FLOPs by component. Supports ``+`` and multiplication by a whole number; arithmetic is exact."""

    forward: Mapping[str, int] = field(default_factory=dict)
    backward: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (*self.forward, *self.backward):
            assert name in COMPONENTS, f"unknown FLOP component {name!r}; known: {COMPONENTS}"

    @classmethod
    def of_products(cls, component: str, forward: int) -> FlopCount:
        """Matrix products whose two operands both need gradients: the backward pass costs twice the forward."""
        return cls({component: forward}, {component: 2 * forward})

    def __add__(self, other: FlopCount) -> FlopCount:
        return FlopCount(_sum(self.forward, other.forward), _sum(self.backward, other.backward))

    def __mul__(self, times: int) -> FlopCount:
        return FlopCount(
            {name: value * times for name, value in self.forward.items()},
            {name: value * times for name, value in self.backward.items()},
        )

    @property
    def forward_total(self) -> int:
        return sum(self.forward.values())

    @property
    def training_total(self) -> int:
        """Forward and backward: the convention ``causal_exact``."""
        return self.forward_total + sum(self.backward.values())

    def as_dict(self) -> dict[str, dict[str, int]]:
        """``{component: {"forward": int, "backward": int}}`` in the order of :data:`COMPONENTS`."""
        return {
            name: {"forward": self.forward.get(name, 0), "backward": self.backward.get(name, 0)}
            for name in COMPONENTS
            if name in self.forward or name in self.backward
        }


def _sum(left: Mapping[str, int], right: Mapping[str, int]) -> dict[str, int]:
    return {name: left.get(name, 0) + right.get(name, 0) for name in COMPONENTS if name in left or name in right}


def linear_flops(component: str, inputs: int, outputs: int, tokens: int) -> FlopCount:
    """A linear map ``inputs -> outputs`` applied to ``tokens`` positions."""
    return FlopCount.of_products(component, 2 * inputs * outputs * tokens)


def causal_scores_flops(width: int, tokens: int) -> FlopCount:
    """Query-key and weight-value products of causal self-attention over one sequence, visible pairs only.

    ``width`` is heads times head dimension; ``tokens * (tokens + 1) / 2`` pairs are visible.
    """
    return FlopCount.of_products("attn_scores_causal", 2 * (width + width) * (tokens * (tokens + 1) // 2))


def lstm_flops(inputs: int, hidden: int, tokens: int) -> FlopCount:
    """One LSTM layer: four gates, input and recurrent products at every step, the first included."""
    return FlopCount.of_products("recurrent", 2 * 4 * hidden * (inputs + hidden) * tokens)
