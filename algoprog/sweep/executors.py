"""What an executor is: planned runs go in, reports come out to the driver, who alone writes the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Task:
    """One run for a worker: its name, config, expected seconds or FLOPs (only their order matters), and the group of runs
    that share a built model with it."""

    digest: str
    config: Mapping[str, Any]
    cost: float
    group: str = ""


class Listener(Protocol):
    """The driver's ears; every call happens in the driver's process."""

    def started(self, digest: str, worker: str, provenance: Mapping[str, Any]) -> None: ...
    def metrics(self, digest: str, rows: Sequence[Mapping[str, Any]]) -> None: ...
    def ended(self, digest: str, outcome: str, message: str | None, result: Mapping[str, Any] | None) -> None: ...
    def tick(self) -> None: ...


class Executor(Protocol):
    """Where runs are executed."""

    def run(self, tasks: Sequence[Task], listener: Listener) -> None:
        """Execute all tasks, reporting as they go. On KeyboardInterrupt, stop workers gently and re-raise."""
