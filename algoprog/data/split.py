"""Which documents are held out: decided by the text alone, never by its position, the seed or the tokenizer.

Distinct texts are sorted by a salted sha256; validation takes texts from the front, each with all its copies, until it
holds enough bytes. So every tokenizer of a corpus has the same validation text (bits per byte compare), the same text
never is in both splits, and the tokenizer can be trained on the training documents before anything is tokenized.

"Enough" is 2.75 MB, which holds more than 500,000 tokens of any tokenizer up to 5.5 bytes per token (GPT-2 on clean
English: 5.1). A corpus of less than ten times that much gives 5 % instead: evaluating every run on half a million
tokens would cost more than training the small runs that such a corpus can feed. A text that would push validation
beyond a quarter of the corpus is left to training.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass

from algoprog.config import InputError
from algoprog.data.spool import SALT, Spool

VALIDATION_BYTES = 2_750_000
AFFORDABLE_FRACTION = 0.1
SMALL_FRACTION = 0.05
LARGEST_FRACTION = 0.25

RULE: dict[str, str | int | float] = {
    "by": "sha256 of salt and text, ascending",
    "salt": SALT.decode().strip(),
    "validation_bytes": VALIDATION_BYTES,
    "affordable_fraction": AFFORDABLE_FRACTION,
    "small_fraction": SMALL_FRACTION,
    "largest_fraction": LARGEST_FRACTION,
}


@dataclass(frozen=True)
class Split:
    """Document numbers of a spool: ``train`` shuffled by the corpus seed, ``validation`` by hash, ``sample`` for BPE.

    ``sample`` lists each distinct training text once, by hash, independent of the seed.
    """

    train: list[int]
    validation: list[int]
    sample: list[int]
    duplicates: int


def split_documents(spool: Spool, seed: int, corpus: str) -> Split:
    """Divide the documents of a spool and shuffle the training ones.

    Raises:
        InputError: too few documents to hold any out.
    """
    copies: dict[bytes, list[int]] = defaultdict(list)
    for document, digest in enumerate(spool.digests):
        copies[digest].append(document)
    held_out = _hold_out(spool, copies)
    if not held_out:
        raise InputError(
            "too few documents for a validation split",
            where=corpus,
            got=f"{len(copies)} distinct documents, {spool.total_bytes} bytes",
            expected="some of at most a quarter of all text",
            remedy="add documents, or split long ones",
        )
    by_hash = sorted(copies)
    shuffled = sorted(
        (_key(seed, digest, c), copies[digest][c]) for digest in by_hash for c in range(len(copies[digest]))
    )
    held = set(held_out)
    return Split(
        train=[document for _, document in shuffled if spool.digests[document] not in held],
        validation=[document for digest in held_out for document in copies[digest]],
        sample=[copies[digest][0] for digest in by_hash if digest not in held],
        duplicates=len(spool.digests) - len(copies),
    )


def _hold_out(spool: Spool, copies: dict[bytes, list[int]]) -> list[bytes]:
    """Digests of the validation texts, in hash order."""
    most = LARGEST_FRACTION * spool.total_bytes
    affordable = AFFORDABLE_FRACTION * spool.total_bytes >= VALIDATION_BYTES
    target = VALIDATION_BYTES if affordable else SMALL_FRACTION * spool.total_bytes
    taken, held_out = 0, []
    for digest in sorted(copies):
        if taken >= target:
            break
        size = len(copies[digest]) * spool.size(copies[digest][0])
        if taken + size <= most:
            taken += size
            held_out.append(digest)
    return held_out


def _key(seed: int, digest: bytes, copy: int) -> bytes:
    """Sort key of the shuffle; it needs no random generator, and copies of one text do not end up side by side."""
    return hashlib.sha256(f"algoprog shuffle {seed} {copy} ".encode() + digest).digest()
