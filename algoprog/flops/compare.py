"""Counters side by side, with the reason for every difference from the exact count, down to the last FLOP.

A counter's figure is taken apart into what it attributes to elementwise work and its matrix products. Linear maps must
agree; for attention scores and for recurrent layers the known treatments are tried, and the one that leaves nothing is the
reason. If none does, the rest is printed as unexplained.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from algoprog.flops.count import MODEL_COMPONENTS, FlopCount
from algoprog.flops.peers import PeerCount

Difference = tuple[str, int]


@dataclass(frozen=True)
class Row:
    """One counter: training FLOPs of the step, the reasons why they differ from ``causal_exact``, and what is left over."""

    counter: str
    version: str | None
    flops: int | None
    ratio: float | None
    differences: tuple[Difference, ...]
    unexplained: int
    note: str

    def as_json(self) -> dict[str, Any]:
        """As the JSON of the command shows it."""
        differences = [{"reason": reason, "flops": flops} for reason, flops in self.differences]
        return {
            "counter": self.counter, "version": self.version, "flops": self.flops, "ratio": self.ratio,
            "differences": differences, "unexplained": self.unexplained, "note": self.note,
        }  # fmt: skip


def side_by_side(analytic: FlopCount, watched: FlopCount, peers: Sequence[PeerCount]) -> list[Row]:
    """The analytic vector of the step, the watched one, and every other counter."""
    exact = analytic.training_total
    ours = Row("analytic", None, exact, 1.0, (), 0, "the models' own counts: causal_exact")
    seen = watched.training_total
    gap = _vector_gap(analytic, watched)
    dispatch = Row(
        "dispatch", None, seen, seen / exact, (), gap, "operations that ran, by component and direction; must be equal"
    )
    return [ours, dispatch, *(_explain(analytic, peer) for peer in peers)]


def executed(count: FlopCount) -> dict[str, dict[str, int]]:
    """The part of a vector that a step on fused kernels executes as products, without components that are zero."""
    products = count.only((*MODEL_COMPONENTS, "recompute"))
    return {name: entry for name, entry in products.as_dict().items() if any(entry.values())}


def _vector_gap(analytic: FlopCount, watched: FlopCount) -> int:
    """Sum of the absolute differences over all components and both directions."""
    gap = FlopCount.from_dict(executed(analytic)) - watched
    return sum(abs(value) for side in (gap.forward, gap.backward) for value in side.values())


def _explain(analytic: FlopCount, peer: PeerCount) -> Row:
    if peer.flops is None:
        return Row(peer.name, peer.version, None, None, (), 0, peer.note)
    exact = analytic.training_total
    gap = peer.flops - exact - peer.elementwise
    found = next((reasons for reasons in _treatments(analytic) if sum(flops for _, flops in reasons) == gap), ())
    differences = [*found, ("elementwise work it adds by its own rules", peer.elementwise)]
    unexplained = gap - sum(flops for _, flops in found)
    reasons = tuple((reason, flops) for reason, flops in differences if flops)
    return Row(peer.name, peer.version, peer.flops, peer.flops / exact, reasons, unexplained, peer.note)


def _treatments(analytic: FlopCount) -> list[tuple[Difference, ...]]:
    """Every combination of known treatments of scores and recurrent layers, as differences from ours."""
    causal, full = analytic.of("attn_scores_causal"), analytic.of("attn_scores_full")
    once_more = analytic.forward.get("attn_scores_full", 0) // 2  # the query-key half of the forward scores
    recurrent = analytic.of("recurrent")
    scores = [
        ("attention scores as ours", 0),
        ("fused attention counts nothing", -causal),
        ("attention scores of masked pairs too", full - causal),
        ("attention scores of masked pairs too, and once more in the backward pass", full - causal + once_more),
    ]
    layers = [("recurrent layers as ours", 0), ("the fused LSTM counts nothing", -recurrent)]
    return list(itertools.product(scores, layers))
