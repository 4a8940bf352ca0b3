"""A report that follows its sweep: written anew whenever the store has changed, until every run has ended."""

from __future__ import annotations

import fcntl
import sys
import time
from collections.abc import Callable
from pathlib import Path

from algoprog.config import InputError
from algoprog.report.page import Written, write_report
from algoprog.report.record import NothingYet, Record, read_record
from algoprog.sweep.store import FILE, LOCK

EVERY_S = 5.0
LIVE_DRAWS = 200
ENDED = ("done", "diverged")


def watch_report(
    folder: Path, draws: int = 1000, every_s: float = EVERY_S, sleep: Callable[[float], None] = time.sleep
) -> Written:
    """Write the report of ``folder`` now and after every change of its store; return the last one, of the complete sweep.

    Until then the page loads itself anew and its intervals rest on at most 200 draws. A first finished run is waited for.
    The sweep is complete when every run has ended and nobody drives it: a search may add runs until then.

    Raises:
        InputError: there is no folder; else as ``write_report``, for anything but a sweep without a finished run.
    """
    if not folder.is_dir():
        raise InputError(
            "no such folder", where=folder, remedy="give the folder of a sweep, as in `algoprog sweep --out`"
        )
    files, record, shown = None, None, None
    while True:
        found = _state(folder)
        if found != files:
            files, record = found, _record(folder)
        if record is not None and set(record.states) <= set(ENDED) and not _driven(folder):
            return write_report(folder, draws)
        if record is not None and _content(record) != shown:
            written = write_report(folder, min(draws, LIVE_DRAWS), reload=every_s)
            print(f"report: {written.page}, {_told(record)}", file=sys.stderr, flush=True)
            shown = _content(record)
        sleep(every_s)


def _state(folder: Path) -> tuple[tuple[int, int], ...]:
    """When the store's files were written last, and their sizes."""
    stats = [path.stat() for path in (folder / FILE, folder / f"{FILE}-wal") if path.exists()]
    return tuple((stat.st_mtime_ns, stat.st_size) for stat in stats)


def _content(record: Record) -> tuple[object, ...]:
    """What changes when a run gets on: files change with every reader, too."""
    return record.states, len(record.attempts), len(record.curves)


def _record(folder: Path) -> Record | None:
    """The record, or None while there is no store or no finished run in it."""
    if not (folder / FILE).exists():
        return None
    try:
        return read_record(folder)
    except NothingYet:
        return None


def _driven(folder: Path) -> bool:
    """Whether a driver holds the store's lock. Asked of a store without open runs alone: the question holds it, too."""
    try:
        with (folder / LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _told(record: Record) -> str:
    return ", ".join(f"{number} {state}" for state, number in record.states.items())
