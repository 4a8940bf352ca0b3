"""Files that are on the disk when a function returns, written through calls of the ``os`` module and nothing else.

Every function here calls the system by its name in :mod:`os`, one operation a line, so that a test can stop the process
before and after each of them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from algoprog.data.cache import sync

Chunk = bytes | memoryview


def write_durably(path: Path, chunks: Iterable[Chunk]) -> tuple[int, str]:
    """Create ``path`` out of ``chunks``, force it to the disk, and return its size in bytes and its sha256.

    The hash is of the bytes handed over, not of bytes read back: what a disk or a cable changes later is found.

    Raises:
        OSError: the file exists or cannot be written.
    """
    digest, size = hashlib.sha256(), 0
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        for chunk in chunks:
            digest.update(chunk)
            size += len(chunk)
            _write_all(handle, chunk)
        os.fsync(handle)
    finally:
        os.close(handle)
    return size, digest.hexdigest()


def _write_all(handle: int, chunk: Chunk) -> None:
    """The system may take a part only: a signal, a limit, more than 2 GiB at once."""
    rest = memoryview(chunk)
    while rest:
        rest = rest[os.write(handle, rest) :]


def rename_durably(source: Path, target: Path) -> None:
    """Give a folder its name, all of its entries first on the disk, then the name itself.

    Raises:
        OSError: ``target`` is a folder with entries, or the system refuses.
    """
    sync(source)
    os.rename(source, target)
    sync(target.parent)


def remove_folder(folder: Path) -> None:
    """Remove a flat folder: first it loses its name, then its files. Killed in between, it leaves a ``.partial`` one.

    A folder that is already gone is no error.
    """
    doomed = folder if ".partial-" in folder.name else folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    try:
        if doomed != folder:
            os.rename(folder, doomed)
        for path in sorted(doomed.iterdir()):
            os.unlink(path)
        os.rmdir(doomed)
    except FileNotFoundError:
        return
