"""What a step of each shape costs here, measured in one fresh worker."""

from __future__ import annotations

import queue
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from algoprog.config import InputError
from algoprog.sweep.worker_process import Inbox, WorkerProcess


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
