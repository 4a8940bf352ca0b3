"""Shared fixtures: prepared data lives in a folder of the test session, never in the user's cache."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from algoprog.data.store import TokenStore
from algoprog.training.engines import Engine, open_engine


@pytest.fixture(scope="session", autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Every test, and every process that a test starts, prepares data here."""
    before = os.environ.get("ALGOPROG_CACHE")
    folder = tmp_path_factory.mktemp("algoprog-cache")
    os.environ["ALGOPROG_CACHE"] = str(folder)
    yield folder
    os.environ.pop("ALGOPROG_CACHE") if before is None else os.environ.update(ALGOPROG_CACHE=before)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Two cores, several processes: more threads only wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def engine() -> Engine:
    return open_engine("torch")


@pytest.fixture(scope="session")
def periodic() -> TokenStore:
    """A tiny store with a pattern that any model can learn: ids count up modulo 50 with a few exceptions."""
    rng = np.random.default_rng(0)

    def ids(n: int) -> np.ndarray:
        tokens = np.arange(n) % 50
        tokens[rng.random(n) < 0.02] = 7
        return tokens.astype(np.uint16)

    return TokenStore(
        path=Path("periodic"), train=ids(20_000), validation=ids(1_001), vocab=300, end_of_text=299, fingerprint="periodic",
        train_bytes=40_000, validation_bytes=2_000, meta={},
    )  # fmt: skip
