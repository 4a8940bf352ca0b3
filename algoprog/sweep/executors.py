"""Executors run planned runs somewhere and report to the driver, who alone writes the store.

The local executor is a pool of persistent worker processes. A run that fails does not stop the others; a worker that dies
is replaced and its run tried again, up to a limit.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from algoprog.config import InputError

# A worker is a world of its own, also when its driver was started by a launcher.
LAUNCHER_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

MAX_ATTEMPTS = 2
MAX_FAILED_STARTS = 2
GRACE_S = 20.0

# Measured on CPUs: passive waiting keeps small threads from fighting over cores, and keeping freed memory in the process
# ends the page faults of large temporaries (a cross-entropy step becomes five times faster). glibc reads these only at start.
TUNED_ENVIRONMENT = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "MALLOC_MMAP_THRESHOLD_": str(2**32),
    "MALLOC_TRIM_THRESHOLD_": str(2**33),
    "MALLOC_TOP_PAD_": str(2**28),
}


@dataclass(frozen=True)
class Task:
    """One run for a worker: its name, config and expected seconds or FLOPs (only their order matters)."""

    digest: str
    config: Mapping[str, Any]
    cost: float


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


Inbox = queue.Queue[tuple["WorkerProcess", dict[str, Any] | None]]


class WorkerProcess:
    """A child process that serves runs (:mod:`algoprog.sweep.worker`); its events arrive in ``inbox`` as (worker, event).

    The event None says that the process has ended.
    """

    def __init__(self, name: str, inbox: Inbox, tokens: Path | None, threads: int, log: IO[str] | int, gpu: int | None):
        self.name = name
        self.task: Task | None = None
        self.provenance: dict[str, Any] | None = None
        environment = {**TUNED_ENVIRONMENT, **os.environ, "OMP_NUM_THREADS": str(threads)}
        for name in LAUNCHER_VARIABLES:
            environment.pop(name, None)
        if gpu is not None:
            visible = os.environ.get("CUDA_VISIBLE_DEVICES")
            environment["CUDA_VISIBLE_DEVICES"] = visible.split(",")[gpu] if visible else str(gpu)
        # A session of its own: Ctrl-C reaches the driver only, which then stops its workers in order.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "algoprog.sweep.worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment, start_new_session=True,
        )  # fmt: skip
        threading.Thread(target=self._listen, args=(inbox,), daemon=True).start()
        self.tell(threads=threads, tokens=None if tokens is None else str(tokens.absolute()))

    def _listen(self, inbox: Inbox) -> None:
        assert self._process.stdout is not None
        try:
            for line in self._process.stdout:
                inbox.put((self, json.loads(line)))
        except ValueError:
            self._process.kill()  # a line cut off by a crash; without this the driver would wait for ever
        finally:
            inbox.put((self, None))

    def tell(self, **message: Any) -> None:
        """Send an order; a dead worker is noticed when its output ends."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass

    def interrupt(self) -> None:
        """Ask it to save and give its run back."""
        self._process.send_signal(signal.SIGTERM)

    def end(self) -> int:
        """Close its input, which ends it, and return its exit status."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            return self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


@dataclass
class LocalExecutor:
    """A pool of ``workers`` processes with ``threads`` CPU threads each; worker i computes on GPU i, if any."""

    tokens: Path
    logs: Path
    checkpoints: Path
    workers: int
    threads: int
    gpus: int = 0

    def run(self, tasks: Sequence[Task], listener: Listener) -> None:
        _Pool(self, tasks, listener).run()


class _Pool:
    """One execution of a list of tasks."""

    def __init__(self, settings: LocalExecutor, tasks: Sequence[Task], listener: Listener) -> None:
        self.settings, self.listener = settings, listener
        # Longest first: the last run to finish should be a short one.
        self.waiting = deque(sorted(tasks, key=lambda task: -task.cost))
        self.attempts: dict[str, int] = {}
        self.inbox: Inbox = queue.Queue()
        self.pool: list[WorkerProcess] = []
        self.failed_starts = 0

    def run(self) -> None:
        try:
            for index in range(min(self.settings.workers, len(self.waiting))):
                self._start(index)
            while self.waiting or any(worker.task for worker in self.pool):
                self._serve_one()
                self.listener.tick()
        except KeyboardInterrupt:
            self._stop_gently()
            raise
        finally:
            for worker in self.pool:
                worker.end()

    def _start(self, index: int) -> None:
        s = self.settings
        s.logs.mkdir(parents=True, exist_ok=True)
        gpu = index % s.gpus if s.gpus else None
        with self._log(f"local-{index}").open("a") as log:
            self.pool.append(WorkerProcess(f"local-{index}", self.inbox, s.tokens, s.threads, log, gpu))

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
            else:
                self._settle(worker, event)
            self._next(worker)

    def _settle(self, worker: WorkerProcess, event: Mapping[str, Any]) -> None:
        """Record how the worker's run ended."""
        result = event.get("result")
        if result is not None:
            self.listener.ended(event["digest"], result["state"], result["message"], result)
            # Only now that the result is committed are the run's checkpoints of no more use.
            shutil.rmtree(self.settings.checkpoints / event["digest"], ignore_errors=True)
        elif event["kind"] == "failed":
            self.listener.ended(event["digest"], "failed", event["message"], None)
        else:
            self.listener.ended(event["digest"], "interrupted", "stopped on request", None)
        worker.task = None

    def _next(self, worker: WorkerProcess) -> None:
        if not self.waiting:
            return
        worker.task = task = self.waiting.popleft()
        self.attempts[task.digest] = self.attempts.get(task.digest, 0) + 1
        self.listener.started(task.digest, worker.name, worker.provenance or {})
        checkpoints = str(self.settings.checkpoints.absolute() / task.digest)
        worker.tell(kind="run", digest=task.digest, config=task.config, checkpoints=checkpoints)

    def _replace(self, worker: WorkerProcess) -> None:
        """A worker has died: its run is tried again elsewhere, up to the limit."""
        self.pool.remove(worker)
        message = f"worker died with exit status {worker.end()}; see {self._log(worker.name)}"
        self.failed_starts += worker.provenance is None
        if self.failed_starts > MAX_FAILED_STARTS:
            raise InputError("workers cannot start", where=self._log(worker.name), remedy="its log says why")
        if worker.task is not None:
            again = self.attempts[worker.task.digest] < MAX_ATTEMPTS
            self.listener.ended(worker.task.digest, "retry" if again else "failed", message, None)
            if again:
                self.waiting.append(worker.task)
        if self.waiting:
            self._start(int(worker.name.removeprefix("local-")))

    def _stop_gently(self) -> None:
        """Ask workers to save and give their runs back; whoever has not answered in time is ended without."""
        for worker in self.pool:
            worker.interrupt()
        deadline = time.monotonic() + GRACE_S
        while any(worker.task for worker in self.pool) and time.monotonic() < deadline:
            try:
                worker, event = self.inbox.get(timeout=0.5)
            except queue.Empty:
                continue
            if event is None and worker.task is not None:
                self._give_back(worker)
            elif event is not None and event["kind"] == "metrics":
                self.listener.metrics(event["digest"], event["rows"])
            elif event is not None and event["kind"] != "ready":
                self._settle(worker, event)
        for worker in self.pool:
            if worker.task is not None:
                self._give_back(worker)

    def _give_back(self, worker: WorkerProcess) -> None:
        assert worker.task is not None
        self.listener.ended(worker.task.digest, "interrupted", "stopped without saving", None)
        worker.task = None


def time_shapes(
    configs: Sequence[Mapping[str, Any]], threads: int, tell: Callable[[int], None]
) -> list[dict[str, Any]]:
    """Seconds per step and peak memory of each config, in one fresh worker; ``tell`` hears how many are done.

    Raises:
        InputError: a shape cannot run here (for example, it does not fit into memory).
    """
    inbox: Inbox = queue.Queue()
    worker = WorkerProcess("timing", inbox, None, threads, subprocess.DEVNULL, None)
    costs: list[dict[str, Any]] = []
    try:
        if inbox.get()[1] is None:
            raise InputError("the timing process cannot start", remedy="`python -m algoprog.sweep.worker` says why")
        for config in configs:
            worker.tell(kind="time", config=config)
            _, event = inbox.get()
            if event is None or event["kind"] != "timed":
                reason = "the process died" if event is None else event["message"]
                raise InputError(f"{config['arch']} at width {config['model']['width']} cannot run here: {reason}")
            costs.append(event)
            tell(len(costs))
    finally:
        worker.end()
    return costs
