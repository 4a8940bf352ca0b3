"""A worker as its driver sees it: a child process that takes orders on its input and reports on its output."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Any

from algoprog.sweep.executors import Task
from algoprog.sweep.watch import Pulse

# A worker is a world of its own, also when its driver was started by a launcher.
LAUNCHER_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

# Measured on CPUs: passive waiting keeps small threads from fighting over cores, and keeping freed memory in the process
# ends the page faults of large temporaries (a cross-entropy step becomes five times faster). glibc reads these only at start.
TUNED_ENVIRONMENT = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "MALLOC_MMAP_THRESHOLD_": str(2**32),
    "MALLOC_TRIM_THRESHOLD_": str(2**33),
    "MALLOC_TOP_PAD_": str(2**28),
}

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
