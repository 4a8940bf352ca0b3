"""Fixtures for the data tests: a seeded fake English corpus, and the real default corpus prepared once."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from algoprog.config import DataConfig
from algoprog.data.tokens import TokenStore, prepare

WORDS = "the of and to in a is that for it was on are as with his they be at one have this from or had by".split()


def make_text(seed: int, words: int) -> str:
    """Text with repeated words and some rarer ones, in short paragraphs."""
    draw = random.Random(seed)
    out = []
    for i in range(words):
        rare = "".join(draw.choices("etaoinshrdlu", k=draw.randint(2, 7)))
        out.append(draw.choice(WORDS) if draw.random() < 0.7 else rare)
        out.append(".\n\n" if i % 40 == 39 else " ")
    return "".join(out)


@pytest.fixture(scope="session")
def fake_texts() -> list[str]:
    return [make_text(seed, 400) for seed in range(40)]


@pytest.fixture()
def write_jsonl(tmp_path: Path) -> Callable[..., Path]:
    def write(texts: list[str], name: str = "texts.jsonl", field: str = "text") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps({field: text}) + "\n" for text in texts), encoding="utf-8")
        return path

    return write


@pytest.fixture()
def fake_config(fake_texts: list[str], write_jsonl: Callable[..., Path]) -> DataConfig:
    """A corpus that is prepared in a tenth of a second."""
    return DataConfig(corpus=str(write_jsonl(fake_texts)), tokenizer="bpe-300")


@pytest.fixture(scope="session")
def sotu_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def sotu(sotu_cache: Path) -> TokenStore:
    """The default corpus with the default tokenizer."""
    return prepare(DataConfig(), sotu_cache, progress=False)
