"""A worker that trains several runs in turn reports what a worker with one run at a time reports."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from algoprog.config import BudgetConfig, DataConfig, InputError
from algoprog.data.store import TokenStore
from algoprog.recipes import resolve
from algoprog.sweep.commands import make_executor
from algoprog.sweep.executors import Task
from algoprog.sweep.local_pool import LocalExecutor
from algoprog.sweep.serve import Service
from algoprog.training.clock import PHASES
from algoprog.training.engines import Engine
from algoprog.training.shape import shape_of

Event = dict[str, Any]


def tasks_of(data: DataConfig, tokens: TokenStore) -> list[Task]:
    found = []
    for arch, seed, steps in (("modern", 0, 25), ("lstm", 0, 12), ("modern", 1, 25), ("modern", 2, 6)):
        overrides = {"batch": 4, "model": {"context": 32}}
        config = resolve(
            arch,
            8,
            BudgetConfig(tokens=steps * 128),
            data=data.model_dump(exclude_unset=True),
            lr=0.01,
            seed=seed,
            overrides=overrides,
        )
        digest = config.digest(tokens.fingerprint)
        found.append(Task(digest, config.model_dump(mode="json"), float(steps), shape_of(config)))
    return found


class Ears:
    """Hears a worker (as its reporter) or a pool of them (as its listener)."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Event]] = []
        self.results: dict[str, Mapping[str, Any] | None] = {}
        self.outcomes: dict[str, str] = {}
        self.rows: dict[str, list[Mapping[str, Any]]] = {}

    def send(self, kind: str, **values: Any) -> None:
        self.events.append((kind, values))
        if kind in ("finished", "failed"):
            self.results[values["digest"]] = values.get("result")

    def metrics(self, digest: str, row: Any) -> None:
        self.rows.setdefault(digest, []).extend(row if isinstance(row, Sequence) else [row])

    def flush(self, digest: str) -> None: ...
    def started(self, digest: str, worker: str, provenance: Mapping[str, Any]) -> None: ...

    def ended(self, digest: str, outcome: str, message: str | None, result: Mapping[str, Any] | None) -> None:
        self.outcomes[digest], self.results[digest] = outcome, result

    def tick(self) -> None: ...


def numbers(ears: Ears) -> dict[str, Any]:
    """What must not depend on who trained beside whom."""
    skipped = ("seconds", "throughput", "execution", "deterministic")
    return {
        name: ({key: value for key, value in result.items() if key not in skipped}, ears.rows[name])
        for name, result in ears.results.items()
        if result is not None
    }


def serve(tasks: list[Task], tokens: TokenStore, engine: Engine, folder: Path, slots: int) -> Ears:
    ears = Ears()
    service = Service(tokens, engine, ears, threading.Event(), slots, "auto", 1.5)
    waiting, most, running = list(tasks), 0, 0
    while waiting or service.busy:
        while waiting and running < max(slots, 1):
            task = waiting.pop(0)
            service.start(
                {"kind": "run", "digest": task.digest, "config": task.config, "checkpoints": str(folder / task.digest)}
            )
            running += 1
        most = max(most, running)
        before = len(ears.results)
        service.turn()
        running -= len(ears.results) - before
    assert most == max(slots, 1)
    return ears


def test_turns_change_nothing(data: DataConfig, tokens: TokenStore, engine: Engine, tmp_path: Path) -> None:
    tasks = tasks_of(data, tokens)
    one = serve(tasks, tokens, engine, tmp_path / "one", 1)
    three = serve(tasks, tokens, engine, tmp_path / "three", 3)
    assert len(one.results) == 4 and numbers(one) == numbers(three)
    warm = [result["execution"]["warm"] for result in one.results.values() if result]
    assert warm == [False, False, True, True]
    phases = [set(result["seconds"]) for result in one.results.values() if result]
    assert "start_up" in phases[0] and all("start_up" not in more for more in phases[1:])
    assert set().union(*phases) <= set(PHASES)


def test_a_cpu_does_not_try_several_runs_by_itself(
    data: DataConfig, tokens: TokenStore, engine: Engine, tmp_path: Path
) -> None:
    ears = serve(tasks_of(data, tokens)[:2], tokens, engine, tmp_path, 0)
    assert [kind for kind, _ in ears.events] == ["finished", "finished"]


def test_a_run_that_cannot_start_fails_alone(
    data: DataConfig, tokens: TokenStore, engine: Engine, tmp_path: Path
) -> None:
    good, *_ = tasks_of(data, tokens)
    bad = Task("bad", {**good.config, "batch": 10**7}, 1.0)
    ill = Task("ill", {"nonsense": 1}, 1.0)
    ears = serve([bad, good, ill], tokens, engine, tmp_path, 2)
    failed = {values["digest"]: values["message"] for kind, values in ears.events if kind == "failed"}
    assert set(failed) == {"bad", "ill"} and ears.results[good.digest] is not None


def test_a_pool_whose_worker_takes_several_runs(
    data: DataConfig, tokens: TokenStore, engine: Engine, tmp_path: Path
) -> None:
    """Real processes: two runs at once in one worker, to the end."""
    tasks = tasks_of(data, tokens)
    ears = Ears()
    LocalExecutor(tokens.path, tmp_path / "logs", tmp_path / "checkpoints", 1, 1, slots=2).run(tasks, ears)
    assert set(ears.outcomes.values()) == {"done"}
    assert numbers(ears) == numbers(serve(tasks, tokens, engine, tmp_path / "here", 1))


@pytest.mark.parametrize(("option", "value"), [("per_gpu", "0"), ("per_gpu", "many"), ("execution", "fast")])
def test_options_of_a_sweep_are_checked(option: str, value: str, tokens: TokenStore, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=value):
        make_executor("local", tokens, tmp_path, 1, 1, **{option: value})
