"""NaN on one rank only, under each policy; every rank writes what it saw:  rank_probe.py FOLDER, under a launcher.

``FOLDER/rank-N.json`` maps the name of a case to the outcome, the steps of all rows, and a hash of weights and optimiser
state before every step and after the last.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from algoprog.training.checkpoint import Checkpoints
from algoprog.training.engines import open_engine
from algoprog.training.loop import Run
from algoprog.training.warm import Programs
from benchmarks.faults.nan_injection import FaultyEngine, optimizer_settings
from benchmarks.faults.small_runs import small, tokens

STEPS, BAD_STEP, BAD_RANK = 8, 3, 1
CASES = [
    ("modern", "adamw", "abort", "loss"),
    ("lstm", "adamw", "skip", "loss"),
    ("lstm", "rmsprop", "abort", "gradient"),
    ("modern", "adamw", "skip", "gradient"),
    ("retro", "rmsprop", "skip", "loss"),
]


class OneRankFaulty(FaultyEngine):
    """Faulty on ``BAD_RANK`` alone. A bad gradient is that of its own rows, before ranks average theirs."""

    def __init__(self, bad: set[int], place: str) -> None:
        super().__init__(bad, "local gradient" if place == "gradient" else place, math.nan)
        if self.place.rank != BAD_RANK:
            self._bad = set()

    def _join(self, backend: str) -> None:
        """The process group exists."""

    def adopt(self, model: nn.Module, optimizer: torch.optim.Optimizer, max_norm: float | None) -> nn.Module:
        next(model.parameters()).register_hook(self._spoil)
        return super().adopt(model, optimizer, max_norm)

    def _spoil(self, gradient: Tensor) -> Tensor:
        return gradient * math.nan if self._place == "local gradient" and self._count in self._bad else gradient


def hash_of(state: dict[str, Tensor]) -> str:
    """sha256 of all tensors in the order of their names; an average that is still zero is as good as none."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        if tensor.any():
            digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def case(arch: str, optimizer: str, policy: str, place: str, bad: set[int], folder: Path) -> dict[str, Any]:
    """One run of ``STEPS`` steps on all ranks."""
    config = small(arch, STEPS, optim=optimizer_settings(optimizer), nonfinite=policy)
    checkpoints = Checkpoints(folder, "x")
    run = Run(config, Programs(tokens(), OneRankFaulty(bad, place)), checkpoints=checkpoints)
    outcome = run.complete()
    engine = cast(FaultyEngine, run.engine)
    return {
        "state": outcome.state, "steps": outcome.steps, "skipped": outcome.skipped, "message": outcome.message,
        "loss": outcome.loss, "rows": [row["step"] for row in run.rows], "kept": checkpoints.latest_step(),
        "hashes": [hash_of(state) for state in [*engine.states, engine.state()]],
    }  # fmt: skip


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    group = open_engine("torch")
    found = {}
    for arch, optimizer, policy, place in CASES:
        name = f"{arch} {optimizer} {policy} {place}"
        found[name] = case(arch, optimizer, policy, place, {BAD_STEP}, folder / name)
        found[f"{name}, no fault"] = case(arch, optimizer, policy, place, set(), folder / f"{name}-none")
    (folder / f"rank-{group.place.rank}.json").write_text(json.dumps(found))
    group.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
