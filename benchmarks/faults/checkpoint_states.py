"""States of runs to damage: small ones with every kind of tensor that a checkpoint holds."""

from __future__ import annotations

import torch

from algoprog.training.state import RunState


def small_state(step: int, seed: int = 0, elements: int = 40) -> RunState:
    """A state after ``step`` steps, a function of (step, seed): fp32 and bf16 weights, a scalar count, carried state."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)

    def tensor(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    return RunState(
        step=step,
        model={"head.weight": tensor(elements, 4), "embedding.weight": tensor(elements, 2).bfloat16()},
        optimizer={"head.weight/exp_avg": tensor(elements, 4), "head.weight/step": torch.tensor(float(step))},
        carried=[(tensor(1, 2, 3), tensor(1, 2, 3))],
        pending=tensor(2, 2).double(),
        rows=[{"step": s, "tokens": 64 * s, "loss": 5.0 / s, "lr": 0.001} for s in range(1, step + 1)],
        skipped=step % 2,
        position={"tokens": 64 * step, "flops": 10**6 * step},
        environment={"torch": torch.__version__, "threads": 1},
    )


def same_state(a: RunState, b: RunState) -> bool:
    """Whether two states are equal, tensors bit for bit."""
    groups = [(a.model, b.model), (a.optimizer, b.optimizer), ({"": a.pending}, {"": b.pending})]
    for x, y in groups:
        if x.keys() != y.keys() or not all(
            x[name].dtype == y[name].dtype and torch.equal(x[name], y[name]) for name in x
        ):
            return False
    pairs = zip(a.carried or [], b.carried or [], strict=True)
    if not all(torch.equal(h, g) and torch.equal(c, d) for (h, c), (g, d) in pairs):
        return False
    numbers = ("step", "skipped", "position", "environment")
    return all(getattr(a, name) == getattr(b, name) for name in numbers) and list(a.rows) == list(b.rows)
