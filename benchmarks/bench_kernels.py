"""Reference operations against eager PyTorch on this machine: accuracy first, then relative speed. Run by ``make bench``.

A CPU's seconds are no claim about anything but this run. Fused kernels and peers are measured on a GPU by
``benchmarks/operations.py``, from the same problems and with the same rule of accuracy.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.append(str(Path(__file__).resolve().parent))
import operation_variants  # noqa: E402
import operations  # noqa: E402
from bench import Bench  # noqa: E402


@pytest.fixture(scope="module")
def bench() -> Bench:
    torch.set_num_threads(1)
    return Bench("cpu", tiny=True)


@pytest.mark.parametrize("way", ["eager", "reference"])
@pytest.mark.parametrize("both", [False, True], ids=["forward", "both"])
@pytest.mark.parametrize("op", operation_variants.PROBLEMS)
def test_operation(op: str, both: bool, way: str, bench: Bench, benchmark: Any) -> None:
    made = operations.prepare(bench, op, way, 512, 64, "fp32", both)
    assert made.accuracy.verified, made.accuracy.complaint()  # no speed without accuracy
    benchmark.group = f"{op} {'both' if both else 'forward'}"
    benchmark.extra_info.update(work=made.work, checks=[check.as_dict() for check in made.accuracy.checks])
    benchmark.pedantic(made.steps[0], rounds=20, iterations=5, warmup_rounds=2)
