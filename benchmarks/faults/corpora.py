"""A corpus of generated text and a sweep over it whose runs take a fraction of a second."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import yaml

from algoprog.config import DataConfig
from algoprog.data.store import TokenStore
from algoprog.data.tokens import prepare

WORDS = "the of and to in is that for it was on are as with his they be at one have this from or had by not but what".split()
ARCHS = ("modern", "retro", "lstm")


def small_corpus(folder: Path, texts: int = 50) -> DataConfig:
    """Texts of 600 words each in ``folder``, and the config that reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(texts):
        draw = random.Random(number)
        (folder / f"{number:02}.txt").write_text(" ".join(draw.choices(WORDS, k=600)) + f" number {number}.")
    return DataConfig(corpus=str(folder), tokenizer="bpe-300")


def small_tokens(scratch: Path) -> TokenStore:
    """The tokens of :func:`small_corpus`, prepared below ``scratch``."""
    return prepare(small_corpus(scratch / "texts"), scratch / "cache", progress=False)


def write_sweep(path: Path, data: DataConfig, flops: tuple[str, ...] = ("1e8", "3e8"), **changes: Any) -> Path:
    """A sweep file of three architectures, two widths and the given budgets: twelve runs by default."""
    grid = {"arch": list(ARCHS), "width": [8, 16], "flops": list(flops), "lr": 0.01}
    values = {
        "name": "faults", "data": {"corpus": data.corpus, "tokenizer": data.tokenizer},
        "settings": {"batch": 4, "model": {"context": 32}}, "grids": [grid], **changes,
    }  # fmt: skip
    path.write_text(yaml.safe_dump(values))
    return path


def environment(cache: Path) -> dict[str, str]:
    """Surroundings of a child process: this cache, one thread."""
    return {**os.environ, "ALGOPROG_CACHE": str(cache), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
