"""Progress of a sweep on stderr: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


def show_progress() -> LiveProgress | PlainProgress:
    """A live display if stderr is a terminal, else lines."""
    return LiveProgress() if sys.stderr.isatty() else PlainProgress()


def _name(run: Mapping[str, Any]) -> str:
    return f"{run['arch']} {run['width']}"


def _fraction_done(run: Mapping[str, Any], row: Mapping[str, Any]) -> float:
    return float(row["step"] / run["steps"])


class PlainProgress:
    """One line per finished run."""

    def __init__(self) -> None:
        self._done = self._total = 0
        self._began = time.monotonic()

    def begin(self, total: int, done: int) -> None:
        self._total, self._done = total, done
        self._say(f"{total} runs planned, {done} finished before, {total - done} to do")

    def started(self, run: Mapping[str, Any]) -> None: ...

    def advanced(self, run: Mapping[str, Any], row: Mapping[str, Any]) -> None: ...

    def ended(self, run: Mapping[str, Any], outcome: str, result: Mapping[str, Any] | None) -> None:
        self._done += outcome in ("done", "diverged", "failed")
        loss = f"  loss {result['loss']:.4f}" if result and result["loss"] is not None else ""
        self._say(f"[{self._done}/{self._total}] {_name(run):16} {run['flops']:.2e} FLOPs  {outcome}{loss}")

    def tick(self) -> None: ...

    def end(self) -> None: ...

    def _say(self, text: str) -> None:
        print(f"{time.monotonic() - self._began:7.1f}s  {text}", file=sys.stderr, flush=True)


class LiveProgress:
    """A bar over the sweep's FLOPs-weighted work, with the runs in flight beside it."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("sweep"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[now]}"),
            console=self._console,
        )  # fmt: skip
        self._running: dict[str, str] = {}

    def begin(self, total: int, done: int) -> None:
        self._task = self._bar.add_task("runs", total=total, completed=done, now="")
        self._bar.start()

    def started(self, run: Mapping[str, Any]) -> None:
        self._running[run["digest"]] = f"{_name(run)} 0%"

    def advanced(self, run: Mapping[str, Any], row: Mapping[str, Any]) -> None:
        self._running[run["digest"]] = f"{_name(run)} {_fraction_done(run, row):.0%} loss {row['loss']:.3f}"

    def ended(self, run: Mapping[str, Any], outcome: str, result: Mapping[str, Any] | None) -> None:
        self._running.pop(run["digest"], None)
        if outcome in ("done", "diverged", "failed"):
            self._bar.advance(self._task)
        if outcome not in ("done", "interrupted"):
            self._console.print(f"{_name(run)} {run['flops']:.2e} FLOPs: {outcome}")

    def tick(self) -> None:
        self._bar.update(self._task, now=" | ".join(self._running.values()))

    def end(self) -> None:
        self._bar.stop()
