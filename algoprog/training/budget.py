"""From a budget to whole optimiser steps. A run takes the most whole steps that fit; the rest is reported, not rounded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from algoprog.config import InputError, RunConfig
from algoprog.flops.conventions import per_sequence
from algoprog.models import flop_facts


@dataclass(frozen=True)
class Work:
    """What a run will do. FLOPs are training FLOPs in the convention ``causal_exact``; tokens are training targets.

    ``sequence_flops`` are the training FLOPs of one sequence in every convention. ``unspent_flops`` is what is left of a
    FLOP budget because it does not pay for another step; None where the budget is in tokens. ``recompute`` says whether
    blocks run again in the backward pass, which costs FLOPs in the convention ``hardware`` alone.
    """

    params: int
    steps: int
    tokens_per_step: int
    flops_per_step: int
    forward_flops_per_sequence: int
    sequence_flops: Mapping[str, int]
    budget_flops: int | None
    recompute: bool = False

    @property
    def tokens(self) -> int:
        return self.steps * self.tokens_per_step

    @property
    def flops(self) -> int:
        return self.steps * self.flops_per_step

    @property
    def unspent_flops(self) -> int | None:
        return None if self.budget_flops is None else self.budget_flops - self.flops


def plan_work(config: RunConfig, recompute: bool = False) -> Work:
    """Exact work of a run.

    Raises:
        InputError: the budget does not pay for one step, or is beyond 64-bit integers.
    """
    facts = flop_facts(config.model, recompute)
    params = facts.params
    flops_per_step = facts.count.training_total * config.batch
    tokens_per_step = config.batch * config.model.context
    budget = config.budget
    if budget.flops is not None:
        unit, target, price = "FLOPs", budget.flops, flops_per_step
    else:
        wanted = budget.tokens if budget.tokens is not None else int((budget.tokens_per_param or 0) * params)
        unit, target, price = "tokens", wanted, tokens_per_step
    if target < price:
        raise InputError(
            f"budget of {target:.3g} {unit} is below one step of {config.arch} at width {config.model.width}",
            expected=f"at least {price:.3g} {unit}",
            remedy=f"raise the budget or lower batch ({config.batch}) or model.context ({config.model.context})",
        )
    work = Work(
        params=params,
        steps=target // price,
        tokens_per_step=tokens_per_step,
        flops_per_step=flops_per_step,
        forward_flops_per_sequence=facts.count.forward_total,
        sequence_flops=per_sequence(facts),
        budget_flops=budget.flops,
        recompute=recompute,
    )
    if work.flops >= 2**63:
        raise InputError(
            "the run is larger than any store can hold", got=f"{work.flops:.2e} FLOPs", expected="below 9.2e18"
        )
    return work
