"""A worker process: takes runs as JSON lines on stdin, sends events as JSON lines on stdout.

It keeps the token store open between runs. It dies at once when its driver does (stdin closes), and saves and gives its run
back when told to stop (SIGTERM). Only the driver touches the sweep's store.
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

    def next(self) -> dict[str, Any]:
        return self._orders.get()


class Reporter:
    """Events to the driver; metric rows travel in batches."""

    def __init__(self, sink: TextIO) -> None:
        self._sink = sink
        self._rows: list[dict[str, Any]] = []
        self._last = time.monotonic()

    def send(self, kind: str, **values: Any) -> None:
        self._sink.write(json.dumps({"kind": kind, **values}, allow_nan=False) + "\n")
        self._sink.flush()

    def metrics(self, digest: str, row: dict[str, Any]) -> None:
        self._rows.append(row)
        if time.monotonic() - self._last > METRICS_EVERY_S:
            self.flush(digest)

    def flush(self, digest: str) -> None:
        if self._rows:
            self.send("metrics", digest=digest, rows=self._rows)
        self._rows, self._last = [], time.monotonic()


def main() -> None:
    """Serve until stdin closes."""
    # Events alone go to the driver: whatever else prints, Python or a C library, ends up in the log.
    sink = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    reporter, mailbox = Reporter(sink), Mailbox(sys.stdin)
    hello = mailbox.next()

    import torch

    from algoprog.data.store import read_store
    from algoprog.sweep.provenance import hardware, software
    from algoprog.training.engines import open_engine

    torch.set_num_threads(hello["threads"])
    store = read_store(Path(hello["tokens"])) if hello["tokens"] else None
    engine = open_engine("torch")
    reporter.send("ready", provenance={**software(), **hardware()})
    while True:
        order = mailbox.next()
        if order["kind"] == "time":
            _serve_timing(order, engine, reporter)
        else:
            _serve_run(order, store, engine, reporter, stopping)


def _serve_run(order: dict[str, Any], store: Any, engine: Any, reporter: Reporter, stopping: threading.Event) -> None:
    from algoprog.config import RunConfig
    from algoprog.training.checkpoint import Checkpoints
    from algoprog.training.loop import Stopped, train

    digest = order["digest"]
    try:
        checkpoints = Checkpoints(Path(order["checkpoints"]), digest)
        outcome = train(
            RunConfig.model_validate(order["config"]),
            store,
            engine,
            checkpoints=checkpoints,
            on_metrics=lambda row: reporter.metrics(digest, row),
            should_stop=stopping.is_set,
        )
        reporter.flush(digest)
        reporter.send("finished", digest=digest, result=asdict(outcome))
    except Stopped:
        reporter.flush(digest)
        reporter.send("stopped", digest=digest)
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        reporter.send("failed", digest=digest, message=f"{type(error).__name__}: {error}")
        if "CUDA error" in str(error):
            os._exit(1)  # the device context is lost; the driver starts another worker


def _serve_timing(order: dict[str, Any], engine: Any, reporter: Reporter) -> None:
    from algoprog.config import RunConfig
    from algoprog.training.calibrate import time_step

    try:
        cost = time_step(RunConfig.model_validate(order["config"]), engine)
        reporter.send("timed", seconds_per_step=cost.seconds_per_step, peak_memory_bytes=cost.peak_memory_bytes)
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        reporter.send("failed", digest=None, message=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
