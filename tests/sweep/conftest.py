"""A corpus of generated text and a sweep over it that takes seconds."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import yaml

from algoprog.config import DataConfig
from algoprog.data.store import TokenStore
from algoprog.data.tokens import prepare

WORDS = "the of and to in is that for it was on are as with his they be at one have this from or had by not but what".split()


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of fifty short texts."""
    folder = tmp_path_factory.mktemp("corpus")
    for number in range(50):
        draw = random.Random(number)
        (folder / f"{number:02}.txt").write_text(" ".join(draw.choices(WORDS, k=600)) + f" number {number}.")
    return folder


@pytest.fixture(scope="session")
def data(corpus: Path) -> DataConfig:
    return DataConfig(corpus=str(corpus), tokenizer="bpe-300")


@pytest.fixture(scope="session")
def tokens(data: DataConfig, private_cache: Path) -> TokenStore:
    return prepare(data, progress=False)


@pytest.fixture()
def sweep_file(tmp_path: Path, data: DataConfig, tokens: TokenStore) -> Path:
    """Three architectures, two widths, two budgets: twelve runs of a few dozen steps."""
    path = tmp_path / "sweep.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "name": "tiny",
                "data": {"corpus": data.corpus, "tokenizer": data.tokenizer},
                "settings": {"batch": 4, "model": {"context": 32}},
                "grids": [{"arch": ["modern", "retro", "lstm"], "width": [8, 16], "flops": ["1e8", "3e8"], "lr": 0.01}],
                "compare": [["lstm", "modern"]],
            }
        )
    )
    return path
