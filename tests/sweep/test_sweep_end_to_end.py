"""A real sweep with real worker processes: complete, resumable, isolated, and unharmed by kills."""

from __future__ import annotations

import json
import os
import queue
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from algoprog.config import InputError
from algoprog.data.store import TokenStore
from algoprog.report.predictions import predict_store
from algoprog.sweep import commands
from algoprog.sweep.store import FILE, open_for_driving, open_for_reading
from algoprog.sweep.worker_process import WorkerProcess

COLUMNS = (
    "run",
    "arch",
    "width",
    "params",
    "tokens",
    "flops",
    "loss",
    "bits_per_byte",
    "loss_streaming",
    "epochs",
    "state",
)


def results(folder: Path) -> list[dict[str, Any]]:
    """What must not depend on interruptions: everything but times."""
    with open_for_reading(folder) as store:
        return [{key: point[key] for key in COLUMNS} for point in store.points()]


def curves(folder: Path) -> list[dict[str, Any]]:
    with open_for_reading(folder) as store:
        return store.curves()


def run(sweep_file: Path, out: Path) -> dict[str, Any]:
    return commands.sweep(str(sweep_file), out, "local", "fp32", 2, 1, None, predict_store)


def start(sweep_file: Path, out: Path) -> subprocess.Popen[str]:
    arguments = ["sweep", str(sweep_file), "--out", str(out), "--precision", "fp32", "--json"]
    return subprocess.Popen(
        [sys.executable, "-m", "algoprog.cli", *arguments], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, data: Any, tokens: TokenStore) -> Path:
    """The tiny sweep, undisturbed."""
    folder = tmp_path_factory.mktemp("reference")
    grids = [{"arch": ["modern", "retro", "lstm"], "width": [8, 16], "flops": ["1e8", "3e8"], "lr": 0.01}]
    values = {
        "name": "tiny", "data": {"corpus": data.corpus, "tokenizer": data.tokenizer},
        "settings": {"batch": 4, "model": {"context": 32}}, "grids": grids, "compare": [["lstm", "modern"]],
    }  # fmt: skip
    (folder / "sweep.yaml").write_text(yaml.safe_dump(values))
    summary = run(folder / "sweep.yaml", folder / "out")
    assert summary.pop("runs_per_hour") > 0
    assert summary == {
        "out": str(folder / "out"), "planned": 12, "executed": 12, "complete": True, "done": 12, "diverged": 0, "failed": 0,
    }  # fmt: skip
    return folder / "out"


def test_everything_is_in_the_store(reference: Path, tokens: TokenStore) -> None:
    points = results(reference)
    assert len(points) == 12 and all(point["loss"] < 5.7 for point in points)
    with open_for_reading(reference) as store:
        meta, attempts = store.meta(), store.attempts()
        assert all(sum(c["run"] == p["run"] for c in store.curves()) >= 5 for p in points)
    assert meta["data"]["fingerprint"] == tokens.fingerprint and meta["data"]["baselines"]["unigram"] > 0
    assert meta["software"]["torch"] and meta["software"]["source_sha256"] and meta["sweep"]["name"] == "tiny"
    assert len(attempts) == 12 and all(a["outcome"] == "done" and a["provenance"]["device"] for a in attempts)
    assert not list((reference / "checkpoints").glob("*/step-*"))


def test_a_second_start_repeats_nothing(reference: Path, sweep_file: Path) -> None:
    before = results(reference)
    assert run(sweep_file, reference)["executed"] == 0
    assert results(reference) == before


def test_two_workers_equal_one(reference: Path, sweep_file: Path, tmp_path: Path) -> None:
    commands.sweep(str(sweep_file), tmp_path / "one", "local", "fp32", 1, 1, None, predict_store)
    assert results(tmp_path / "one") == results(reference) and curves(tmp_path / "one") == curves(reference)


def test_kill_9_at_random_moments_loses_and_repeats_nothing(reference: Path, sweep_file: Path, tmp_path: Path) -> None:
    out, draw = tmp_path / "killed", random.Random(1)
    finished: set[str] = set()
    for _ in range(4):
        driver = start(sweep_file, out)
        time.sleep(draw.uniform(3.0, 8.0))
        driver.kill()
        driver.communicate()
        if (out / FILE).exists():
            now = {point["run"] for point in results(out)}
            assert finished <= now, "a finished run was lost"
            finished = now
    assert run(sweep_file, out)["complete"]
    assert results(out) == results(reference) and curves(out) == curves(reference)
    with open_for_reading(out) as store:
        endings = [(a["digest"], a["outcome"]) for a in store.attempts() if a["outcome"] == "done"]
    assert len(endings) == len(set(endings)) == 12, "a finished run was repeated"


def children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(child) for child in task.read_text().split()]
    return found


