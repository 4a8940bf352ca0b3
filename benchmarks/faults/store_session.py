"""A scripted life of one store, as a process of its own so that it can be killed anywhere:

    python benchmarks/faults/store_session.py FOLDER

It creates the store, plans eight runs, and for each starts an attempt, adds metrics and records the end. Started again it
goes on where the store says it stopped. It prints one line per committed change: whatever was printed must be found again.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from algoprog.config import BudgetConfig, InputError, canonical_json
from algoprog.recipes import resolve
from algoprog.sweep.store import open_for_driving

RUNS, STEPS = 8, 100
DATA = "f" * 64

Row = dict[str, Any]


def planned() -> list[Row]:
    """Rows of the eight runs, with round numbers for their work: counting it would load torch in every process."""
    budget = BudgetConfig(flops=10**9)
    configs = [resolve("modern", 16, budget, seed=seed, overrides={"batch": 4}) for seed in range(RUNS)]
    return [
        {
            "digest": config.digest(DATA), "arch": "modern", "width": 16, "seed": config.seed, "config": canonical_json(config),
            "params": 1000, "steps": STEPS, "tokens": STEPS * 512, "flops": STEPS * 10**7,
        }
        for config in configs
    ]  # fmt: skip


def metrics() -> list[Row]:
    """Rows at a half and at the end of a run."""
    return [
        {
            "step": step,
            "tokens": step * 512,
            "flops": step * 10**7,
            "loss": 5.0 - step / STEPS,
            "grad_norm": 1.0,
            "lr": 0.01,
        }
        for step in (STEPS // 2, STEPS)
    ]


def expected() -> dict[str, float]:
    """The loss of every run by its name."""
    return {run["digest"]: 4.0 + run["seed"] / 7 for run in planned()}


def live(folder: Path) -> None:
    """Do what is left to do in ``folder``, saying what has been committed."""
    runs, losses = planned(), expected()
    with open_for_driving(folder) as store:
        store.set_meta({"data": {"fingerprint": DATA}, "sweep": {"name": "session"}})
        store.add_runs(runs)
        print("planned", flush=True)
        store.reset_interrupted()
        finished = {run["digest"] for run in store.runs() if run["state"] == "done"}
        for run in runs:
            digest = run["digest"]
            if digest in finished:
                continue
            work = {name: run[name] for name in ("steps", "tokens", "flops")}
            store.start_attempt(digest, "session", {})
            store.add_metrics(digest, metrics())
            store.end_attempt(digest, "done", None, {"state": "done", **work, "loss": losses[digest]})
            print(f"done {digest} {losses[digest]!r}", flush=True)


def main() -> None:
    try:
        live(Path(sys.argv[1]))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
