"""Where prepared data lives, and how a folder appears there whole or not at all.

A folder is written beside its final name, synced, and renamed. A crash leaves either nothing or a ``.partial-`` folder,
which the next build of the same folder removes. A file lock, which the system drops with its process, makes sure that
two processes never build the same folder at the same time.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from algoprog.config import InputError

CHUNK = 1 << 22


def default_cache_dir() -> Path:
    """``$ALGOPROG_CACHE``, else ``$XDG_CACHE_HOME/algoprog``, else ``~/.cache/algoprog``. Not created here."""
    if own := os.environ.get("ALGOPROG_CACHE"):
        return Path(own)
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared) / "algoprog"
    return Path.home() / ".cache" / "algoprog"


def sha256_of(path: Path) -> str:
    """The sha256 of a file's bytes, in hex, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()


def build_once(final: Path, build: Callable[[Path], None]) -> None:
    """Make the folder ``final`` out of what ``build`` writes into the empty folder it is given.

    Returns at once if ``final`` exists, also if another process made it while this one waited for the lock.

    Raises:
        InputError: the disk is full, read-only or not writable; nothing is left behind.
    """
    if final.exists():
        return
    with disk_errors(final.parent):
        final.parent.mkdir(parents=True, exist_ok=True)
        with _locked(final.with_name(final.name + ".lock")):
            _sweep(final)
            if not final.exists():
                _build_and_rename(final, build)


def _build_and_rename(final: Path, build: Callable[[Path], None]) -> None:
    stage = final.with_name(f"{final.name}.partial-{os.getpid()}")
    try:
        stage.mkdir()
        build(stage)
        for path in sorted(stage.rglob("*")):
            sync(path)
        sync(stage)
        os.rename(stage, final)
        sync(final.parent)
    finally:
        shutil.rmtree(stage, ignore_errors=True)  # after the rename there is nothing of this name


def _sweep(final: Path) -> None:
    """Remove what a killed build of this folder left. Only called with the lock held, so nobody is writing it."""
    for leftover in final.parent.glob(f"{final.name}.partial-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def sync(path: Path) -> None:
    """Force a file or a folder's entries to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            raise InputError(
                f"this file system has no locks ({error.strerror})",
                where=path.parent,
                remedy="set ALGOPROG_CACHE to a folder on a local disk",
            ) from None
        yield


@contextmanager
def disk_errors(where: Path) -> Iterator[None]:
    """Turn a full, read-only or protected disk into an :class:`InputError`; other errors pass unchanged."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(
                "the disk is full; nothing was kept",
                where=where,
                remedy="free some space, or set ALGOPROG_CACHE to a folder on a larger disk",
            ) from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR):
            raise InputError(
                f"cannot be written: {error.strerror}",
                where=error.filename or where,
                remedy="set ALGOPROG_CACHE to a folder you may write to",
            ) from error
        raise
