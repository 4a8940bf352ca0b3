"""A prepared token store on disk: two arrays of ids, their tokenizer, and what is known about them.

    train.bin, validation.bin   ids, little-endian uint16 (vocabulary up to 65536) or uint32
    tokenizer.json              see :mod:`algoprog.data.tokenizer`
    blocks.sha256               32 bytes for every block of 64 KiB of train.bin, then of validation.bin
    meta.json                   counts, licence, provenance, baselines, sha256 of the other files, and of itself

Every document is followed by the end-of-text token, in both files. Stores of before ``blocks.sha256`` open as well: they are
hashed whole at open, whatever their size, and not checked again while they are read.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from algoprog.config import InputError
from algoprog.data.blocks import BLOCK_BYTES, DIGEST_BYTES, CheckedTokens, block_digests
from algoprog.data.cache import CHUNK, sha256_of
from algoprog.data.tokenizer import Tokenizer, read_tokenizer

FORMAT = 1
FILES = ("train.bin", "validation.bin", "tokenizer.json")
BLOCKS = "blocks.sha256"
HASHED_WHOLE_BYTES = (
    1 << 28
)  # about a quarter of a second; of a larger training file, blocks are hashed as they are read

Json = dict[str, Any]
Tokens = npt.NDArray[np.unsignedinteger[Any]]


@dataclass(frozen=True, eq=False)
class TokenStore:
    """Tokens ready for training. ``train`` [n] and ``validation`` [m] are read-only memory maps of ids, checked as they are
    read (:mod:`algoprog.data.blocks`).

    ``train_bytes`` and ``validation_bytes`` count the UTF-8 bytes of the documents, without end-of-text tokens: loss in
    bits per byte is ``nats_per_token * m / validation_bytes / ln 2``. ``fingerprint`` is a sha256 over the texts, the
    tokenizer, the split and the shuffle: equal fingerprints mean equal tokens.
    """

    path: Path
    train: Tokens = field(repr=False)
    validation: Tokens = field(repr=False)
    vocab: int
    end_of_text: int
    fingerprint: str
    train_bytes: int
    validation_bytes: int
    meta: Json = field(repr=False)

    def require_window(self, context: int) -> None:
        """Check that both splits hold at least one window of ``context + 1`` tokens.

        Raises:
            InputError: one does not.
        """
        for name, tokens in (("training", self.train), ("validation", self.validation)):
            if len(tokens) < context + 1:
                raise InputError(
                    f"the {name} split is shorter than one window of context {context}",
                    where=self.path,
                    got=f"{len(tokens)} tokens",
                    expected=f"at least {context + 1}",
                    remedy="use a larger corpus or a shorter context",
                )

    def tokenizer(self) -> Tokenizer:
        """The tokenizer that made these tokens."""
        return read_tokenizer(self.path / "tokenizer.json")

    def summary(self) -> Json:
        """What people ask about prepared tokens, as JSON."""
        return {
            "fingerprint": self.fingerprint,
            "vocab": self.vocab,
            "train_tokens": len(self.train),
            "validation_tokens": len(self.validation),
            "train_bytes": self.train_bytes,
            "validation_bytes": self.validation_bytes,
            "documents": self.meta["documents"],
            "baselines_nats_per_token": self.meta["baselines"],
            "licence": self.meta["licence"],
            "provenance": self.meta["provenance"],
            "folder": str(self.path),
        }


def token_dtype(vocab: int) -> np.dtype[np.unsignedinteger[Any]]:
    """The type that ids of this vocabulary are stored in."""
    return np.dtype("<u2" if vocab <= 65536 else "<u4")


def write_meta(folder: Path, meta: Json) -> None:
    """Add size and sha256 of each file, then the digest of the whole, and write ``meta.json``."""
    (folder / BLOCKS).write_bytes(block_digests(folder / "train.bin") + block_digests(folder / "validation.bin"))
    files = {
        name: {"bytes": (folder / name).stat().st_size, "sha256": sha256_of(folder / name)} for name in (*FILES, BLOCKS)
    }
    content = {"format": FORMAT, **meta, "files": files}
    text = json.dumps(content | {"sha256": _digest(content)}, indent=1, sort_keys=True, allow_nan=False)
    (folder / "meta.json").write_text(text, encoding="utf-8")


def read_store(folder: Path) -> TokenStore:
    """Open a prepared folder, after checking size and sha256 of every file and the largest id.

    A training file above ``HASHED_WHOLE_BYTES`` is checked block by block as it is read; reading then raises the same error.

    Raises:
        InputError: the folder is missing, or anything in it is not what was written.
    """
    meta = _read_meta(folder)
    lazy = meta["files"]["train.bin"]["bytes"] > HASHED_WHOLE_BYTES and BLOCKS in meta["files"]
    for name, expected in meta["files"].items():
        _check_file(folder, name, expected, whole=not (lazy and name == "train.bin"))
    splits = _map_splits(folder, meta, lazy)
    for name, tokens in splits.items():
        # A file that is not hashed yet is not scanned either: its blocks hold what was written, or raise.
        largest = 0 if lazy and name == "train" else _largest(tokens)
        if len(tokens) != meta["tokens"][name] or largest >= meta["vocab"]:
            raise _damaged(
                folder,
                f"{name}.bin",
                f"{len(tokens)} tokens, largest id {largest}",
                f"{meta['tokens'][name]} tokens, ids below {meta['vocab']}",
            )
    return TokenStore(
        path=folder,
        train=splits["train"],
        validation=splits["validation"],
        vocab=meta["vocab"],
        end_of_text=meta["end_of_text"],
        fingerprint=meta["fingerprint"],
        train_bytes=meta["bytes"]["train"],
        validation_bytes=meta["bytes"]["validation"],
        meta=meta,
    )


def _read_meta(folder: Path) -> Json:
    path = folder / "meta.json"
    if not path.is_file():
        raise InputError("no prepared tokens here", where=folder, remedy="run: algoprog data prepare")
    try:
        meta: Json = json.loads(path.read_text(encoding="utf-8"))
        expected = meta.pop("sha256")
        found = _digest(meta)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise _damaged(
            folder, "meta.json", f"unreadable ({type(error).__name__})", "JSON with its own sha256"
        ) from None
    if found != expected:
        raise _damaged(folder, "meta.json", f"sha256 {found}", f"sha256 {expected}")
    if meta["format"] != FORMAT:
        raise InputError(
            "tokens prepared by another version",
            where=path,
            got=f"format {meta['format']}",
            expected=f"format {FORMAT}",
            remedy="delete that folder and prepare again",
        )
    if not set(FILES) <= set(meta["files"]) <= {*FILES, BLOCKS}:
        raise _damaged(folder, "meta.json", f"files {sorted(meta['files'])}", f"files {[*FILES, BLOCKS]}")
    return meta


def _check_file(folder: Path, name: str, expected: Json, *, whole: bool) -> None:
    path = folder / name
    if not path.is_file():
        raise _damaged(folder, name, "no such file", f"{expected['bytes']} bytes")
    if (size := path.stat().st_size) != expected["bytes"]:
        raise _damaged(folder, name, f"{size} bytes", f"{expected['bytes']} bytes")
    if whole and (found := sha256_of(path)) != expected["sha256"]:
        raise _damaged(folder, name, f"sha256 {found}", f"sha256 {expected['sha256']}")


def _damaged(folder: Path, name: str, got: str, expected: str) -> InputError:
    return InputError(
        "the prepared tokens are damaged",
        where=folder / name,
        got=got,
        expected=expected,
        remedy=f"delete the folder {folder} and prepare again",
    )


def _digest(content: Json) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _map_splits(folder: Path, meta: Json, lazy: bool) -> dict[str, Tokens]:
    """Both files as arrays; with block digests they are checked while they are read."""
    dtype = token_dtype(meta["vocab"])
    names = ("train", "validation")
    if BLOCKS not in meta["files"]:
        return {name: np.memmap(folder / f"{name}.bin", dtype=dtype, mode="r") for name in names}
    digests = (folder / BLOCKS).read_bytes()
    sizes = [math.ceil(meta["files"][f"{name}.bin"]["bytes"] / BLOCK_BYTES) * DIGEST_BYTES for name in names]
    if len(digests) != sum(sizes):
        raise _damaged(folder, BLOCKS, f"{len(digests)} bytes", f"{sum(sizes)} bytes")
    parts = {"train": digests[: sizes[0]], "validation": digests[sizes[0] :]}
    return {
        name: CheckedTokens.open(
            folder / f"{name}.bin", dtype, part, partial(_damaged_block, folder, f"{name}.bin"),
            trusted=not (lazy and name == "train"),
        )
        for name, part in parts.items()
    }  # fmt: skip


def _damaged_block(folder: Path, name: str, block: int, expected: str, found: str) -> InputError:
    first = block * BLOCK_BYTES
    return _damaged(folder, f"{name} from byte {first}", f"sha256 {found}", f"sha256 {expected}")


def _largest(tokens: Tokens) -> int:
    whole = np.asarray(tokens)
    return max(int(whole[i : i + CHUNK].max()) for i in range(0, len(whole), CHUNK))
