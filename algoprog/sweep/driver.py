"""Run or resume a sweep: plan in, store out. The driver is the only process that writes the store."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from algoprog.config import InputError, RunConfig
from algoprog.data.store import TokenStore
from algoprog.sweep.executors import Executor, Task
from algoprog.sweep.plan import PlannedRun
from algoprog.sweep.provenance import software
from algoprog.sweep.schema import FINISHED
from algoprog.sweep.store import Store, open_for_driving
from algoprog.sweep.sweep_file import SweepConfig
from algoprog.training.shape import shape_of


class Progress(Protocol):
    """Who watches: told of every change, and regularly."""

    def begin(self, total: int, done: int) -> None: ...
    def started(self, run: Mapping[str, Any]) -> None: ...
    def advanced(self, run: Mapping[str, Any], row: Mapping[str, Any]) -> None: ...
    def ended(self, run: Mapping[str, Any], outcome: str, result: Mapping[str, Any] | None) -> None: ...
    def tick(self) -> None: ...
    def end(self) -> None: ...


@dataclass(frozen=True)
class SweepSummary:
    """How many runs of the plan are in which state, and how many were executed by this call."""

    planned: int
    executed: int
    states: Mapping[str, int]

    @property
    def complete(self) -> bool:
        """Whether every run ended: done or diverged."""
        return sum(self.states.get(state, 0) for state in FINISHED) == self.planned


def run_sweep(
    sweep: SweepConfig,
    runs: Sequence[PlannedRun],
    tokens: TokenStore,
    executor: Executor,
    out: Path,
    progress: Progress,
    later: Callable[[Store], Sequence[PlannedRun]] = lambda store: (),
) -> SweepSummary:
    """Execute the runs that the store in ``out`` does not hold as finished, then those that follow from their losses.

    ``later`` is asked, between executions, what is to be done given what the store holds, until nothing new comes.

    Raises:
        InputError: the store cannot be driven (locked, newer, unwritable), or holds runs on other data.
        KeyboardInterrupt: passed on after workers have saved; the same call continues.
    """
    with open_for_driving(out) as store:
        _check_same_data(store, tokens)
        store.set_meta(describe_sweep(sweep, tokens, out))
        planned: set[str] = set()
        executed = 0
        while runs:
            rows = [run.row(tokens.fingerprint) for run in runs]
            new = [row for row in rows if row["digest"] not in planned]
            if not new:
                break  # what is asked for again has failed; the next call tries it again
            store.add_runs(new)
            if not planned:
                store.reset_interrupted()
            planned.update(row["digest"] for row in new)
            executed += _execute(store, planned, executor, progress)
            runs = later(store)
        return SweepSummary(
            len(planned), executed, count_states(run for run in store.runs() if run["digest"] in planned)
        )


def _execute(store: Store, planned: set[str], executor: Executor, progress: Progress) -> int:
    """Run what is planned and not yet ended; returns how many runs that were."""
    known = {run["digest"]: run for run in store.runs() if run["digest"] in planned}
    over = (*FINISHED, "failed")
    tasks = [
        Task(digest, run["config"], cost=run["flops"], group=_group(run["config"]))
        for digest, run in known.items()
        if run["state"] not in over
    ]
    progress.begin(len(known), len(known) - len(tasks))
    try:
        executor.run(tasks, _Recorder(store, known, progress))
    finally:
        progress.end()
    return len(tasks)


def _group(config: Mapping[str, Any]) -> str:
    """Runs of one group share what a worker builds."""
    try:
        return shape_of(RunConfig.model_validate(config))
    except ValueError:  # not a config: the worker that gets it says why
        return ""


def _check_same_data(store: Store, tokens: TokenStore) -> None:
    """Losses compare only on one validation split, so one store holds runs on one token store."""
    before = store.meta().get("data", {}).get("fingerprint")
    if before not in (None, tokens.fingerprint):
        raise InputError(
            "this folder holds runs on other data",
            where=store.folder,
            got=f"fingerprint {tokens.fingerprint[:16]}",
            expected=f"{before[:16]}",
            remedy="choose another --out; losses compare only on one validation split",
        )


def count_states(runs: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """How many of the store's runs are in each state."""
    counts: dict[str, int] = {}
    for run in runs:
        counts[run["state"]] = counts.get(run["state"], 0) + 1
    return counts


def describe_sweep(sweep: SweepConfig, tokens: TokenStore, out: Path) -> dict[str, Any]:
    """What the store says about itself: the plan, the data, the software and the command that repeats it."""
    return {
        "sweep": sweep.model_dump(mode="json"),
        "data": {
            "fingerprint": tokens.fingerprint,
            "train_tokens": len(tokens.train),
            "validation_tokens": len(tokens.validation),
            "validation_bytes": tokens.validation_bytes,
            **json.loads(json.dumps(dict(tokens.meta), default=str)),
        },
        "software": software(),
        "command": command_line(),
    }


def command_line() -> str:
    """The command that started this process, by its public name."""
    arguments = [Path(sys.argv[0]).name, *sys.argv[1:]]
    return shlex.join(["algoprog" if arguments[0] in ("__main__.py", "cli.py") else arguments[0], *arguments[1:]])


class _Recorder:
    """Writes what workers report into the store and shows it."""

    def __init__(self, store: Store, runs: Mapping[str, Mapping[str, Any]], progress: Progress) -> None:
        self.store, self.runs, self.progress = store, runs, progress

    def started(self, digest: str, worker: str, provenance: Mapping[str, Any]) -> None:
        self.store.start_attempt(digest, worker, provenance)
        self.progress.started(self.runs[digest])

    def metrics(self, digest: str, rows: Sequence[Mapping[str, Any]]) -> None:
        self.store.add_metrics(digest, rows)
        self.progress.advanced(self.runs[digest], rows[-1])

    def ended(self, digest: str, outcome: str, message: str | None, result: Mapping[str, Any] | None) -> None:
        self.store.end_attempt(digest, outcome, message, result)
        self.progress.ended(self.runs[digest], outcome, result)

    def tick(self) -> None:
        self.progress.tick()
