"""Out of memory: one line that says what to do, or the same batch in smaller pieces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from algoprog.config import InputError
from algoprog.training import run as module
from algoprog.training import step as step_module
from algoprog.training.memory import PLAIN, Memory
from algoprog.training.out_of_memory import is_out_of_memory, train_within_memory
from benchmarks.faults.small_runs import small, tokens


@pytest.fixture
def device_of_two_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the sixth pass on, more than two rows at once do not fit: memory runs out in the middle of the run."""
    passes: list[int] = []
    real = step_module.forward_backward

    def forward_backward(call: Any, engine: Any, inputs: torch.Tensor, *rest: Any) -> Any:
        passes.append(len(inputs))
        parts = rest[-1]
        if len(passes) > 5 and len(inputs) // len(parts) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore lines")
        return real(call, engine, inputs, *rest)

    monkeypatch.setattr(step_module, "forward_backward", forward_backward)
    monkeypatch.setattr(module, "prepare", lambda config, progress=True: tokens())


def train(out: Path, halve: bool) -> dict[str, Any] | None:
    return module.train_in_folder(small("retro", 20), "torch", out, lambda row: None, halve=halve)


def test_it_is_one_line_with_a_remedy(device_of_two_rows: None, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        train(tmp_path / "run", halve=False)
    assert "out of memory (CUDA out of memory. Tried to allocate 2.00 GiB.)" in str(caught.value)
    assert "4 rows at once on each of 1 ranks" in str(caught.value) and "try --micro-batch 2" in str(caught.value)


def test_half_the_rows_at_once_make_the_same_batch(
    device_of_two_rows: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = train(tmp_path / "run", halve=True)
    assert record is not None and record["state"] == "done" and record["steps"] == 20
    assert "out of memory with 4 rows at once; going on with 2" in capsys.readouterr().err
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 21))


def test_nothing_is_left_to_halve() -> None:
    tried: list[int | None] = []

    def attempt(memory: Memory) -> Any:
        tried.append(memory.micro_batch)
        raise MemoryError

    with pytest.raises(InputError, match="out of memory.*a smaller model"):
        train_within_memory(attempt, PLAIN, small("retro"), 1, halve=True)
    assert tried == [None, 2, 1]
    with pytest.raises(InputError, match="--micro-batch 1"):
        train_within_memory(attempt, PLAIN, small("retro"), 2, halve=True)  # ranks would have to agree


def test_other_errors_pass() -> None:
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"))
    assert not is_out_of_memory(RuntimeError("size mismatch"))

    def attempt(memory: Memory) -> Any:
        raise RuntimeError("size mismatch")

    with pytest.raises(RuntimeError, match="size mismatch"):
        train_within_memory(attempt, PLAIN, small("retro"), 1, halve=True)
