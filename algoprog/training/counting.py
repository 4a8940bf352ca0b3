"""What `algoprog flops` does: the FLOP vector of an architecture in every convention, and beside it what counters see."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from algoprog.config import BudgetConfig, LstmConfig, ModelConfig, RunConfig, parse
from algoprog.flops import FlopCount
from algoprog.flops.compare import Row, side_by_side
from algoprog.flops.conventions import CONVENTIONS, Facts, per_sequence, per_token
from algoprog.flops.dispatch import ProductCounter
from algoprog.flops.optimizer import optimizer_flops
from algoprog.flops.peers import Step, count_by_peers
from algoprog.models import build_model, build_skeleton, flop_facts
from algoprog.recipes import merge, parse_settings, resolve

Json = dict[str, Any]


@dataclass(frozen=True)
class Counted:
    """An architecture at one shape: its run config, facts per sequence, and the update of one step."""

    config: RunConfig
    facts: Facts
    update: FlopCount

    @property
    def per_token(self) -> dict[str, dict[str, int]]:
        """Model FLOPs per token; their sum is ``causal_exact``."""
        return self.facts.count.model.per_token(self.facts.tokens)

    @property
    def conventions(self) -> dict[str, int]:
        """Training FLOPs per token in every convention."""
        return per_token(per_sequence(self.facts), self.facts.tokens)

    def as_json(self) -> Json:
        """All of it as exact integers."""
        model, count = self.config.model, self.facts.count
        outside = count - count.model
        sequences = self.config.batch
        return {
            "arch": self.config.arch,
            "width": model.width,
            "depth": model.depth,
            "seq": model.context,
            "vocab": model.vocab,
            "params": self.facts.params,
            "per_token": self.per_token,
            "outside_model_flops": {
                name: entry for name, entry in outside.per_token(model.context).items() if any(entry.values())
            },
            "conventions": self.conventions,
            "per_step": {
                "batch": sequences,
                "tokens": sequences * model.context,
                "causal_exact": count.training_total * sequences,
                "optimizer": self.update.of("optimizer"),
            },
        }


def count(arch: str, width: int, seq: int | None, vocab: int, settings: list[str]) -> Counted:
    """The FLOPs of preset ``arch`` at a shape. The truncation length of an LSTM, on which no FLOP depends, adapts to ``seq``.

    Raises:
        InputError: unknown architecture or key, or values that do not make a model.
    """
    overrides = parse_settings(settings)
    if seq is not None:
        overrides = merge(overrides, {"model": {"context": seq}})
    overrides = _fit_truncation(arch, width, overrides)
    run = resolve(arch, width, BudgetConfig(tokens=1), data={"tokenizer": "gpt2"}, overrides=overrides, where="flops")
    model = parse(type(run.model), {**run.model.model_dump(), "vocab": vocab}, "flops")
    run = run.model_copy(update={"model": model})
    facts = flop_facts(model)
    return Counted(run, facts, optimizer_flops(run.optim, facts.params, _decayed(run, facts)))


def _fit_truncation(arch: str, width: int, overrides: Json) -> Json:
    """A sequence need not be a multiple of the preset's truncation length just to be counted; a length that the user
    sets is left alone."""
    chosen = overrides.get("model", {})
    if not isinstance(chosen, dict) or "bptt" in chosen or not isinstance(chosen.get("context"), int):
        return overrides
    plain = resolve(arch, width, BudgetConfig(tokens=1), data={"tokenizer": "gpt2"}, where="flops").model
    if not isinstance(plain, LstmConfig) or chosen["context"] < 1:
        return overrides
    return merge(overrides, {"model": {"bptt": math.gcd(chosen["context"], plain.bptt)}})


def _decayed(run: RunConfig, facts: Facts) -> int:
    """Parameters under weight decay: all, or the matrices."""
    if run.optim.decay == "all":
        return facts.params
    with torch.device("meta"):
        model = build_skeleton(run.model)
    return sum(p.numel() for p in model.parameters() if p.ndim >= 2)


def make_step(config: RunConfig) -> Step:
    """One sequence of random tokens through a freshly initialised model on the CPU."""
    model = config.model
    tokens = torch.randint(model.vocab, (1, model.context), generator=torch.Generator().manual_seed(config.seed))
    return Step(build_model(model, config.seed), tokens, tokens)


def watch(step: Step) -> FlopCount:
    """Products that really run in a training step, by component."""
    with ProductCounter(step.model) as counter:
        step.train()
    return counter.count()


def watch_shapes(config: ModelConfig, batch: int = 1) -> FlopCount:
    """:func:`watch` for a model of any size without computing it: fake CPU tensors choose the kernels that real ones choose."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = build_skeleton(config)
        tokens = torch.zeros(batch, config.context, dtype=torch.int64)
        return watch(Step(model, tokens, tokens))


def compare(counted: Counted) -> list[Row]:
    """One real step of one sequence on the CPU, counted by everything that counts."""
    make = functools.partial(make_step, counted.config)
    return side_by_side(counted.facts.count, watch(make()), count_by_peers(make))


def describe_conventions() -> list[Json]:
    """Name, what is included, and source of every convention."""
    return [{"name": c.name, "includes": c.includes, "source": c.source} for c in CONVENTIONS.values()]
