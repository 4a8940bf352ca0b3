"""Exact FLOP counts as integer vectors, one entry per component, forward and backward apart.

A multiply-add is two FLOPs. Model FLOPs are the matrix products that the mathematics needs. Everything else is kept beside
them under names of its own and never enters their sum: whole score matrices, elementwise work, recomputation, padding and
the optimiser. Counts are per sequence of T tokens, or per optimiser step; causal scores are whole numbers per token too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MODEL_COMPONENTS = ("embed", "attn_proj", "attn_scores_causal", "mlp", "recurrent", "scan", "router", "head")
"""Model FLOPs. ``embed`` is a gather and costs 0; ``attn_scores_causal`` counts visible pairs; ``mlp`` active experts only."""

HARDWARE_COMPONENTS = ("recompute", "padding")
"""Products that are executed although the mathematics does not need them."""

OTHER_COMPONENTS = ("attn_scores_full", "elementwise", "optimizer")
"""Other readings and other work: all T x T pairs (in place of the causal ones), non-products, the update (per step)."""

COMPONENTS = (*MODEL_COMPONENTS, *HARDWARE_COMPONENTS, *OTHER_COMPONENTS)


@dataclass(frozen=True)
class FlopCount:
    """FLOPs by component, exact Python integers. Supports ``+``, ``-`` and multiplication by a whole number."""

    forward: Mapping[str, int] = field(default_factory=dict)
    backward: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in (*self.forward.items(), *self.backward.items()):
            assert name in COMPONENTS, f"unknown FLOP component {name!r}; known: {COMPONENTS}"
            assert type(value) is int, f"FLOPs of {name} are a {type(value).__name__}, not an exact integer"

    @classmethod
    def of_products(cls, component: str, forward: int) -> FlopCount:
        """Matrix products whose two operands both need gradients: the backward pass costs twice the forward."""
        return cls({component: forward}, {component: 2 * forward})

    @classmethod
    def from_dict(cls, values: Mapping[str, Mapping[str, int]]) -> FlopCount:
        """The inverse of :meth:`as_dict`."""
        return cls(
            {name: entry["forward"] for name, entry in values.items()},
            {name: entry["backward"] for name, entry in values.items()},
        )

    def __add__(self, other: FlopCount) -> FlopCount:
        return FlopCount(_combine(self.forward, other.forward, 1), _combine(self.backward, other.backward, 1))

    def __sub__(self, other: FlopCount) -> FlopCount:
        """Component by component; entries may be negative."""
        return FlopCount(_combine(self.forward, other.forward, -1), _combine(self.backward, other.backward, -1))

    def __mul__(self, times: int) -> FlopCount:
        """A run from a sequence: ``count * sequences``."""
        return FlopCount(
            {name: value * times for name, value in self.forward.items()},
            {name: value * times for name, value in self.backward.items()},
        )

    def of(self, *components: str) -> int:
        """Forward plus backward FLOPs of some components."""
        return sum(self.forward.get(name, 0) + self.backward.get(name, 0) for name in components)

    def only(self, components: tuple[str, ...]) -> FlopCount:
        """The same vector restricted to ``components``."""
        return FlopCount(
            {name: value for name, value in self.forward.items() if name in components},
            {name: value for name, value in self.backward.items() if name in components},
        )

    @property
    def model(self) -> FlopCount:
        """The model FLOPs alone."""
        return self.only(MODEL_COMPONENTS)

    @property
    def forward_total(self) -> int:
        """Model FLOPs of a forward pass."""
        return sum(self.forward.get(name, 0) for name in MODEL_COMPONENTS)

    @property
    def training_total(self) -> int:
        """Model FLOPs, forward and backward: the convention ``causal_exact``."""
        return self.of(*MODEL_COMPONENTS)

    def as_dict(self) -> dict[str, dict[str, int]]:
        """``{component: {"forward": int, "backward": int}}`` in the order of :data:`COMPONENTS`."""
        return {
            name: {"forward": self.forward.get(name, 0), "backward": self.backward.get(name, 0)}
            for name in COMPONENTS
            if name in self.forward or name in self.backward
        }

    def per_token(self, tokens: int) -> dict[str, dict[str, int]]:
        """:meth:`as_dict` of one token, when this is the count of ``tokens`` tokens.

        Raises:
            ValueError: an entry is not a whole number per token.
        """
        return {
            name: {direction: whole_share(value, tokens, f"{direction} {name}") for direction, value in entry.items()}
            for name, entry in self.as_dict().items()
        }


def whole_share(value: int, parts: int, name: str) -> int:
    """``value / parts``, exactly.

    Raises:
        ValueError: it is not a whole number.
    """
    share, rest = divmod(value, parts)
    if rest:
        raise ValueError(f"{name}: {value} FLOPs are not a whole number for each of {parts} tokens")
    return share


def _combine(left: Mapping[str, int], right: Mapping[str, int], sign: int) -> dict[str, int]:
    return {name: left.get(name, 0) + sign * right.get(name, 0) for name in COMPONENTS if name in left or name in right}


def linear_flops(component: str, inputs: int, outputs: int, tokens: int) -> FlopCount:
    """A linear map ``inputs -> outputs`` applied to ``tokens`` positions."""
    return FlopCount.of_products(component, 2 * inputs * outputs * tokens)


def causal_pairs(tokens: int) -> int:
    """Query-key pairs that a causal mask leaves: position t sees t + 1 keys."""
    return tokens * (tokens + 1) // 2


def causal_attention_flops(width: int, tokens: int) -> FlopCount:
    """Query-key and weight-value products of causal self-attention over one sequence; ``width`` is heads times head size.

    Besides the visible pairs (model FLOPs): all T x T pairs under ``attn_scores_full``, and under ``recompute`` the
    query-key products that a fused kernel forms again in its backward pass (Dao et al. 2022, algorithm 4).
    """
    visible = FlopCount.of_products("attn_scores_causal", 2 * (width + width) * causal_pairs(tokens))
    full = FlopCount.of_products("attn_scores_full", 2 * (width + width) * tokens * tokens)
    return visible + full + FlopCount({}, {"recompute": 2 * width * causal_pairs(tokens)})


HEADS = {"plain": 0, "chunked": 1, "flash": 2}
"""Kind of vocabulary head -> how often its backward pass forms the logits again: never where they are kept, once in chunks
that are thrown away, once for each of its two gradients where logits never reach memory (Wijmans et al. 2024, section 4)."""


def head_recompute(count: FlopCount, kind: str) -> FlopCount:
    """What a head of this kind (:data:`HEADS`) executes besides ``count``, under ``recompute``.

    Raises:
        ValueError: there is no such kind.
    """
    if kind not in HEADS:
        raise ValueError(f"head_recompute: kind: expected {', '.join(HEADS)}, got {kind!r}")
    return FlopCount({}, {"recompute": HEADS[kind] * count.forward.get("head", 0)})


def lstm_flops(inputs: int, hidden: int, tokens: int) -> FlopCount:
    """One LSTM layer: four gates, input and recurrent products at every step, the first included."""
    return FlopCount.of_products("recurrent", 2 * 4 * hidden * (inputs + hidden) * tokens)
