"""`train.py` under its three launchers: real text in, the same losses out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TRAIN = Path(__file__).resolve().parent.parent / "train.py"
BIN = Path(sys.executable).parent
LAUNCHERS = {
    "python": [sys.executable, str(TRAIN)],
    "torchrun": [str(BIN / "torchrun"), "--standalone", "--nproc_per_node", "2", str(TRAIN)],
    "deepspeed": [str(BIN / "deepspeed"), "--num_gpus", "2", "--master_port", "29617", str(TRAIN)],
}


def launch(launcher: str, arch: str, out: Path) -> dict[str, Any]:
    """Train a little of the default corpus and return the record that rank 0 prints."""
    options = ["--arch", arch, "--width", "16", "--tokens", "16000", "--set", "batch=4", "--json", "--out", str(out)]
    environment = {**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "PATH": f"{BIN}:{os.environ['PATH']}"}
    done = subprocess.run(
        [*LAUNCHERS[launcher], *options], capture_output=True, text=True, env=environment, timeout=500
    )
    assert done.returncode == 0, done.stderr[-3000:]
    records = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(records) == 1, "rank 0 alone prints"
    record: dict[str, Any] = json.loads(records[0])
    return record


def check(arch: str, folder: Path) -> None:
    records = {launcher: launch(launcher, arch, folder / launcher) for launcher in LAUNCHERS}
    assert {name: (r["engine"], r["world"]) for name, r in records.items()} == {
        "python": ("torch", 1), "torchrun": ("torch", 2), "deepspeed": ("deepspeed", 2),
    }  # fmt: skip
    assert len({r["run"] for r in records.values()}) == 1, "launcher and engine are no part of a run's name"
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


@pytest.mark.slow
def test_a_longer_run_beats_the_bigram_model(tmp_path: Path) -> None:
    """The honest baseline: an interpolated bigram model whose weights are fitted on the validation text itself."""
    from algoprog.config import DataConfig
    from algoprog.data.tokens import prepare

    baselines = prepare(DataConfig(), progress=False).meta["baselines"]
    options = ["--arch", "modern", "--width", "48", "--flops", "4e12", "--lr", "0.006", "--set", "batch=8", "--json"]
    done = subprocess.run([*LAUNCHERS["python"], *options, "--out", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["loss"] < baselines["bigram"] - 0.2
