"""Runs ``tests/kernels/fused`` in Triton's interpreter, which must be chosen before triton is imported: a process per file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason='needs triton: pip install "algoprog[triton]"')

FOLDER = Path(__file__).parent / "fused"
FILES = sorted(file.name for file in FOLDER.glob("test_*.py"))


def interpret(file: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, str(FOLDER / file)],
        cwd=FOLDER.parent.parent.parent,
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )


# Whole models, which test_training.py trains, too.
SLOW = ("test_linear_cross_entropy_training.py", "test_lstm_training.py")


@pytest.mark.parametrize("file", [pytest.param(f, marks=pytest.mark.slow if f in SLOW else ()) for f in FILES])
def test_in_the_interpreter(file: str) -> None:
    done = interpret(file)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
    assert " passed" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_slow_ones_in_the_interpreter() -> None:
    done = interpret("", "-m", "slow")
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
    assert " passed" in done.stdout
