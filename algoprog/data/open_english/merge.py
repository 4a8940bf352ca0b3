"""Merging: drop junk, exact copies and near copies of paragraphs, keep documents with enough left.

A paragraph is compared by its lower-case words, with numbers, paths and identifiers masked. An exact copy of an earlier
one goes, and so does one most of whose runs of ten words have been seen before: more than half in manuals, more than
four fifths in prose. Seen runs are kept in a Bloom filter of 2^31 bits with three probes: after 80 million runs it
claims about one in a thousand that was not there, and it makes the result independent of Python's hash seed.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

RUN = 10
FILTER_BITS = 31
SHORT = 8
SMALLEST_DOCUMENT = 200

IDENTIFIER = re.compile(r"\S*[A-Za-z]\S*[A-Z_0-9./:()\\]\S*|\S*\d\S*")
CAMEL = re.compile(r"[a-z][A-Z]")
NOT_WORD = re.compile(r"[^a-z ]+")

Hashes = npt.NDArray[np.uint64]


def words_of(paragraph: str) -> list[str]:
    """Lower-case words; whatever looks like a number, a path or an identifier becomes ``x``."""
    return NOT_WORD.sub(" ", IDENTIFIER.sub(_mask, paragraph).lower()).split()


def _mask(match: re.Match[str]) -> str:
    word = match[0]
    return word if word.rstrip(".,;:)\"'").isalpha() and not CAMEL.search(word) else " x "


def is_junk(paragraph: str) -> bool:
    """Lines too long for prose, lists of links, tables, and code that slipped through."""
    words = paragraph.split()
    if not words or len(paragraph) > 8000 or max(map(len, words)) > 80 or sum(map(len, words)) > 9.5 * len(words):
        return True
    if sum(word.startswith(("http", "www.")) for word in words) > max(1, 0.08 * len(words)):
        return True
    return any(paragraph.count(mark) > most for mark, most in (("|", 4), ("<", 4), ("{", 3), ("\\", 8)))


@dataclass
class Counts:
    """Bytes of paragraphs, by what became of them."""

    read: int = 0
    kept: int = 0
    junk: int = 0
    exact: int = 0
    near: int = 0
    documents: int = 0


@dataclass
class Merger:
    """Remembers every paragraph kept so far. Feed it the documents in merging order."""

    filter_bits: int = FILTER_BITS
    seen: set[bytes] = field(default_factory=set)
    words: dict[str, int] = field(default_factory=dict)
    runs: npt.NDArray[np.uint8] = field(init=False)

    def __post_init__(self) -> None:
        self.runs = np.zeros(1 << (self.filter_bits - 3), dtype=np.uint8)

    def clean(self, paragraphs: list[str], *, prose: bool, strict: bool, counts: Counts) -> list[str]:
        """The paragraphs worth keeping; an empty list if too little of the document is left."""
        kept = [p for p in paragraphs if self._is_new(p, prose=prose, strict=strict, counts=counts)]
        if not prose and sum(map(len, kept)) < SMALLEST_DOCUMENT:
            return []
        counts.kept += sum(len(p.encode()) + 2 for p in kept)
        counts.documents += bool(kept)
        return kept

    def _is_new(self, paragraph: str, *, prose: bool, strict: bool, counts: Counts) -> bool:
        size = len(paragraph.encode()) + 2
        counts.read += size
        if strict and is_junk(paragraph):
            counts.junk += size
            return False
        words = words_of(paragraph)
        if prose and len(words) < SHORT:
            return True  # headings, lines of verse: short ones may repeat
        digest = hashlib.blake2b(" ".join(words).encode(), digest_size=16).digest()
        if digest in self.seen:
            counts.exact += size
            return False
        self.seen.add(digest)
        probes = self._probes(self._run_hashes(words))
        if len(words) >= RUN and self._share_seen(probes) > (0.8 if prose else 0.5):
            counts.near += size
            return False
        np.bitwise_or.at(self.runs, (probes >> np.uint64(3)).ravel(), _bit(probes).ravel())
        return True

    def _run_hashes(self, words: list[str]) -> Hashes:
        """A 64-bit hash of every run of ten words, or of all words if there are fewer."""
        ids = np.array([self._word(word) for word in words] or [0], dtype=np.uint64)
        runs = np.lib.stride_tricks.sliding_window_view(ids, min(RUN, len(ids)))
        hashes: Hashes = runs @ _POWERS[: runs.shape[1]]  # modulo 2^64
        return hashes

    def _word(self, word: str) -> int:
        found = self.words.get(word)
        if found is None:
            found = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
            self.words[word] = found
        return found

    def _probes(self, hashes: Hashes) -> Hashes:
        """Three places in the filter for each hash, [3, n]."""
        keep = np.uint64(64 - self.filter_bits)
        return np.stack([(hashes * multiplier) >> keep for multiplier in _MULTIPLIERS])

    def _share_seen(self, probes: Hashes) -> float:
        hit = (self.runs[probes >> np.uint64(3)] & _bit(probes)) != 0
        return float(hit.all(axis=0).mean())


def _bit(probes: Hashes) -> npt.NDArray[np.uint8]:
    return np.left_shift(np.uint8(1), (probes & np.uint64(7)).astype(np.uint8))


_POWERS = np.array([pow(0x9E3779B97F4A7C15, i + 1, 1 << 64) for i in range(RUN)], dtype=np.uint64)
_MULTIPLIERS = [np.uint64(m) for m in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)]