def wait_for(condition: Any, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def running(out: Path) -> list[str]:
    if not (out / FILE).exists():
        return []
    try:
        with open_for_reading(out) as store:
            return [run["digest"] for run in store.runs() if run["state"] == "running"]
    except InputError:
        return []


def curves_so_far(out: Path) -> list[dict[str, Any]]:
    return curves(out) if running(out) else []


def long_sweep(sweep_file: Path, flops: str = "3e10") -> Path:
    values = yaml.safe_load(sweep_file.read_text())
    values["grids"] = [{"arch": ["modern", "lstm"], "width": 16, "flops": flops}]
    path = sweep_file.with_name("long.yaml")
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_a_stop_saves_and_a_second_start_continues(sweep_file: Path, tmp_path: Path, number: signal.Signals) -> None:
    out, path = tmp_path / "out", long_sweep(sweep_file, flops="5e9")
    driver = start(path, out)
    wait_for(lambda: len({row["run"] for row in curves_so_far(out)}) == 2)
    began = time.monotonic()
    driver.send_signal(number)
    _, errors = driver.communicate(timeout=30)
    assert driver.returncode == 75 and "continues" in errors and time.monotonic() - began < 20
    assert len(list((out / "checkpoints").glob("*/step-*/MANIFEST.json"))) == 2 and not running(out)
    assert run(path, out)["complete"]
    assert not list((out / "checkpoints").glob("*/step-*")), "checkpoints of finished runs are removed"
    run(path, tmp_path / "whole")
    assert results(out) == results(tmp_path / "whole") and curves(out) == curves(tmp_path / "whole")


def test_workers_die_with_their_driver(sweep_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    driver = start(long_sweep(sweep_file), out)
    wait_for(lambda: len(running(out)) == 2)
    workers = children(driver.pid)
    assert len(workers) == 2
    driver.kill()
    driver.communicate()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), seconds=10)


def test_a_killed_worker_is_replaced_and_its_run_tried_again(sweep_file: Path, reference: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    driver = start(sweep_file, out)
    wait_for(lambda: len(running(out)) == 2)
    os.kill(children(driver.pid)[0], signal.SIGKILL)
    output, errors = driver.communicate(timeout=300)
    assert driver.returncode == 0, errors
    assert json.loads(output)["done"] == 12
    assert results(out) == results(reference)
    assert any("exit status -9" in problem["message"] for problem in commands.status(out)["problems"])


def test_a_worker_killed_while_starting_is_replaced(sweep_file: Path, reference: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    driver = start(sweep_file, out)
    wait_for(lambda: children(driver.pid))
    os.kill(children(driver.pid)[0], signal.SIGKILL)
    driver.communicate(timeout=300)
    assert driver.returncode == 0 and results(out) == results(reference)


def test_workers_that_cannot_start_end_the_sweep(
    sweep_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(InputError, match="workers cannot start"):
        run(sweep_file, tmp_path / "out")
    with pytest.raises(InputError, match="timing process cannot start"):
        commands.plan(str(sweep_file), "fp32", None, 1)


def test_a_worker_cut_off_in_the_middle_of_a_line_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "python"
    script.write_text('#!/bin/sh\nprintf \'{"kind": "rea\'\n')
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    inbox: Any = queue.Queue()
    worker = WorkerProcess("cut", inbox, None, 1, subprocess.DEVNULL, None)
    assert inbox.get(timeout=10) == (worker, None)
    worker.end()


def test_one_failing_run_does_not_stop_the_others(sweep_file: Path, tmp_path: Path) -> None:
    values = yaml.safe_load(sweep_file.read_text())
    values["grids"] = [
        {"arch": "modern", "width": 8, "flops": "1e8"},
        {"arch": "modern", "width": 8, "tokens": 1_000_000, "settings": {"batch": 20_000}},
        {"arch": "modern", "width": 8, "flops": "2e8", "lr": 1e30, "settings": {"optim": {"clip": None}}},
    ]
    values["compare"] = []
    path = tmp_path / "mixed.yaml"
    path.write_text(yaml.safe_dump(values))
    summary = run(path, tmp_path / "out")
    assert (summary["done"], summary["failed"], summary["diverged"], summary["complete"]) == (1, 1, 1, False)
    status = commands.status(tmp_path / "out")
    messages = {problem["outcome"]: problem["message"] for problem in status["problems"]}
    assert "data is too small" in messages["failed"] and "not finite" in messages["diverged"]
    assert run(path, tmp_path / "out")["executed"] == 1, "failed runs are tried again, diverged ones are results"


def test_a_live_sweep_refuses_a_second_driver(sweep_file: Path, tmp_path: Path) -> None:
    with open_for_driving(tmp_path / "out"), pytest.raises(InputError, match="a live sweep holds this store"):
        run(sweep_file, tmp_path / "out")


def test_one_store_holds_runs_on_one_dataset(reference: Path, sweep_file: Path) -> None:
    values = yaml.safe_load(sweep_file.read_text())
    values["data"]["seed"] = 1
    path = sweep_file.with_name("other-data.yaml")
    path.write_text(yaml.safe_dump(values))
    before = results(reference)
    with pytest.raises(InputError, match="holds runs on other data"):
        run(path, reference)
    assert results(reference) == before


def test_unknown_executor(sweep_file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown executor 'slurm'"):
        commands.sweep(str(sweep_file), tmp_path / "out", "slurm", "fp32", None, 1, None, predict_store)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_export(reference: Path, tmp_path: Path, kind: str) -> None:
    import pandas as pd

    exported = commands.export(reference, kind, tmp_path / f"x.{kind}")
    read = pd.read_csv if kind == "csv" else pd.read_parquet
    table = read(exported["file"])
    assert len(table) == exported["rows"] == 12
    assert table["loss"].tolist() == pytest.approx([point["loss"] for point in results(reference)])
    with pytest.raises(InputError, match="unknown format 'xlsx'"):
        commands.export(reference, "xlsx", None)
    with pytest.raises(InputError, match="cannot be written"):
        commands.export(reference, kind, tmp_path / "absent" / "x")
