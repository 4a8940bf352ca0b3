"""The local executor: a pool of persistent worker processes.

A run that fails does not stop the others; a worker that dies or hangs is replaced and its runs tried again, up to a limit.
"""

from __future__ import annotations

import queue
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from algoprog.config import InputError
from algoprog.sweep.executors import Listener, Task
from algoprog.sweep.groups import GroupedQueue
from algoprog.sweep.watch import describe_end
from algoprog.sweep.worker_process import Inbox, WorkerProcess

MAX_ATTEMPTS = 2
MAX_FAILED_STARTS = 2
GRACE_S = 20.0
# A worker that did nothing for so long hangs: no step, evaluation or compilation leaves its main thread idle for minutes.
HANGS_AFTER_S = 600.0
LONGEST_PAUSE_S = 30.0


@dataclass
class LocalExecutor:
    """A pool of ``workers`` processes with ``threads`` CPU threads each; worker i computes on GPU i, if any.

    ``slots`` runs share a worker, 0: as many as are measured to pay (:mod:`algoprog.training.admission`). ``execution`` is
    that of :mod:`algoprog.training.execution`; ``tuned`` that of :class:`WorkerProcess`.
    """

    tokens: Path
    logs: Path
    checkpoints: Path
    workers: int
    threads: int
    gpus: int = 0
    slots: int = 1
    execution: str = "auto"
    tuned: bool = True
    hangs_after_s: float = HANGS_AFTER_S

    def run(self, tasks: Sequence[Task], listener: Listener) -> None:
        _Pool(self, tasks, listener).run()


