"""The GPU scripts that run the package itself, at tiny sizes on a CPU: they finish, continue, and their rows become a table."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import algoprog

ROOT = Path(algoprog.__file__).resolve().parent.parent
GPU = ROOT / "benchmarks" / "gpu"
RUNS = ("sweep_1e15", "frontier_1e16", "run_1e17")

if str(GPU) not in sys.path:
    sys.path.append(str(GPU))


def run(script: str, out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(GPU / f"{script}.py"), "--device", "cpu", "--tiny", "--out", str(out), *arguments]
    settings = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=400, env=settings)


def rows(script: str, out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / f"{script}.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_run_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    first = run("run_1e17", tmp_path, "--minutes", "0.00001")
    assert first.returncode == 75 and "same command" in first.stdout and not (tmp_path / "run_1e17.jsonl").exists()
    second = run("run_1e17", tmp_path)
    assert second.returncode == 0, second.stderr
    (row,) = rows("run_1e17", tmp_path)
    assert row["status"] == "answered" and row["tiny"] and row["device"]["name"] == "cpu" and row["commit"] is not None
    assert row["facts"]["record"]["state"] == "done" and len(row["facts"]["calls"]) == 2
    third = run("run_1e17", tmp_path)
    assert third.returncode == 0 and "nothing new" in third.stdout and len(rows("run_1e17", tmp_path)) == 1


@pytest.mark.slow
def test_a_sweep_tells_its_pace(tmp_path: Path) -> None:
    done = run("sweep_1e15", tmp_path)
    assert done.returncode == 0, done.stderr
    (row,) = rows("sweep_1e15", tmp_path)
    assert row["facts"]["states"] == {"done": 3} and row["facts"]["runs_per_hour"] > 0
    assert row["facts"]["phase_seconds"]["train"] > 0


@pytest.mark.slow
def test_a_frontier_has_gains(tmp_path: Path) -> None:
    assert run("frontier_1e16", tmp_path).returncode == 0
    (row,) = rows("frontier_1e16", tmp_path)
    assert row["facts"]["states"] == {"done": 12}
    assert set(row["facts"]["gains"]) == {"modern over lstm", "modern over retro"}


@pytest.mark.slow
def test_steps_of_the_package_are_rows(tmp_path: Path) -> None:
    assert run("package_step", tmp_path).returncode == 0
    found = rows("package_step", tmp_path)
    assert [row["status"] for row in found] == ["answered", "answered"]
    assert all(check["error"] <= check["limit"] for row in found for check in row["accuracy"]["checks"])


@pytest.mark.parametrize("script", RUNS)
def test_bad_input_is_refused(script: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = importlib.import_module(script)
    for arguments, said in ((["--device", "cpu"], "--tiny"), (["--minutes", "61"], "at most 60")):
        with pytest.raises(SystemExit) as stop:
            module.main(arguments)
        assert stop.value.code == 2 and said in capsys.readouterr().err
    if not torch.cuda.is_available():
        with pytest.raises(SystemExit) as stop:
            module.main([])
        assert stop.value.code == 2 and "no CUDA device" in capsys.readouterr().err


def test_a_command_that_fails_is_a_row_that_says_so(tmp_path: Path) -> None:
    done = run("sweep_1e15", tmp_path, "--corpus", str(tmp_path / "nothing"))
    (row,) = rows("sweep_1e15", tmp_path)
    assert done.returncode == 0 and row["status"] == "failed" and "exit code 2" in row["reason"]


def test_a_command_that_does_not_stop_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    package_runs = importlib.import_module("package_runs")
    monkeypatch.setattr(package_runs, "GRACE_S", 0.5)
    monkeypatch.setattr(package_runs.sys, "executable", "/bin/sh")
    real = subprocess.Popen

    def stubborn(command: list[str], **options: Any) -> subprocess.Popen[str]:
        return real(["/bin/sh", "-c", "trap '' TERM; for i in 1 2 3 4 5 6 7 8; do sleep 0.5; done"], **options)

    monkeypatch.setattr(package_runs.subprocess, "Popen", stubborn)
    assert package_runs.run(["sweep"], time.monotonic() + 0.2) == (75, None)


def test_lstm_kernels_are_rows_on_a_cpu(tmp_path: Path) -> None:
    assert run("lstm", tmp_path).returncode == 0
    found = {(row["key"]["kernel"], row["key"]["pass"]): row for row in rows("lstm", tmp_path)}
    for both in ("forward", "both"):
        assert found["library", both]["status"] == "measured"
        assert found["tile", both]["status"] in ("measured", "unsupported"), found["tile", both]["reason"]


def row_of(kernel: str, T: int, us_per_step: float, **changes: Any) -> dict[str, Any]:
    key = {"kernel": kernel, "dtype": "bf16", "H": 64, "B": 16, "T": T, "pass": changes.pop("pass", "both")}
    about = {"status": "measured", "tiny": False, "device": {"name": "NVIDIA H100 80GB HBM3"}, "utc": "2030-01-01"}
    return {**about, "key": key, "median_s": T * us_per_step * 1e-6, "iqr_s": T * 1e-7, **changes}


def test_rows_become_the_table_by_which_the_operation_chooses(tmp_path: Path) -> None:
    lstm = importlib.import_module("lstm")
    found = [
        row_of("library", 512, 8.0),
        row_of("library", 128, 9.0),  # of several lengths the longest
        row_of("tile", 512, 2.0, utc="2029-01-01"),
        row_of("tile", 512, 1.0),  # the newer one
        row_of("group", 512, 0.1, tiny=True),
        row_of("group", 512, 0.1, status="inaccurate"),
        row_of("group", 512, 0.1, device={"name": "cpu"}),
        row_of("group", 512, 0.1, **{"pass": "forward"}),
    ]
    made = {row.kernel: row for row in lstm.table_rows(found)}
    assert set(made) == {"library", "tile"}
    assert made["library"].us_per_step == pytest.approx(8.0) and made["tile"].us_per_step == pytest.approx(1.0)
    (tmp_path / "lstm.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    assert lstm.write_table(tmp_path, tmp_path / "table.py") == 2
    written: dict[str, Any] = {}
    exec((tmp_path / "table.py").read_text(), written)
    assert len(written["ROWS"]) == 2
    best = lstm.operation().lstm_table.fastest(made.values(), "NVIDIA H100 80GB HBM3", "bfloat16", 64, 16)
    assert best.kernel == "tile"
