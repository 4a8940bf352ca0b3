"""One process per folder of a run: a file lock that the system drops with its process, and a note that says who holds it.

Whoever trains a run on its own claims its folder and the folder of its checkpoints; a worker of a sweep claims the latter. So
no two processes ever write one run's checkpoints, whichever command started them.
"""

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

    The holder may remove the folder with all that is in it.

    Args:
        wait_s: how long to wait for a holder that is about to end.

    Raises:
        InputError: another process holds it, and is named; or the folder cannot be written.
    """
    handle = _take(folder, time.monotonic() + wait_s)
    try:
        yield
    finally:
        os.close(handle)


def _take(folder: Path, deadline: float) -> int:
    """The locked file of ``folder``, with our name in it."""
    while True:
        try:
            handle = os.open(folder / NAME, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise _unwritable(folder, error) from None
        try:
            _lock(handle, folder, deadline)
            if _is_still(folder / NAME, handle):
                _sign(handle)
                return handle
        except OSError as error:
            os.close(handle)
            raise _unwritable(folder, error) from None
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # the holder before us removed the file when it was done


def _unwritable(folder: Path, error: OSError) -> InputError:
    return InputError(f"the output folder cannot be written ({error})", where=folder)


def _is_still(path: Path, handle: int) -> bool:
    """A lock on a file that has lost its name keeps nobody out."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except FileNotFoundError:
        return False


def _sign(handle: int) -> None:
    note = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    os.ftruncate(handle, 0)
    os.pwrite(handle, json.dumps(note).encode(), 0)


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
