"""`train.py` under its three launchers: real text in, the same losses out; stopped under one, continued under another."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

TRAIN = Path(__file__).resolve().parent.parent / "train.py"
BIN = Path(sys.executable).parent
ENVIRONMENT = {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "PATH": f"{BIN}:{os.environ['PATH']}"}
LAUNCHERS = ("python", "torchrun", "deepspeed")
STOP_WITHIN_S = 20.0


def command(launcher: str) -> list[str]:
    if launcher == "python":
        return [sys.executable, str(TRAIN)]
    if launcher == "torchrun":
        return [str(BIN / "torchrun"), "--standalone", "--nproc_per_node", "2", str(TRAIN)]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return [str(BIN / "deepspeed"), "--num_gpus", "2", "--master_port", str(port), str(TRAIN)]


def options(arch: str, tokens: int, out: Path) -> list[str]:
    return ["--arch", arch, "--width", "16", "--tokens", str(tokens), "--set", "batch=4", "--json", "--out", str(out)]


def launch(launcher: str, arguments: list[str]) -> dict[str, Any]:
    """Train a little of the default corpus and return the record that rank 0 prints."""
    done = subprocess.run(
        [*command(launcher), *arguments],
        capture_output=True, text=True, env={**os.environ, **ENVIRONMENT}, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    records = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(records) == 1, "rank 0 alone prints"
    record: dict[str, Any] = json.loads(records[0])
    return record


def check(arch: str, folder: Path) -> None:
    records = {launcher: launch(launcher, options(arch, 16_000, folder / launcher)) for launcher in LAUNCHERS}
    assert {name: (r["engine"], r["world"]) for name, r in records.items()} == {
        "python": ("torch", 1), "torchrun": ("torch", 2), "deepspeed": ("deepspeed", 2),
    }  # fmt: skip
    assert len({r["run"] for r in records.values()}) == 1, "launcher and engine are no part of a run's name"
    assert all(r["deterministic_across_engines"] for r in records.values())
    losses = {name: r["loss"] for name, r in records.items()}
    assert losses["deepspeed"] == losses["torchrun"], "ZeRO-0 equals DDP bit for bit"
    assert losses["python"] == pytest.approx(losses["torchrun"], rel=1e-3), "one and two ranks, up to reduction order"
    assert all(loss < 6.9 for loss in losses.values())


def test_three_launchers_train_on_real_text(tmp_path: Path) -> None:
    check("modern", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["retro", "lstm"])
def test_three_launchers_train_the_other_architectures(arch: str, tmp_path: Path) -> None:
    check(arch, tmp_path)


def wait_for(path: Path, seconds: float) -> float:
    """Seconds until ``path`` has something in it."""
    began = time.monotonic()
    while not (path.exists() and path.stat().st_size):
        assert time.monotonic() - began < seconds, f"no {path.name}"
        time.sleep(0.05)
    return time.monotonic() - began


def rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_stopped_under_deepspeed_continued_under_python(tmp_path: Path) -> None:
    """Two ranks of ZeRO 1 in micro-batches get the signal that a terminal or a scheduler sends to a whole process group:
    the launcher gets it, too, and passes it on, so that every rank is asked twice."""
    arguments = [*options("modern", 200_000, tmp_path), "--micro-batch", "1", "--recompute", "blocks"]
    ranks = subprocess.Popen(
        [*command("deepspeed"), *arguments, "--deepspeed", "zero1"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={**os.environ, **ENVIRONMENT}, start_new_session=True,
    )  # fmt: skip
    try:
        wait_for(tmp_path / "metrics.jsonl", 240)
        os.killpg(ranks.pid, signal.SIGTERM)
        assert wait_for(tmp_path / "stopped.json", STOP_WITHIN_S) < STOP_WITHIN_S
        _, errors = ranks.communicate(timeout=120)
        stopped = json.loads((tmp_path / "stopped.json").read_text())
        assert (stopped["state"], stopped["exit_code"]) == ("preempted", 75), errors
        assert stopped["message"].startswith("stopped at step")
    finally:
        if ranks.poll() is None:
            os.killpg(ranks.pid, signal.SIGKILL)
    before = rows(tmp_path)
    record = launch("python", arguments)
    assert (record["state"], record["engine"], record["world"]) == ("done", "torch", 1)
    assert record["deterministic_across_engines"] is False, "part of it was trained under ZeRO 1"
    assert (record["execution"]["micro_batches"], record["execution"]["recompute"]) == (4, "blocks")
    after = rows(tmp_path)
    assert after[: len(before)] == before and after[-1]["step"] == record["steps"], "one curve"
    assert not (tmp_path / "stopped.json").exists() and record["loss"] < 6.0


def test_settings_that_are_not_deepspeeds_get_one_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text('{"train_batch_size": 32}')
    done = subprocess.run(
        [*command("python"), *options("modern", 16_000, tmp_path / "run"), "--deepspeed", str(file)],
        capture_output=True, text=True, env={**os.environ, **ENVIRONMENT}, timeout=200,
    )  # fmt: skip
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "mine.json: train_batch_size is not DeepSpeed's to decide here; say --set batch=N" in done.stderr


@pytest.mark.slow
def test_a_longer_run_beats_the_bigram_model(tmp_path: Path) -> None:
    """The honest baseline: an interpolated bigram model whose weights are fitted on the validation text itself."""
    from algoprog.config import DataConfig
    from algoprog.data.tokens import prepare

    baselines = prepare(DataConfig(), progress=False).meta["baselines"]
    arguments = ["--arch", "modern", "--width", "48", "--flops", "4e12", "--lr", "0.006", "--set", "batch=8", "--json"]
    done = subprocess.run([*command("python"), *arguments, "--out", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["loss"] < baselines["bigram"] - 0.2