class _Pool:
    """One execution of a list of tasks."""

    def __init__(self, settings: LocalExecutor, tasks: Sequence[Task], listener: Listener) -> None:
        self.settings, self.listener = settings, listener
        self.waiting = GroupedQueue(tasks)
        self.attempts: dict[str, int] = {}
        self.inbox: Inbox = queue.Queue()
        self.pool: list[WorkerProcess] = []
        self.failed_starts = 0
        self.hung: set[WorkerProcess] = set()
        self.looked = time.monotonic()

    def run(self) -> None:
        try:
            for index in range(min(self.settings.workers, len(self.waiting))):
                self._start(index)
            while self.waiting or any(worker.tasks for worker in self.pool):
                self._serve_one()
                self._kill_hung()
                self.listener.tick()
        except KeyboardInterrupt:
            self._stop_gently(self.listener)
            raise
        except (InputError, OSError) as error:
            # The store cannot be written any more, so nothing is told to it; what workers save is found by the next start.
            self._stop_gently(_Deaf())
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"the output folder cannot be written ({error})",
                where=self.settings.logs.parent,
                remedy="free some disk space or make the folder writable, then run the same command again",
            ) from None
        finally:
            for worker in self.pool:
                worker.end()

    def _start(self, index: int) -> None:
        s = self.settings
        s.logs.mkdir(parents=True, exist_ok=True)
        gpu = index % s.gpus if s.gpus else None
        with self._log(f"local-{index}").open("a") as log:
            self.pool.append(
                WorkerProcess(
                    f"local-{index}", self.inbox, s.tokens, s.threads, log, gpu, s.slots, s.execution, s.tuned
                )
            )

    def _log(self, name: str) -> Path:
        return self.settings.logs / f"{name}.log"

    def _serve_one(self) -> None:
        try:
            worker, event = self.inbox.get(timeout=0.5)
        except queue.Empty:
            return
        if event is None:
            self._replace(worker)
        elif event["kind"] == "metrics":
            self.listener.metrics(event["digest"], event["rows"])
        else:
            if event["kind"] == "ready":
                worker.provenance = event["provenance"]
                self.failed_starts = 0
            elif event["kind"] == "slots":
                worker.slots = event["slots"]
            else:
                self._settle(worker, event, self.listener)
            self._next(worker)

    def _kill_hung(self) -> None:
        """End workers that should be working and have shown no life for too long; each is then replaced like any dead one."""
        paused, self.looked = time.monotonic() - self.looked > LONGEST_PAUSE_S, time.monotonic()
        for worker in self.pool:
            if paused:  # this process was stopped, so their events may still lie in the pipes
                worker.pulse.renew()
            busy = bool(worker.tasks) or worker.provenance is None
            if busy and worker not in self.hung and worker.pulse.silent_s() > self.settings.hangs_after_s:
                self.hung.add(worker)
                worker.kill()

    def _settle(self, worker: WorkerProcess, event: Mapping[str, Any], listener: Listener) -> None:
        """Record how the worker's run ended."""
        result = event.get("result")
        if result is not None and isinstance(listener, _Deaf):
            pass  # not committed, so its checkpoints are kept: the next start takes it from there
        elif result is not None:
            listener.ended(event["digest"], result["state"], result["message"], result)
            # Only now that the result is committed are the run's checkpoints of no more use; those of a diverged run show why.
            if result["state"] == "done":
                shutil.rmtree(self.settings.checkpoints / event["digest"], ignore_errors=True)
        elif event["kind"] == "failed":
            listener.ended(event["digest"], "failed", event["message"], None)
        else:
            listener.ended(event["digest"], "interrupted", "stopped on request", None)
        worker.tasks.pop(event["digest"], None)

    def _next(self, worker: WorkerProcess) -> None:
        while self.waiting and len(worker.tasks) < worker.slots:
            task = self.waiting.take(worker.name)
            worker.tasks[task.digest] = task
            self.attempts[task.digest] = self.attempts.get(task.digest, 0) + 1
            self.listener.started(task.digest, worker.name, worker.provenance or {})
            checkpoints = str(self.settings.checkpoints.absolute() / task.digest)
            worker.pulse.renew()
            worker.tell(kind="run", digest=task.digest, config=task.config, checkpoints=checkpoints)

    def _replace(self, worker: WorkerProcess) -> None:
        """A worker has died: its runs are tried again elsewhere, up to the limit."""
        self.pool.remove(worker)
        self.waiting.leave(worker.name)
        message = f"{self._describe_end(worker)}; see {self._log(worker.name)}"
        self.failed_starts += worker.provenance is None
        if self.failed_starts > MAX_FAILED_STARTS:
            raise InputError("workers cannot start", where=self._log(worker.name), remedy="its log says why")
        for task in worker.tasks.values():
            again = self.attempts[task.digest] < MAX_ATTEMPTS
            self.listener.ended(task.digest, "retry" if again else "failed", message, None)
            if again:
                self.waiting.put(task)
        if self.waiting:
            self._start(int(worker.name.removeprefix("local-")))

    def _describe_end(self, worker: WorkerProcess) -> str:
        status = worker.end()
        if worker in self.hung:
            return f"worker hung: it did nothing for {self.settings.hangs_after_s:.0f} s and was killed"
        return describe_end(status, worker.pulse.peak_bytes)

    def _stop_gently(self, listener: Listener) -> None:
        """Ask workers to save and give their runs back; whoever has not answered in time is ended without."""
        for worker in self.pool:
            worker.interrupt()
        deadline = time.monotonic() + GRACE_S
        while any(worker.tasks for worker in self.pool) and time.monotonic() < deadline:
            try:
                worker, event = self.inbox.get(timeout=0.5)
            except queue.Empty:
                continue
            if event is None:
                self._give_back(worker, listener)
            elif event["kind"] == "metrics":
                listener.metrics(event["digest"], event["rows"])
            elif event["kind"] not in ("ready", "slots"):
                self._settle(worker, event, listener)
        for worker in self.pool:
            self._give_back(worker, listener)

    def _give_back(self, worker: WorkerProcess, listener: Listener) -> None:
        for digest in worker.tasks:
            listener.ended(digest, "interrupted", "stopped without saving", None)
        worker.tasks.clear()


class _Deaf:
    """Listens to nothing: what the workers of a sweep report whose store cannot be written."""

    def started(self, digest: str, worker: str, provenance: Mapping[str, Any]) -> None: ...
    def metrics(self, digest: str, rows: Sequence[Mapping[str, Any]]) -> None: ...
    def ended(self, digest: str, outcome: str, message: str | None, result: Mapping[str, Any] | None) -> None: ...
    def tick(self) -> None: ...
