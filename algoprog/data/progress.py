"""Progress of long work: a ``rich`` bar on a terminal, one plain line per stage otherwise, always on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Report = Callable[[str, int, int | None], None]
"""Called as ``report(stage, done, total)`` with amounts in bytes; ``total`` is None while it is unknown."""


@contextmanager
def reporting(progress: bool | Report) -> Iterator[Report]:
    """What to call with progress: nothing (``False``), the caller's own function, or a bar or lines on stderr."""
    if callable(progress):
        yield progress
    elif not progress:
        yield _silent
    elif sys.stderr.isatty():
        with _bar() as report:
            yield report
    else:
        yield _Lines()


def _silent(stage: str, done: int, total: int | None) -> None:
    return None


class _Lines:
    """One line when a stage starts and, if it takes long, one every ten seconds."""

    def __init__(self) -> None:
        self.stage = ""
        self.next_line = 0.0

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if stage == self.stage and now < self.next_line:
            return
        self.stage, self.next_line = stage, now + 10
        of = f" of {total / 1e6:.1f}" if total is not None else ""
        amount = f": {done / 1e6:.1f}{of} MB" if done or total else ""
        print(f"algoprog: {stage}{amount}", file=sys.stderr, flush=True)


@contextmanager
def _bar() -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, TaskID] = {}

        def report(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total)
            bar.update(tasks[stage], completed=done, total=total)

        yield report
