"""Two ranks decide as one: what one of them meets, both act on, at the same step."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.faults import sweeps

PROBE = Path(__file__).with_name("rank_probe.py")
TRAIN = Path(__file__).resolve().parents[2] / "train.py"
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
LIMIT_S = 20.0


def load_probe() -> Any:
    spec = importlib.util.spec_from_file_location("rank_probe", PROBE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of the two ranks saw."""
    folder = tmp_path_factory.mktemp("ranks")
    done = subprocess.run(
        [*TORCHRUN, str(PROBE), str(folder)], capture_output=True, text=True, env=ENVIRONMENT, timeout=500
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in (0, 1)]


def test_nan_on_one_rank_is_met_by_both_as_the_policy_says(ranks: list[dict[str, Any]]) -> None:
    probe = load_probe()
    step, steps = probe.BAD_STEP, probe.STEPS
    for case in probe.CASES:
        name = " ".join(case)
        first, second = (rank[name] for rank in ranks)
        clean = ranks[0][f"{name}, no fault"]
        assert first == second and ranks[1][f"{name}, no fault"] == clean, f"{name}: ranks that differ"
        assert clean["state"] == "done" and clean["skipped"] == 0 and len(set(clean["hashes"])) == steps + 1
        hashes = first["hashes"]
        assert hashes[: step + 1] == clean["hashes"][: step + 1] and hashes[step + 1] == hashes[step], name
        if case[2] == "abort":
            assert (first["state"], first["steps"], first["loss"], first["kept"]) == ("diverged", step + 1, None, step)
            assert f"not finite at step {step + 1} of {steps}" in first["message"]
            assert set(hashes[step:]) == {hashes[step]} and first["rows"] == clean["rows"][:step], name
        else:
            assert (first["state"], first["steps"], first["skipped"]) == ("done", steps, 1) and first["loss"] > 0
            assert len(set(hashes[step + 1 :])) == steps - step, f"{name}: it goes on"
            assert first["rows"] == [row for row in clean["rows"] if row != step + 1]


def wait_for(condition: Callable[[], Any], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def rank_processes(launcher: int) -> dict[int, int]:
    """Process of every rank below a launcher."""
    found = {}
    for pid in sweeps.children(launcher):
        with contextlib.suppress(OSError):
            names = dict(
                line.split("=", 1) for line in Path(f"/proc/{pid}/environ").read_text().split("\0") if "=" in line
            )
            if "RANK" in names:
                found[int(names["RANK"])] = pid
    return found


def lives(pid: int) -> bool:
    """Whether a process is there and is no zombie that its parent has not yet heard of."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.mark.parametrize("victim", [1, pytest.param(0, marks=pytest.mark.slow)])
def test_sigterm_to_one_rank_stops_both_with_a_checkpoint(victim: int, tmp_path: Path) -> None:
    arguments = [
        "--arch", "retro", "--width", "32", "--tokenizer", "bpe-300", "--set", "batch=4", "--set", "model.context=16",
        "--tokens", str(20_000 * 4 * 16), "--out", str(tmp_path),
    ]  # fmt: skip
    launcher = subprocess.Popen(
        [*TORCHRUN, str(TRAIN), *arguments],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, start_new_session=True,
    )  # fmt: skip
    try:
        metrics = tmp_path / "metrics.jsonl"
        wait_for(lambda: launcher.poll() is not None or (metrics.exists() and metrics.stat().st_size), 240)
        pids = rank_processes(launcher.pid)
        assert set(pids) == {0, 1}, launcher.poll()
        asked = time.monotonic()
        os.kill(pids[victim], signal.SIGTERM)
        wait_for(lambda: not any(map(lives, pids.values())), LIMIT_S)
        assert time.monotonic() - asked < LIMIT_S
        _, errors = launcher.communicate(timeout=60)
    finally:
        if launcher.poll() is None:
            os.killpg(launcher.pid, signal.SIGKILL)
    stopped = json.loads((tmp_path / "stopped.json").read_text())
    assert (stopped["state"], stopped["exit_code"]) == ("preempted", 75), errors
    step = int(stopped["message"].split()[3])
    (kept,) = (tmp_path / "checkpoints").glob("*/step-*")
    # When the first rank has ended, the launcher sends SIGTERM to the other, which may be past its handlers by then.
    codes = re.findall(r"exitcode +: (-?\d+) ", errors)
    assert kept.name == f"step-{step:08d}" and "75" in codes and set(codes) <= {"75", "-15"}, errors
