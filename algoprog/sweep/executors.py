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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from algoprog.config import InputError
from algoprog.sweep.groups import GroupedQueue
from algoprog.sweep.watch import Pulse, describe_end

# A worker is a world of its own, also when its driver was started by a launcher.
LAUNCHER_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

MAX_ATTEMPTS = 2
MAX_FAILED_STARTS = 2
GRACE_S = 20.0
# A worker that did nothing for so long hangs: no step, evaluation or compilation leaves its main thread idle for minutes.
HANGS_AFTER_S = 600.0
LONGEST_PAUSE_S = 30.0

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


Inbox = queue.Queue[tuple["WorkerProcess", dict[str, Any] | None]]


class WorkerProcess:
    """A child process that serves runs (:mod:`algoprog.sweep.worker`); its events arrive in ``inbox`` as (worker, event).

    The event None says that the process has ended.
    """

    def __init__(
        self,
        name: str,
        inbox: Inbox,
        tokens: Path | None,
        threads: int,
        log: IO[str] | int,
        gpu: int | None,
        slots: int = 1,
        execution: str = "auto",
        tuned: bool = True,
    ):
        """``slots`` is the number of runs at once, 0 if the worker shall find it out; it then says so by events.

        ``tuned`` says whether it starts with :data:`TUNED_ENVIRONMENT`; variables that the user has set win either way.
        """
        self.name = name
        self.tasks: dict[str, Task] = {}
        self.provenance: dict[str, Any] | None = None
        self.pulse = Pulse()
        settings = TUNED_ENVIRONMENT if tuned else {}
        environment = {**settings, **os.environ, "OMP_NUM_THREADS": str(threads)}
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
        folder = None if tokens is None else str(tokens.absolute())
        self.tell(threads=threads, tokens=folder, parent=os.getpid(), slots=slots, execution=execution)
        self.slots = slots or 1

    def _listen(self, inbox: Inbox) -> None:
        assert self._process.stdout is not None
        try:
            for line in self._process.stdout:
                event = json.loads(line)
                self.pulse.hear(event)
                if event["kind"] != "alive":
                    inbox.put((self, event))
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

    def kill(self) -> None:
        """End it without asking, also if it is stopped or stuck."""
        self._process.kill()

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
            # Only now that the result is committed are the run's checkpoints of no more use.
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
