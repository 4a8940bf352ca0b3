"""Losses and gradients that turn NaN or infinite at a chosen step: every run ends as its policy says.

``abort``: nothing changes from the bad step on, the run is diverged at that step, its last loss is that of the step before,
and the state that is kept is the one that an undisturbed run has there. ``skip``: weights, averages and counters are the
same after the bad step as before it, and the run goes on to its end::

    python benchmarks/faults/nan_injection.py --cases 100
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from algoprog.config import RunConfig  # noqa: E402
from algoprog.kernels import FlatAdamW  # noqa: E402
from algoprog.training.checkpoint import Checkpoints  # noqa: E402
from algoprog.training.engines.torch_engine import TorchEngine  # noqa: E402
from algoprog.training.loop import Run  # noqa: E402
from algoprog.training.outcome import Outcome  # noqa: E402
from algoprog.training.recurrent import Carried  # noqa: E402
from algoprog.training.warm import Programs  # noqa: E402
from benchmarks.faults.rows import write_row  # noqa: E402
from benchmarks.faults.small_runs import ARCHES, small, tokens  # noqa: E402

STEPS = 12
OPTIMIZERS = ("adamw", "adam", "sgd", "rmsprop", "flat")
PLACES = ("loss", "gradient")
VALUES = (math.nan, math.inf, -math.inf)


class FaultyEngine(TorchEngine):
    """Multiplies loss or gradients by ``value`` at the steps ``bad``, and keeps every state that a step began with."""

    def __init__(self, bad: set[int], place: str, value: float) -> None:
        super().__init__()
        self._bad, self._place, self._value, self._count = bad, place, value, 0
        self.states: list[dict[str, Tensor]] = []

    def adopt(self, model: nn.Module, optimizer: torch.optim.Optimizer, max_norm: float | None) -> nn.Module:
        self.own = model, optimizer
        return _Poisoned(super().adopt(model, optimizer, max_norm), self)

    def backward(self, loss: Tensor) -> None:
        self.states.append(self.state())
        super().backward(loss)
        if self._count in self._bad and self._place == "gradient":
            with torch.no_grad():
                next(self.own[0].parameters()).grad.view(-1)[0] = self._value  # type: ignore[union-attr]
        self._count += 1

    def poison(self, loss: Tensor, after: Carried) -> tuple[Tensor, Carried]:
        """Recurrent state turns bad with any fault; of a bad loss the gradient stays finite, so that only the loss tells."""
        if self._count not in self._bad:
            return loss, after
        worse = None if after is None else [(h * self._value, c * self._value) for h, c in after]
        return loss + self._value if self._place == "loss" else loss, worse

    def state(self) -> dict[str, Tensor]:
        model, optimizer = self.own
        found = {**self.weights(model), **self.optimizer_state(model, optimizer)}
        return {name: tensor.detach().clone() for name, tensor in found.items()}


class _Poisoned(nn.Module):
    def __init__(self, inner: nn.Module, engine: FaultyEngine) -> None:
        super().__init__()
        self.__dict__.update(inner=inner, engine=engine)  # not submodules: names of parameters stay

    def forward(self, *args: Any) -> Any:
        loss, after = self.inner(*args)
        return self.engine.poison(loss, after)


def optimizer_settings(name: str) -> dict[str, Any]:
    """Config of an optimiser; ``flat`` is AdamW, which :func:`poisoned_run` replaces by the flat one."""
    return {"name": "adamw" if name == "flat" else name, "momentum": 0.9 if name == "sgd" else 0.0}


def poisoned_run(
    config: RunConfig, optimizer: str, bad: set[int], place: str, value: float, folder: Path
) -> tuple[Outcome, FaultyEngine, list[dict[str, Any]]]:
    """Train with faults at steps ``bad`` (from 0); outcome, engine with all states, and rows."""
    from algoprog.training import program

    original = program.build_optimizer
    if optimizer == "flat":
        program.build_optimizer = lambda c, model, operations: FlatAdamW(  # type: ignore[assignment]
            model.parameters(), c.lr, (c.beta1, c.beta2), c.eps, c.weight_decay, max_norm=c.clip
        )
    rows: list[dict[str, Any]] = []
    try:
        engine = FaultyEngine(bad, place, value)
        run = Run(config, Programs(tokens(), engine), checkpoints=Checkpoints(folder, "x"), on_metrics=rows.append)
        return run.complete(), cast(FaultyEngine, run.engine), rows  # each program has an engine of its own
    finally:
        program.build_optimizer = original


def unchanged(before: dict[str, Tensor], after: dict[str, Tensor]) -> bool:
    """Whether all tensors are the same bit for bit; averages that an optimiser made at its first step are zero."""
    kept = all(torch.equal(after[name], before[name]) for name in before)
    return kept and not any(tensor.any() for name, tensor in after.items() if name not in before)


def abort_is_right(config: RunConfig, optimizer: str, step: int, place: str, value: float, folder: Path) -> bool:
    """Whether a run with the policy ``abort`` and a fault at ``step`` ends as it should."""
    clean, healthy, rows = poisoned_run(config, optimizer, set(), place, value, folder / "clean")
    outcome, engine, seen = poisoned_run(config, optimizer, {step}, place, value, folder / "bad")
    kept = Checkpoints(folder / "bad", "x").restore()
    before = healthy.states[step]
    right = outcome.state == "diverged" and outcome.loss is None and outcome.steps == step + 1
    right &= f"not finite at step {step + 1} of" in (outcome.message or "") and seen == rows[:step]
    right &= outcome.train_loss == (rows[step - 1]["loss"] if step else None)
    frozen = all(unchanged(before, state) for state in [*engine.states[step:], engine.state()])
    return (
        right
        and frozen
        and kept is not None
        and kept.step == step
        and unchanged(before, {**kept.model, **kept.optimizer})
    )


def skip_is_right(config: RunConfig, optimizer: str, step: int, place: str, value: float, folder: Path) -> bool:
    """Whether a run with the policy ``skip`` and a fault at ``step`` ends as it should."""
    outcome, engine, rows = poisoned_run(config, optimizer, {step}, place, value, folder / "bad")
    after = engine.states[step + 1] if step + 1 < len(engine.states) else engine.state()
    before = engine.states[step]
    finite = all(tensor.isfinite().all() for tensor in engine.state().values())
    moved = step + 1 == STEPS or not unchanged(after, engine.state())
    right = outcome.state == "done" and outcome.skipped == 1 and outcome.loss is not None and outcome.steps == STEPS
    reported = [row["step"] for row in rows] == [s + 1 for s in range(STEPS) if s != step]
    return right and unchanged(before, after) and bool(finite) and moved and reported


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100)
    cases = parser.parse_args().cases
    torch.set_num_threads(1)
    rng = random.Random(0)
    failures = []
    for number in range(cases):
        arch, optimizer = ARCHES[number % len(ARCHES)], rng.choice(OPTIMIZERS)
        policy, step = ("abort", "skip")[number // len(ARCHES) % 2], rng.randrange(STEPS)
        place, value = rng.choice(PLACES), rng.choice(VALUES)
        config = small(arch, STEPS, optim=optimizer_settings(optimizer), nonfinite=policy)
        check = abort_is_right if policy == "abort" else skip_is_right
        with tempfile.TemporaryDirectory() as folder:
            if not check(config, optimizer, step, place, value, Path(folder)):
                failures.append(f"{arch}, {optimizer}, {policy}, {place} {value} at step {step}")
    print(f"{cases} injections, {len(failures)} wrong", *failures, sep="\n")
    write_row(
        name="nan-injection",
        figure="NaN or infinity in loss or gradient at a random step, 3 architectures, 5 optimisers, policies abort and skip",
        target="diverged at that step with nothing changed since, or skipped with nothing touched",
        measured=f"{cases - len(failures)} of {cases} as the policy says",
        met=not failures,
        n=cases,
        failures=len(failures),
        command=f"python benchmarks/faults/nan_injection.py --cases {cases}",
    )


if __name__ == "__main__":
    main()
