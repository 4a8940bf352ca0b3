"""What keeps a worker from outliving its driver or hanging unseen: Linux's death signal, and a heartbeat with a pulse.

A heartbeat alone proves too little: it comes from a thread of its own, also while the main thread waits for ever. So each one
carries the CPU seconds of the main thread, and only their advance counts as life.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

HEARTBEAT_S = 2.0
PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it ends, also if it is stopped or stuck in C code.

    Where there is no such signal (not Linux), the closing of stdin has to do. ``parent``: the process that started this one;
    if it has gone already, nothing would tell us, so this process ends here.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)


def start_heartbeat(send: Callable[..., Any]) -> None:
    """Call ``send("alive", cpu_seconds=..., peak_bytes=...)`` every two seconds on a thread; called from the main thread."""
    clock = time.pthread_getcpuclockid(threading.get_ident())

    def beat() -> None:
        while True:
            time.sleep(HEARTBEAT_S)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            send("alive", cpu_seconds=time.clock_gettime(clock), peak_bytes=peak)

    threading.Thread(target=beat, daemon=True).start()


class Pulse:
    """When a worker last showed life, by this process's steady clock; told from its listening thread."""

    def __init__(self) -> None:
        self.peak_bytes: int | None = None
        self._cpu_seconds = 0.0
        self._last = time.monotonic()

    def hear(self, event: dict[str, Any]) -> None:
        """Any event is life, a heartbeat only if the main thread has worked since the last one."""
        if event["kind"] == "alive":
            self.peak_bytes = event["peak_bytes"]
            if event["cpu_seconds"] <= self._cpu_seconds:
                return
            self._cpu_seconds = event["cpu_seconds"]
        self.renew()

    def renew(self) -> None:
        """Start waiting anew: work has just been given, or nobody was listening for a while."""
        self._last = time.monotonic()

    def silent_s(self) -> float:
        """Seconds since the last sign of life."""
        return time.monotonic() - self._last


def describe_end(status: int, peak_bytes: int | None) -> str:
    """How a process ended, from its exit status, in words; SIGKILL may mean that memory ran out."""
    if status >= 0:
        return f"worker died with exit status {status}"
    text = f"worker died with exit status {status} ({signal.Signals(-status).name}"
    if -status == signal.SIGKILL:
        used = "" if peak_bytes is None else f"; it had used {peak_bytes / 2**20:.0f} MiB"
        text += f", which is also what the system sends when memory runs out{used}"
    return text + ")"
