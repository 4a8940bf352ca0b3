"""Runs ``tests/kernels/fused`` in Triton's interpreter, which must be chosen before triton is imported: a process per file."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("triton", reason='needs triton: pip install "algoprog[triton]"')

FOLDER = Path(__file__).parent / "fused"
FILES = sorted(file.name for file in FOLDER.glob("test_*.py"))


Done = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def started(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[Done]]]:
    """The processes of all the files asked for, as many at a time as there are cores."""
    asked = {item.callspec.params["file"] for item in request.session.items if item.path == Path(__file__)}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {file: pool.submit(interpret, file) for file in FILES if file in asked}


def interpret(file: str, *options: str) -> Done:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, str(FOLDER / file)],
        cwd=FOLDER.parent.parent.parent,
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("file", FILES)
def test_in_the_interpreter(file: str, started: dict[str, Future[Done]]) -> None:
    done = started[file].result()
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
    assert " passed" in done.stdout


@pytest.mark.slow
def test_slow_ones_in_the_interpreter() -> None:
    done = interpret("", "-m", "slow")
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
    assert " passed" in done.stdout
