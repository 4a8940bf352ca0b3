"""A worker process: takes runs as JSON lines on stdin, sends events as JSON lines on stdout.

It keeps the token store open and what it has built for a shape between runs, and trains several runs in turn if it is given
several. It dies at once when its driver does (stdin closes, and the kernel sends a signal
should it be stuck), tells the driver regularly that it works, and saves and gives its run back when told to stop (SIGTERM).
Only the driver touches the sweep's store.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from algoprog.sweep.watch import die_with, start_heartbeat

METRICS_EVERY_S = 1.0


class Mailbox:
    """Orders from the driver, read on a thread so that a vanished driver is noticed in the middle of a run."""

    def __init__(self, source: TextIO) -> None:
        self._orders: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=self._read, args=(source,), daemon=True).start()

    def _read(self, source: TextIO) -> None:
        for line in source:
            self._orders.put(json.loads(line))
        os._exit(0)

    def next(self, wait: bool) -> dict[str, Any] | None:
        """The oldest order that has not been taken; None if there is none and ``wait`` is false."""
        try:
            return self._orders.get(block=wait)
        except queue.Empty:
            return None


class Reporter:
    """Events to the driver; metric rows travel in batches."""

    def __init__(self, sink: TextIO) -> None:
        self._sink = sink
        self._lock = threading.Lock()
        self._rows: dict[str, list[dict[str, Any]]] = {}
        self._last: dict[str, float] = {}

    def send(self, kind: str, **values: Any) -> None:
        line = json.dumps({"kind": kind, **values}, allow_nan=False) + "\n"
        with self._lock:  # the heartbeat comes from a thread of its own
            self._sink.write(line)
            self._sink.flush()

    def metrics(self, digest: str, row: dict[str, Any]) -> None:
        self._rows.setdefault(digest, []).append(row)
        if time.monotonic() - self._last.setdefault(digest, time.monotonic()) > METRICS_EVERY_S:
            self.flush(digest)

    def flush(self, digest: str) -> None:
        """Send what is left of a run's rows."""
        rows = self._rows.pop(digest, [])
        if rows:
            self.send("metrics", digest=digest, rows=rows)
        self._last[digest] = time.monotonic()


def main() -> None:
    """Serve until stdin closes."""
    # Events alone go to the driver: whatever else prints, Python or a C library, ends up in the log.
    sink = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    reporter, mailbox = Reporter(sink), Mailbox(sys.stdin)
    began = time.monotonic()
    hello = mailbox.next(wait=True)
    assert hello is not None
    die_with(hello["parent"])
    start_heartbeat(reporter.send)

    import torch

    from algoprog.data.store import read_store
    from algoprog.sweep.provenance import hardware, software
    from algoprog.sweep.serve import Service
    from algoprog.training.determinism import switch_determinism, wants_determinism
    from algoprog.training.engines import open_engine

    torch.set_num_threads(hello["threads"])
    store = read_store(Path(hello["tokens"])) if hello["tokens"] else None
    engine = open_engine("torch")
    switch_determinism(wants_determinism(None, engine.place.device))
    reporter.send("ready", provenance={**software(), **hardware()})
    service = Service(store, engine, reporter, stopping, hello["slots"], hello["execution"], time.monotonic() - began)
    while True:
        order = mailbox.next(wait=not service.busy)
        if order is None:
            service.turn()
        elif order["kind"] == "time":
            _serve_timing(order, engine, reporter)
        else:
            service.start(order)


def _serve_timing(order: dict[str, Any], engine: Any, reporter: Reporter) -> None:
    from algoprog.config import RunConfig
    from algoprog.training.calibrate import time_step

    try:
        cost = time_step(RunConfig.model_validate(order["config"]), engine)
        reporter.send("timed", **asdict(cost))
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        reporter.send("failed", digest=None, message=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
