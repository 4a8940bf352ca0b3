"""Fused kernels on two ranks, in Triton's interpreter: gradients are the mean over ranks, the optimiser falls back visibly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton", reason='needs triton: pip install "algoprog[triton]"')

PROBE = Path(__file__).with_name("distributed_probe.py")
# fp32: rounding of another order of sums. bf16: that of the interpreter, which cuts bits off where a GPU rounds.
TOLERANCE = {"modern": 5e-6, "retro": 5e-6, "modern bf16": 0.03}


def probe(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(PROBE)]
    # Any attempt to compile an op of DeepSpeed at run time must fail loudly.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TRITON_INTERPRET": "1", "DS_ACCELERATOR": "cpu",
                   "CXX": "false", "CC": "false"}  # fmt: skip
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    assert found["world"] == found["launched"] == 2
    return found


def check(gradients: dict[str, dict[str, float]]) -> None:
    assert gradients.keys() == TOLERANCE.keys()
    for case, tolerance in TOLERANCE.items():
        assert gradients[case]["error"] <= tolerance, case
        assert gradients[case]["alone"] > 0.1, f"{case}: both ranks have the same gradients, so that nothing is shown"


def test_gradients_under_distributed_data_parallel_and_a_run_that_says_what_it_used() -> None:
    found = probe("torch", "train")
    check(found["gradients"])
    used, losses = found["run"]["kernels"], found["run"]["losses"]
    assert {"add_rms_norm", "swiglu", "rope", "linear_cross_entropy"} <= set(used["fused"])
    assert used["reference"] == ["adamw_"]  # the flat buffer is for one rank
    assert losses["fused"] == pytest.approx(losses["reference"], rel=2e-5) and len(losses["fused"]) == 3


@pytest.mark.slow
def test_gradients_under_deepspeed() -> None:
    pytest.importorskip("deepspeed", reason='needs DeepSpeed: pip install "algoprog[deepspeed]"')
    check(probe("deepspeed")["gradients"])
