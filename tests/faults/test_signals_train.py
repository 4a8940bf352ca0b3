"""A run that is asked to stop saves and leaves with exit code 75, and the same command continues it exactly."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from algoprog.training.checkpoint import Checkpoints
from algoprog.training.engines import open_engine
from algoprog.training.engines.torch_engine import TorchEngine
from algoprog.training.loop import Run, Stopped
from algoprog.training.pace import LOOK_EVERY_S, Pace
from algoprog.training.warm import Programs
from benchmarks.faults.small_runs import small, tokens

COMMAND = [
    sys.executable, "-m", "algoprog.cli", "train", "--arch", "retro", "--width", "32", "--tokenizer", "bpe-300", "--json",
    "--set", "batch=4", "--set", "model.context=16", "--tokens", str(4000 * 4 * 16), "--engine", "torch",
]  # fmt: skip
LIMIT_S = 20.0


def start(out: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*COMMAND, "--out", str(out)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def wait_for_rows(out: Path, rows: int) -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        path = out / "metrics.jsonl"
        if path.exists() and path.read_bytes().count(b"\n") >= rows:
            return
        time.sleep(0.02)
    raise AssertionError("no rows in time")


def wait_for_claim(out: Path, process: subprocess.Popen[str]) -> None:
    """Until ``process`` works on the folder: by then it listens to signals."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        path = out / ".claim"
        if path.exists() and f'"pid": {process.pid},' in path.read_text():
            return
        time.sleep(0.02)
    raise AssertionError("no claim in time")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("whole") / "run"
    process = start(out)
    text, errors = process.communicate(timeout=400)
    assert process.returncode == 0, errors
    return {"record": json.loads(text), "rows": (out / "metrics.jsonl").read_text()}


@pytest.mark.slow
def test_a_run_stopped_by_both_signals_continues_exactly(undisturbed: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "run"
    for number, (name, rows) in enumerate({"SIGTERM": 10, "SIGINT": 50}.items()):
        process = start(out)
        wait_for_rows(out, rows)
        asked = time.monotonic()
        process.send_signal(getattr(signal, name))
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 75 and time.monotonic() - asked < LIMIT_S, errors
        assert "stopped at step" in errors and "Traceback" not in errors
        assert len(list((out / "checkpoints").glob("*/step-*"))) >= min(number + 1, 2)
    process = start(out)
    text, errors = process.communicate(timeout=400)
    assert process.returncode == 0 and "warning" not in errors, errors
    record = json.loads(text)
    for key in ("loss", "train_loss", "steps", "flops", "skipped", "deterministic", "run"):
        assert record[key] == undisturbed["record"][key], key
    assert (out / "metrics.jsonl").read_text() == undisturbed["rows"]
    assert record["deterministic"] is True and not list((out / "checkpoints").glob("*/step-*"))


def test_a_second_process_is_refused_and_a_stopped_one_leaves_with_75(tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = start(out)
    wait_for_claim(out, first)
    second = start(out)
    _, errors = second.communicate(timeout=120)
    assert second.returncode == 2 and errors.strip().count("\n") == 0
    assert "another process works on this run" in errors and f"process {first.pid} on" in errors
    first.kill()  # nothing is left to clear up: the lock died with its holder
    first.communicate()
    third = start(out)
    wait_for_claim(out, third)
    third.send_signal(signal.SIGTERM)
    _, errors = third.communicate(timeout=60)
    assert third.returncode == 75 and "stopped at step" in errors and "Traceback" not in errors, errors
    assert list((out / "checkpoints").glob("*/step-*"))


class SlowEngine(TorchEngine):
    """Every update takes 0.3 seconds."""

    def update(self) -> None:
        time.sleep(0.3)
        super().update()


def test_a_slow_step_does_not_delay_the_stop(tmp_path: Path) -> None:
    """100 steps between two rows would take half a minute; the request is seen after a second."""
    config = small("retro", 20_000)  # rows every 50 steps
    began: list[float] = []

    def asked() -> bool:
        began.append(time.monotonic())
        return time.monotonic() - began[0] > 0.5

    run = Run(config, Programs(tokens(), SlowEngine()), checkpoints=Checkpoints(tmp_path, "x"), should_stop=asked)
    assert run.interval == 50
    with pytest.raises(Stopped):
        run.complete()
    assert time.monotonic() - began[0] < 0.5 + LOOK_EVERY_S + 1.5
    assert run.step.done < 12 and Checkpoints(tmp_path, "x").restore() is not None


def test_pace_looks_about_once_a_second() -> None:
    fast, slow = Pace(50), Pace(50)
    for _ in range(10):
        fast.note(fast.steps, 0.001 * fast.steps)
        slow.note(slow.steps, 0.4 * slow.steps)
    assert fast.steps == 50 and slow.steps == 2
    slow.note(2, 60.0)
    assert slow.steps == 1


def test_chunks_do_not_change_a_run(tmp_path: Path) -> None:
    rows: list[list[dict[str, Any]]] = [[], []]
    outcomes = []
    for number, steps in enumerate((1, 7)):
        run = Run(small("lstm", 210), Programs(tokens(), open_engine("torch")), on_metrics=rows[number].append)
        run.pace.steps = steps
        run.pace.note = lambda steps, seconds: None  # type: ignore[method-assign]
        outcomes.append(run.complete().loss)
    assert rows[0] == rows[1] and outcomes[0] == outcomes[1]
