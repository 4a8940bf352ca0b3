"""Repeatability, restart replay, and what deterministic mode and checkpoints cost::

python benchmarks/faults/gates.py --repeats 20 --rounds 7
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from algoprog.training.checkpoint import Checkpoints  # noqa: E402
from algoprog.training.determinism import determinism  # noqa: E402
from algoprog.training.engines import open_engine  # noqa: E402
from algoprog.training.loop import Run  # noqa: E402
from algoprog.training.saver import EVERY_S  # noqa: E402
from algoprog.training.warm import Programs  # noqa: E402
from benchmarks.faults.rows import write_row  # noqa: E402
from benchmarks.faults.small_runs import ARCHES, follow, small, stop_at, tokens  # noqa: E402

STEPS = 24
COMMAND = "python benchmarks/faults/gates.py"


def repeatability(repeats: int) -> None:
    """Every repetition must equal the first, on one thread and on two."""
    engine, wrong, n = open_engine("torch"), 0, 0
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for arch in ARCHES:
            first = follow(small(arch, STEPS), tokens(), engine)
            for _ in range(repeats - 1):
                n += 1
                wrong += not follow(small(arch, STEPS), tokens(), engine).same_as(first)
    torch.set_num_threads(1)
    write_row(
        name="repeatability",
        figure=f"{repeats} runs of each of 3 architectures on 1 and on 2 threads against the first: all rows, scores, weights",
        target="equal bit for bit",
        measured=f"{n - wrong} of {n} equal",
        met=wrong == 0, n=n, failures=wrong, command=f"{COMMAND} --repeats {repeats}",
    )  # fmt: skip


def restart_replay() -> None:
    """Stop after every step in turn; the continued run must equal the undisturbed one."""
    engine, wrong, n = open_engine("torch"), 0, 0
    for arch in ARCHES:
        whole = follow(small(arch, STEPS), tokens(), engine)
        for stop in range(1, STEPS):
            with tempfile.TemporaryDirectory() as folder:
                checkpoints = Checkpoints(Path(folder), "x")
                stop_at(small(arch, STEPS), tokens(), engine, checkpoints, [stop])
                n += 1
                wrong += not follow(small(arch, STEPS), tokens(), engine, checkpoints).same_as(whole)
    write_row(
        name="restart-replay",
        figure=f"stop and restart after each step of a run of {STEPS}, 3 architectures: all rows, scores, weights, averages",
        target="equal to the undisturbed run bit for bit",
        measured=f"{n - wrong} of {n} equal",
        met=wrong == 0, n=n, failures=wrong, command=COMMAND,
    )  # fmt: skip


def ratio(
    name: str, figure: str, target: float, rounds: int, base: Callable[[], float], other: Callable[[], float]
) -> None:
    """Interleaved rounds of processor seconds; the median of their ratios, with all of them as its spread."""
    ratios = []
    base(), other()
    for _ in range(rounds):
        ratios.append(1 / base() * other())
    ranked = sorted(ratios)
    median = ranked[rounds // 2]
    write_row(
        name=name, figure=figure, target=f"at most {target:g}x", measured=f"{median:.3f}x", met=median <= target, n=rounds,
        spread=f"{ranked[0]:.3f} to {ranked[-1]:.3f}, median of interleaved rounds, processor seconds",
        command=f"{COMMAND} --rounds {rounds}",
    )  # fmt: skip


def deterministic_cost(rounds: int) -> None:
    """Training with the mode on against off, the three architectures in one figure."""

    def seconds(on: bool) -> float:
        began = time.process_time()
        for arch in ARCHES:
            with determinism(on):
                follow(small(arch, 60, model={"context": 64}), tokens(), open_engine("torch"))
        return time.process_time() - began

    ratio("deterministic-cost", "deterministic mode on against off, CPU, 3 architectures", 1.10, rounds,
          lambda: seconds(False), lambda: seconds(True))  # fmt: skip


def checkpoint_cost() -> None:
    """Seconds that one save takes from the loop and from the processor, as a share of the default interval."""
    model = {"width": 256, "heads": 4, "depth": 4, "vocab": 16_384}
    config = small("modern", 100, data={"tokenizer": "bpe-16384"})
    config = config.model_copy(update={"model": config.model.model_copy(update=model)})
    with tempfile.TemporaryDirectory() as folder:
        run = Run(config, Programs(tokens(), open_engine("torch")), checkpoints=Checkpoints(Path(folder), "x"))
        run.launch()
        run.collect()
        for mode, asynchronous in (("asynchronous", True), ("synchronous", False)):
            run.saver.asynchronous = asynchronous
            about = "written beside it (the default)" if asynchronous else "written by itself (no command does)"
            waited, used = [], []
            for _ in range(7):
                state, began, processor = run._state(run.step.done), time.monotonic(), time.process_time()
                run.saver.save(state)
                waited.append(time.monotonic() - began)
                run.saver.wait()
                used.append(time.process_time() - processor)
                run.launch()
                run.collect()
            size = sum(path.stat().st_size for path in max(Path(folder).glob("step-*")).iterdir())
            share, worst = sorted(waited)[3] / EVERY_S, max(waited) / EVERY_S
            write_row(
                name=f"checkpoint-overhead-{mode}",
                figure=f"wait of the loop for a save of {size / 1e6:.0f} MB {about}, of the default interval of {EVERY_S:g} s",
                target="at most 1 %" if asynchronous else "none, for comparison",
                measured=f"{share:.2%}",
                met=share <= 0.01 if asynchronous else None,
                n=len(waited),
                spread=f"median of {len(waited)}, slowest {worst:.2%}; processor time with the writing thread's "
                f"{sorted(used)[3] / EVERY_S:.2%}; load {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores",
                command=f"{COMMAND} --only checkpoints",
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=["checkpoints", "determinism", "restart", "repeatability"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    gates = {
        "checkpoints": checkpoint_cost,
        "determinism": lambda: deterministic_cost(options.rounds),
        "restart": restart_replay,
        "repeatability": lambda: repeatability(options.repeats),
    }
    for gate in [options.only] if options.only else gates:
        gates[gate]()


if __name__ == "__main__":
    main()
