"""From a corpus to a token store: read, split, train or load the tokenizer, encode, count, write.

``prepare`` makes the store once and opens it from then on; ``open_store`` only opens it. Where it lies follows from the
corpus, the tokenizer, the seed and the split rule, so a changed corpus never meets old tokens.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import shutil
from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

import numpy as np

from algoprog.config import DataConfig, InputError, tokenizer_vocabulary
from algoprog.data.baselines import baselines
from algoprog.data.cache import build_once, default_cache_dir, disk_errors
from algoprog.data.corpus import Corpus, load_corpus
from algoprog.data.progress import Report, reporting
from algoprog.data.split import RULE, Split, split_documents
from algoprog.data.spool import Spool, fill_spool
from algoprog.data.store import FORMAT, TokenStore, read_store, token_dtype, write_meta
from algoprog.data.tokenizer import SAMPLE_BYTES, Tokenizer, gpt2, read_tokenizer, train_bpe, write_tokenizer

__all__ = ["TokenStore", "default_cache_dir", "load_tokenizer", "open_store", "prepare", "read_store", "store_folder"]

BATCH_BYTES = 4_000_000


def prepare(config: DataConfig, cache_dir: Path | None = None, progress: bool | Report = True) -> TokenStore:
    """Open the tokens of ``config``, after making them if they are not there.

    Args:
        config: corpus, tokenizer and the seed that shuffles documents (``order`` plays no part here).
        cache_dir: where prepared data lives; default :func:`default_cache_dir`.
        progress: a bar on a terminal, lines on stderr otherwise (True), nothing (False), or your own function.

    Raises:
        InputError: bad corpus, missing package, too little text, full disk, or a damaged store.
    """
    cache = cache_dir or default_cache_dir()
    corpus = load_corpus(config.corpus, cache)
    folder = store_folder(config, corpus, cache)
    if not folder.exists():
        with reporting(progress) as report:
            build_once(folder, partial(_build, config=config, corpus=corpus, cache=cache, report=report))
    return read_store(folder)


def open_store(config: DataConfig, cache_dir: Path | None = None) -> TokenStore:
    """Open the tokens of ``config``; never makes them.

    Raises:
        InputError: they have not been prepared, or they are damaged.
    """
    cache = cache_dir or default_cache_dir()
    return read_store(store_folder(config, load_corpus(config.corpus, cache), cache))


def store_folder(config: DataConfig, corpus: Corpus, cache_dir: Path) -> Path:
    """Where the tokens of this config lie, or will lie."""
    key = _sha256([FORMAT, corpus.identity(), config.tokenizer, config.seed, RULE])
    return cache_dir / "tokens" / f"{_plain(corpus.name)}-{config.tokenizer}-{key[:16]}"


def load_tokenizer(
    name: str, corpus: Corpus | None = None, cache_dir: Path | None = None, progress: bool | Report = False
) -> Tokenizer:
    """The tokenizer of this name: ``gpt2``, or ``bpe-N`` trained on the training documents of ``corpus``.

    A trained one is kept in the cache, and is the one that :func:`prepare` uses for that corpus, whatever its seed.

    Raises:
        InputError: unknown name, missing package, no corpus for a ``bpe-N``, or a corpus too small for it.
    """
    if name == "gpt2":
        return gpt2()
    if corpus is None:
        tokenizer_vocabulary(name)
        raise InputError("this tokenizer is trained on a corpus", got=name, expected="a corpus to train it on")
    cache = cache_dir or default_cache_dir()
    folder = _tokenizer_folder(name, corpus, cache)
    if not folder.exists():
        with reporting(progress) as report, disk_errors(cache):
            cache.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=cache, prefix="reading-") as scratch:
                spool = fill_spool(Path(scratch) / "spool", corpus.documents(report), corpus.name, report)
                split = split_documents(spool, 0, corpus.name)
                return _tokenizer(name, corpus, cache, spool, split, report)
    return read_tokenizer(folder / "tokenizer.json")


def _tokenizer_folder(name: str, corpus: Corpus, cache: Path) -> Path:
    key = _sha256([FORMAT, corpus.identity(), name, RULE, SAMPLE_BYTES, version("tokenizers")])
    return cache / "tokenizers" / f"{_plain(corpus.name)}-{name}-{key[:16]}"


def _tokenizer(name: str, corpus: Corpus, cache: Path, spool: Spool, split: Split, report: Report) -> Tokenizer:
    """As :func:`load_tokenizer`, from a corpus already read."""
    if name == "gpt2":
        return gpt2()
    folder = _tokenizer_folder(name, corpus, cache)

    def train(stage: Path) -> None:
        report(f"training tokenizer {name}", 0, None)
        texts = spool.texts(_sample(spool, split.sample))
        write_tokenizer(train_bpe(tokenizer_vocabulary(name), texts, corpus.name), stage / "tokenizer.json")

    build_once(folder, train)
    return read_tokenizer(folder / "tokenizer.json")


def _sample(spool: Spool, documents: list[int]) -> list[int]:
    """The first documents that hold ``SAMPLE_BYTES``, or all; at least one."""
    ends = np.cumsum([spool.size(document) for document in documents])
    return documents[: int(np.searchsorted(ends, SAMPLE_BYTES)) + 1]


def _build(stage: Path, config: DataConfig, corpus: Corpus, cache: Path, report: Report) -> None:
    """Write a whole store into the empty folder ``stage``."""
    scratch = stage / "scratch"
    scratch.mkdir()
    spool = fill_spool(scratch / "spool", corpus.documents(report), corpus.name, report)
    split = split_documents(spool, config.seed, corpus.name)
    tokenizer = _tokenizer(config.tokenizer, corpus, cache, spool, split, report)
    progress = _Encoding(spool, tokenizer, report)
    counts = {
        "train": progress.write(stage / "train.bin", split.train),
        "validation": progress.write(stage / "validation.bin", split.validation),
    }
    write_tokenizer(tokenizer, stage / "tokenizer.json")
    shutil.rmtree(scratch)
    report("counting baselines", 0, None)
    dtype = token_dtype(tokenizer.vocab)
    train, validation = (np.memmap(stage / f"{name}.bin", dtype=dtype, mode="r") for name in counts)
    meta = {
        "corpus": corpus.describe(),
        "licence": corpus.licence,
        "provenance": corpus.provenance,
        "tokenizer": {"name": tokenizer.name, "fingerprint": tokenizer.fingerprint},
        "vocab": tokenizer.vocab,
        "end_of_text": tokenizer.end_of_text,
        "dtype": dtype.name,
        "seed": config.seed,
        "split": RULE,
        "fingerprint": _fingerprint(corpus, spool, tokenizer, config.seed),
        "tokens": counts,
        "bytes": {"train": _size(spool, split.train), "validation": _size(spool, split.validation)},
        "documents": {
            "train": len(split.train),
            "validation": len(split.validation),
            "empty": spool.empty,
            "duplicates": split.duplicates,
        },
        "baselines": baselines(train, validation, tokenizer.vocab),
        "versions": {"python": platform.python_version(), "numpy": np.__version__, "tokenizers": version("tokenizers")},
    }
    write_meta(stage, meta)


class _Encoding:
    """Encodes documents in batches and keeps count of the bytes done over both files."""

    def __init__(self, spool: Spool, tokenizer: Tokenizer, report: Report):
        self.spool, self.tokenizer, self.report = spool, tokenizer, report
        self.done = 0

    def write(self, path: Path, documents: list[int]) -> int:
        """Write the ids of these documents, each followed by end of text; return how many."""
        with path.open("wb") as file:
            return sum(self._write_batch(file, batch) for batch in self._batches(documents))

    def _batches(self, documents: list[int]) -> Iterator[list[int]]:
        batch: list[int] = []
        held = 0
        for document in documents:
            batch.append(document)
            held += self.spool.size(document)
            if held >= BATCH_BYTES:
                yield batch
                batch, held = [], 0
        if batch:
            yield batch

    def _write_batch(self, file: BinaryIO, batch: list[int]) -> int:
        end = np.array([self.tokenizer.end_of_text], dtype=np.uint32)
        encoded = self.tokenizer.encode_batch(list(self.spool.texts(batch)))
        ids = np.concatenate(list(chain.from_iterable((part, end) for part in encoded)))
        file.write(ids.astype(token_dtype(self.tokenizer.vocab)).tobytes())
        self.done += _size(self.spool, batch)
        self.report("tokenizing", self.done, self.spool.total_bytes)
        return len(ids)


def _size(spool: Spool, documents: list[int]) -> int:
    return sum(spool.size(document) for document in documents)


def _fingerprint(corpus: Corpus, spool: Spool, tokenizer: Tokenizer, seed: int) -> str:
    texts = hashlib.sha256(b"".join(sorted(spool.digests))).hexdigest()
    source = {"name": corpus.name, "kind": corpus.kind}
    return _sha256([FORMAT, source, texts, tokenizer.fingerprint, RULE, seed])


def _sha256(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _plain(name: str) -> str:
    """A corpus name as part of a folder name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name)[:60]
