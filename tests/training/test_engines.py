"""Engines decide how, never what: equal losses, bit for bit where the arithmetic is the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from algoprog.config import InputError
from algoprog.training.engines import deepspeed_engine, open_engine

PROBE = Path(__file__).with_name("engine_probe.py")


@cache
def probe(engine: str, ranks: int) -> dict[str, Any]:
    """Losses of the probe under ``engine`` with so many ranks."""
    command = [sys.executable, str(PROBE), engine]
    if ranks > 1:
        command = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            f"--nproc-per-node={ranks}",
            str(PROBE),
            engine,
        ]
    # Any attempt to compile an op at run time must fail loudly.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "CXX": "false", "CC": "false"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    line = next(line for line in done.stdout.splitlines() if line.startswith("{"))
    result: dict[str, Any] = json.loads(line)
    assert result["world"] == ranks and result["engine"] == engine
    return result["results"]  # type: ignore[no-any-return]


def test_deepspeed_equals_torch_bit_for_bit_on_one_rank() -> None:
    assert probe("deepspeed", 1) == probe("torch", 1)


def test_deepspeed_equals_ddp_bit_for_bit_on_two_ranks() -> None:
    assert probe("deepspeed", 2) == probe("torch", 2)


@pytest.mark.parametrize("engine", ["torch", "deepspeed"])
@pytest.mark.parametrize("arch", ["modern", "retro", "lstm"])
def test_two_ranks_equal_one_up_to_reduction_order(engine: str, arch: str) -> None:
    one, two = probe(engine, 1)[arch], probe(engine, 2)[arch]
    assert one["losses"][:5] == pytest.approx(two["losses"][:5], rel=1e-6)
    assert one["losses"] == pytest.approx(two["losses"], rel=2e-3)
    assert one["final"] == pytest.approx(two["final"], rel=2e-3)


def test_unknown_and_missing_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="unknown engine 'deepsped'; did you mean 'deepspeed'"):
        open_engine("deepsped")
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    with pytest.raises(InputError, match=r'pip install "algoprog\[deepspeed\]"'):
        deepspeed_engine.DeepSpeedEngine()
