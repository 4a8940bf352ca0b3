"""Every width in the interpreter, in a process of its own: minutes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason='needs triton: pip install "algoprog[triton]"')

FILE = Path(__file__).parents[1] / "fused" / "test_lstm_kernels.py"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_width_from_32_to_1024_in_steps_of_8() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-k",
            "test_widths",
            "--timeout=600",
            str(FILE),
        ],
        cwd=FILE.parents[3],
        env={**os.environ, "TRITON_INTERPRET": "1", "ALGOPROG_TEST_WIDTHS": "all", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
    assert " passed" in done.stdout
