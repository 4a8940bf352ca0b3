"""Token files that are checked while they are read: a sha256 for every block of 64 KiB, kept beside the tokens.

A file that is hashed whole at open can still change under a run of days, and a file too large to hash at open would not be
checked at all. So a block is checked before anything is first read from it, and one block that was checked before is checked
again at every 256th read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

BLOCK_BYTES = 1 << 16
DIGEST_BYTES = hashlib.sha256().digest_size
RECHECK_EVERY = 256

Complain = Callable[[int, str, str], Exception]


def block_digests(path: Path) -> bytes:
    """The sha256 of every block of a file, 32 bytes each, one after another; the last block may be shorter."""
    digests = []
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digests.append(hashlib.sha256(block).digest())
    return b"".join(digests)


class CheckedTokens(np.memmap):
    """A read-only memory map of ids [n] that checks the blocks which an index touches.

    Indexing gives plain arrays. What takes the whole array without an index (``np.asarray``, a ufunc) does not check;
    :meth:`check_all` does.
    """

    _digests: bytes
    _checked: npt.NDArray[np.bool_]
    _reads: int
    _complain: Complain

    @classmethod
    def open(
        cls, path: Path, dtype: np.dtype[Any], digests: bytes, complain: Complain, *, trusted: bool
    ) -> CheckedTokens:
        """Map ``path``. ``trusted``: the caller has just checked the whole file, so that only rechecks remain.

        ``complain(block, expected, found)`` makes the exception for a damaged block. The caller has checked that ``digests``
        holds 32 bytes for every block of the file.
        """
        tokens = cls(path, dtype=dtype, mode="r")
        tokens._digests = digests
        tokens._checked = np.full(len(digests) // DIGEST_BYTES, trusted)
        tokens._reads = 0
        tokens._complain = complain
        return tokens

    def __getitem__(self, index: Any) -> Any:
        plain = np.asarray(self)
        if not hasattr(self, "_digests"):  # a view that numpy made, not the mapped file
            return plain[index]
        self._check(index)
        return plain[index]

    def check_all(self) -> None:
        """Check every block that has not been checked yet."""
        self._check_blocks(np.flatnonzero(~self._checked))

    def _check(self, index: Any) -> None:
        if not self._checked.all():
            touched = self._blocks_of(index)
            self._check_blocks(np.unique(touched[~self._checked[touched]]))
        self._reads += 1
        if self._reads % RECHECK_EVERY == 0:
            known = np.flatnonzero(self._checked)
            self._check_blocks(known[[self._reads // RECHECK_EVERY % len(known)]])

    def _blocks_of(self, index: Any) -> npt.NDArray[np.intp]:
        """Numbers of the blocks that an index reads; all of them for kinds of index that training does not use."""
        per_block = BLOCK_BYTES // self.dtype.itemsize
        if isinstance(index, np.ndarray) and index.dtype.kind in "iu":
            found: npt.NDArray[np.intp] = (np.where(index < 0, index + len(self), index) // per_block).ravel()
            # An index beyond the end is left to numpy's own complaint.
            return np.clip(found, 0, len(self._checked) - 1)
        if isinstance(index, int | np.integer):
            index = slice(index, index + 1 or None)
        if isinstance(index, slice):
            places = range(len(self))[index]
            if not places:
                return np.empty(0, dtype=np.intp)
            low, high = sorted((places[0], places[-1]))
            return np.arange(low // per_block, high // per_block + 1)
        return np.arange(len(self._checked))

    def _check_blocks(self, blocks: npt.NDArray[np.intp]) -> None:
        data = np.asarray(self).data.cast("B")
        for block in blocks.tolist():
            found = hashlib.sha256(data[block * BLOCK_BYTES : (block + 1) * BLOCK_BYTES]).digest()
            expected = self._digests[block * DIGEST_BYTES : (block + 1) * DIGEST_BYTES]
            if found != expected:
                raise self._complain(block, expected.hex(), found.hex())
            self._checked[block] = True
