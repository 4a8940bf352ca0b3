"""Trains tiny models under both engines in the ranks of one process group; rank 0 writes what came out as JSON.

``python engine_probe.py FOLDER ENGINE...``, alone or under a launcher; torch is always among the engines. FOLDER holds
checkpoints of one rank under ``start/ARCH`` and receives ``world-N.json`` and, under ``stopped-N/ENGINE``, checkpoints that N
ranks made half way.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from algoprog.config import BudgetConfig, RunConfig
from algoprog.data.store import TokenStore
from algoprog.recipes import resolve
from algoprog.training.checkpoint import Checkpoints
from algoprog.training.engines import Engine, open_engine
from algoprog.training.engines.deepspeed_settings import check_settings
from algoprog.training.loop import Run, Stopped, train
from algoprog.training.memory import PLAIN, Memory
from algoprog.training.warm import Programs

STEPS, HALF, BATCH, CONTEXT = 24, 11, 8, 16
ARCHS = ("modern", "retro", "lstm")
PIECES = Memory(micro_batch=1)
AGAIN = Memory(recompute="blocks")
# At stage 3 weights of every size are cut up; by default DeepSpeed leaves small ones whole.
ZERO: dict[str, dict[str, Any]] = {
    **{f"zero{stage}": {"stage": stage} for stage in (0, 1, 2)},
    "zero3": {"stage": 3, "stage3_param_persistence_threshold": 0},
}


def config(arch: str, lr: float = 0.01, **overrides: Any) -> RunConfig:
    model = {"context": CONTEXT, **({"bptt": 8} if arch == "lstm" else {}), "depth": 2}
    values = {"batch": BATCH, "model": model, "data": {"tokenizer": "bpe-300"}, **overrides}
    return resolve(arch, 16, BudgetConfig(tokens=STEPS * BATCH * CONTEXT), lr=lr, overrides=values)


def store() -> TokenStore:
    ids = (np.arange(20_000) ** 2 % 251).astype(np.uint16)
    return TokenStore(Path("probe"), ids, ids[:600], 300, 299, "probe", 40_000, 1_200, {})


def run(
    run_config: RunConfig, engine: Engine, memory: Memory = PLAIN, checkpoints: Checkpoints | None = None
) -> dict[str, Any]:
    """Losses and gradient norms of all steps, the validation loss, and what ran."""
    rows: list[dict[str, float]] = []
    outcome = train(
        run_config,
        store(),
        engine,
        memory=memory,
        on_metrics=rows.append,
        checkpoints=checkpoints,
        checkpoint_every_s=1e9,
    )
    return {
        "state": outcome.state,
        "message": outcome.message,
        "losses": [row["loss"] for row in rows],
        "norms": [row["grad_norm"] for row in rows],
        "final": outcome.loss,
        "micro_batches": outcome.execution["micro_batches"],
        "record": dict(engine.record()),
    }


def used(run_config: RunConfig, engine: Engine, memory: Memory = PLAIN) -> dict[str, Any]:
    """:func:`run` on a program that has served two runs of the shape: another seed's, and one that diverged."""
    programs = Programs(store(), engine, memory=memory)
    other = run_config.model_copy(update={"seed": 7})
    broken = other.model_copy(update={"optim": other.optim.model_copy(update={"lr": 1e30})})
    before = [Run(config, programs).complete().state for config in (other, broken)]
    assert before == ["done", "diverged"], before
    rows: list[dict[str, float]] = []
    last = Run(run_config, programs, on_metrics=rows.append)
    assert last.program.runs == 3
    outcome = last.complete()
    return {
        "losses": [row["loss"] for row in rows],
        "norms": [row["grad_norm"] for row in rows],
        "final": outcome.loss,
        "warm": outcome.execution["warm"],
    }


def stop_half_way(run_config: RunConfig, engine: Engine, folder: Path) -> None:
    """Leave a checkpoint after ``HALF`` steps."""
    seen: list[object] = []
    flags = iter([False] * (HALF - 1) + [True] * STEPS)
    try:
        train(
            run_config,
            store(),
            engine,
            checkpoints=Checkpoints(folder, "probe"),
            on_metrics=seen.append,
            should_stop=lambda: next(flags),
        )
    except Stopped:
        return
    raise AssertionError("the run should have stopped")


def zero(name: str) -> Engine:
    """The DeepSpeed engine with the settings called ``name``, in the process group that exists."""
    engine = open_engine("deepspeed")
    engine.settings = check_settings({"zero_optimization": ZERO[name]}, "probe")  # type: ignore[attr-defined]
    return engine


def cases(folder: Path, torch_engine: Engine, names: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    engines = {"torch": torch_engine, **{name: zero(name) for name in names}}
    whole = [name for name in engines if name in ("torch", "zero0")]
    for name in whole:
        for arch in ARCHS:
            yield f"{arch} {name}", run(config(arch), engines[name])
        for arch in ("modern", "lstm"):
            yield f"{arch} {name} bf16", run(config(arch, precision="bf16"), engines[name])
            yield f"{arch} {name} pieces", run(config(arch), engines[name], PIECES)
            yield f"{arch} {name} again", run(config(arch), engines[name], AGAIN)
    for name in (name for name in engines if name not in whole):
        yield f"modern {name}", run(config("modern"), engines[name])
        yield f"lstm {name} pieces again", run(config("lstm"), engines[name], Memory(1, "blocks"))
        yield f"modern {name} used", used(config("modern"), engines[name])
        yield f"lstm {name} pieces again used", used(config("lstm"), engines[name], Memory(1, "blocks"))
    for name in engines:
        yield f"modern {name} too fast", run(config("modern", lr=1e30), engines[name])
    world = torch_engine.place.world
    for name, engine in engines.items():
        arch = "lstm" if name in ("torch", "zero0", "zero2") else "modern"
        stopped = folder / f"stopped-{world}" / name
        yield (
            f"{arch} {name} from one rank",
            run(config(arch), engine, PLAIN, Checkpoints(folder / "start" / arch, "probe")),
        )
        stop_half_way(config(arch), engine, stopped)
    if "zero0" in engines:
        for first, second in (("torch", "zero0"), ("zero0", "torch")):
            held = Checkpoints(folder / f"stopped-{world}" / first, "probe")
            yield f"lstm {second} after {first}", run(config("lstm"), engines[second], PLAIN, held)


def main(folder: Path, names: list[str]) -> None:
    torch.set_num_threads(1)
    engine = open_engine("torch")
    found = dict(cases(folder, engine, names))
    if engine.place.rank == 0:
        (folder / f"world-{engine.place.world}.json").write_text(json.dumps(found))
    engine.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
