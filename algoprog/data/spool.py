"""All documents of a corpus in one temporary file, so that a source is read once and memory stays small."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from algoprog.config import InputError
from algoprog.data.progress import Report

SALT = b"algoprog split 1\n"


def text_digest(text: bytes) -> bytes:
    """The salted sha256 of a document's UTF-8 text: its identity, and what decides its split."""
    return hashlib.sha256(SALT + text).digest()


@dataclass(frozen=True, eq=False)
class Spool:
    """Documents i = 0..n-1 in the order of the source. ``starts`` [n+1] int64 are byte offsets into ``path``."""

    path: Path
    starts: npt.NDArray[np.int64]
    digests: list[bytes]
    empty: int

    @property
    def total_bytes(self) -> int:
        return int(self.starts[-1])

    def size(self, document: int) -> int:
        """UTF-8 bytes of one document."""
        return int(self.starts[document + 1] - self.starts[document])

    def texts(self, documents: list[int]) -> Iterator[str]:
        """The texts of these documents, in this order."""
        with self.path.open("rb") as file:
            for document in documents:
                file.seek(int(self.starts[document]))
                yield file.read(self.size(document)).decode()


def fill_spool(path: Path, documents: Iterator[str], corpus: str, report: Report) -> Spool:
    """Write all documents to ``path``. Documents without a visible character are counted and left out.

    Raises:
        InputError: a document holds lone surrogates, or no document has text.
    """
    starts, digests, empty = [0], [], 0
    with path.open("wb") as file:
        for number, text in enumerate(documents):
            if not text or text.isspace():
                empty += 1
                continue
            try:
                data = text.encode()
            except UnicodeEncodeError as error:
                raise InputError(
                    f"document {number} is not valid Unicode: {error.reason} at character {error.start}", where=corpus
                ) from None
            file.write(data)
            starts.append(starts[-1] + len(data))
            digests.append(text_digest(data))
            report(f"reading {corpus}", starts[-1], None)
    if not digests:
        raise InputError("the corpus holds no text", where=corpus, got=f"{empty} empty documents")
    return Spool(path, np.array(starts, dtype=np.int64), digests, empty)
