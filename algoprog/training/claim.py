"""One process per run folder: a file lock that the system drops with its process, and a note that says who holds it."""

from __future__ import annotations

import datetime
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from algoprog.config import InputError

NAME = ".claim"


@contextmanager
def claimed(folder: Path, wait_s: float = 0.0) -> Iterator[None]:
    """Hold ``folder`` while inside. Whoever dies holding it holds it no more, so there are no stale claims.

    Args:
        wait_s: how long to wait for a holder that is about to end.

    Raises:
        InputError: another process holds it, and is named; or the folder cannot be written.
    """
    try:
        handle = os.open(folder / NAME, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise InputError(f"the output folder cannot be written ({error})", where=folder) from None
    try:
        _lock(handle, folder, time.monotonic() + wait_s)
        note = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(note).encode(), 0)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, folder: Path, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(0.05)
                continue
            raise InputError(
                "another process works on this run",
                where=folder,
                got=_holder(handle),
                expected="one process per run",
                remedy="wait for it or stop it, or choose another --out",
            ) from None
        except OSError as error:
            raise InputError(
                f"this file system has no locks ({error.strerror})",
                where=folder,
                remedy="choose an --out on a local disk",
            ) from None


def _holder(handle: int) -> str:
    try:
        note = json.loads(os.pread(handle, 4096, 0))
        return f"process {note['pid']} on {note['host']} since {note['since']}"
    except (ValueError, KeyError, TypeError):
        return "a process that has not given its name"
