"""Workers that hang, stop, run out of memory or outlive their driver; sweeps whose disk fills up or whose folder vanishes."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from algoprog.config import InputError
from algoprog.sweep.executors import Task
from algoprog.sweep.local_pool import LocalExecutor
from algoprog.sweep.watch import Pulse, describe_end
from algoprog.training.claim import claimed
from benchmarks.faults import disk_full_sweep, kill_sweep, sweeps
from benchmarks.faults.corpora import environment, small_corpus, small_tokens, write_sweep
from benchmarks.faults.shim import Shim, compiler

NEEDS_COMPILER = pytest.mark.skipif(compiler() is None, reason="faults in system calls need a C compiler")


def wait_for(condition: Callable[[], Any], seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


class Ears:
    """A listener that remembers; ``stop`` is called with every event and may raise."""

    def __init__(self, on_event: Callable[[str], None] = lambda kind: None) -> None:
        self.ends: list[tuple[str, str | None]] = []
        self.on_event = on_event

    def started(self, digest: str, worker: str, provenance: Any) -> None:
        self.on_event("started")

    def metrics(self, digest: str, rows: Any) -> None:
        self.on_event("metrics")

    def ended(self, digest: str, outcome: str, message: str | None, result: Any) -> None:
        self.ends.append((outcome, message))

    def tick(self) -> None:
        self.on_event("tick")


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workers")
    small_tokens(folder)
    return folder


@pytest.fixture()
def task(scratch: Path) -> Task:
    """One run of a few seconds."""
    from algoprog.config import BudgetConfig
    from algoprog.recipes import resolve

    data = small_corpus(scratch / "texts").model_dump(exclude_unset=True)
    config = resolve(
        "modern", 16, BudgetConfig(flops=3 * 10**9), data=data, overrides={"batch": 4, "model": {"context": 32}}
    )
    return Task("0" * 16, config.model_dump(mode="json"), cost=1.0)


@pytest.fixture()
def executor(scratch: Path, tmp_path: Path) -> Iterator[LocalExecutor]:
    tokens = next((scratch / "cache" / "tokens").glob("*/meta.json")).parent
    yield LocalExecutor(tokens, tmp_path / "out" / "logs", tmp_path / "out" / "checkpoints", workers=1, threads=1)


def my_workers() -> list[int]:
    """Worker processes of this process."""
    found = []
    for pid in sweeps.children(os.getpid()):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        found += [pid] if b"algoprog.sweep.worker" in command else []
    return found


def test_a_worker_that_hangs_is_killed_and_its_run_tried_elsewhere(executor: LocalExecutor, task: Task) -> None:
    stopped: list[int] = []

    def stop_once(kind: str) -> None:
        if kind == "metrics" and not stopped:
            stopped.append(my_workers()[0])
            os.kill(stopped[0], signal.SIGSTOP)
            executor.hangs_after_s = 5.0

    ears = Ears(stop_once)
    executor.run([task], ears)
    assert [outcome for outcome, _ in ears.ends] == ["retry", "done"]
    assert "worker hung: it did nothing for 5 s and was killed" in str(ears.ends[0][1])
    assert not my_workers()


def test_a_heartbeat_without_work_is_no_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    pulse = Pulse()
    alive = {"kind": "alive", "cpu_seconds": 1.0, "peak_bytes": 5}
    for now[0], event in ((10.0, alive), (20.0, alive), (30.0, alive)):
        pulse.hear(event)
    assert pulse.silent_s() == 20.0 and pulse.peak_bytes == 5
    pulse.hear({**alive, "cpu_seconds": 1.001})
    assert pulse.silent_s() == 0.0
    now[0] = 40.0
    pulse.hear({"kind": "metrics"})
    assert pulse.silent_s() == 0.0


def test_a_clock_that_jumps_kills_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    pulse = Pulse()
    monkeypatch.setattr(time, "time", lambda: 4e9)
    assert pulse.silent_s() < 5


def test_a_killed_worker_is_recorded_with_what_it_used() -> None:
    assert describe_end(1, None) == "worker died with exit status 1"
    assert describe_end(-15, 1 << 20) == "worker died with exit status -15 (SIGTERM)"
    text = describe_end(-9, 300 << 20)
    assert "exit status -9 (SIGKILL, " in text and "memory runs out" in text and "300 MiB" in text


def test_a_run_that_needs_too_much_memory_fails_alone(executor: LocalExecutor, task: Task, scratch: Path) -> None:
    code = (
        "import resource, sys, runpy; resource.setrlimit(resource.RLIMIT_DATA, (5 << 28, 5 << 28));"
        "runpy.run_module('algoprog.sweep.worker', run_name='__main__')"
    )
    python = scratch / "limited-python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}"\n')
    python.chmod(0o755)
    model = {**task.config["model"], "width": 8192, "heads": 8, "depth": 8}
    large = Task("1" * 16, {**task.config, "model": model, "budget": {"tokens": 128}}, cost=2.0)
    ears = Ears()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", str(python))
        executor.run([large, task], ears)
    outcomes = [outcome for outcome, _ in ears.ends]
    assert sorted(outcomes)[:2] == ["done", "failed"], ears.ends
    failed = str(dict(ears.ends)["failed"])
    assert "memory" in failed.lower(), failed


def test_stopped_workers_die_with_their_driver(scratch: Path, tmp_path: Path) -> None:
    """They cannot see their input close, so only the kernel can end them."""
    file = write_sweep(tmp_path / "sweep.yaml", small_corpus(scratch / "texts"), flops=("3e10",))
    driver = sweeps.start(file, tmp_path / "out", environment(scratch / "cache"))
    wait_for(lambda: any((tmp_path / "out" / "logs").glob("*")) and len(sweeps.children(driver.pid)) == 2)
    time.sleep(2.0)  # until they have heard who their driver is
    workers = sweeps.children(driver.pid)
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    driver.kill()
    driver.communicate()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), seconds=15)


@pytest.mark.parametrize("fault", ["store", pytest.param("folder", marks=pytest.mark.slow)])
def test_workers_save_when_the_store_cannot_be_written(executor: LocalExecutor, task: Task, fault: str) -> None:
    """The driver ends with one line; what was computed lies in a checkpoint, and the same run goes on from there."""
    failing = (
        InputError("the store could not be written") if fault == "store" else OSError(28, "No space left on device")
    )

    def fail(kind: str) -> None:
        if kind == "metrics":
            raise failing

    with pytest.raises(
        InputError, match="store could not be written|No space left on device.*run the same command again"
    ):
        executor.run([task], Ears(fail))
    saved = list((executor.checkpoints / task.digest).glob("step-*"))
    assert saved and not my_workers()
    ears = Ears()
    executor.run([task], ears)
    assert [outcome for outcome, _ in ears.ends] == ["done"]
    assert not list((executor.checkpoints / task.digest).glob("step-*"))


def test_a_second_driver_is_refused_with_the_first_ones_name(scratch: Path, tmp_path: Path) -> None:
    from algoprog.sweep.store import open_for_driving

    file = write_sweep(tmp_path / "sweep.yaml", small_corpus(scratch / "texts"))
    with open_for_driving(tmp_path / "out"):
        code, errors = sweeps.finish(file, tmp_path / "out", environment(scratch / "cache"))
    assert code == 2 and f"a live sweep holds this store (pid {os.getpid()} on " in errors
    assert len(errors.strip().splitlines()) == 1


def test_a_run_that_another_process_trains_fails_alone_with_the_holders_name(
    executor: LocalExecutor, task: Task
) -> None:
    folder = executor.checkpoints / task.digest
    folder.mkdir(parents=True)
    other = Task("1" * 16, {**task.config, "budget": {"tokens": 1280}}, cost=0.5)
    ears = Ears()
    with claimed(folder):
        executor.run([task, other], ears)
    ends = dict(ears.ends)
    assert sorted(ends) == ["done", "failed"] and folder.is_dir()
    assert re.search(f"another process works on this run.*process {os.getpid()} on ", str(ends["failed"]))
    ears = Ears()
    executor.run([task], ears)
    assert [outcome for outcome, _ in ears.ends] == ["done"] and not folder.exists()


def test_training_a_run_beside_its_worker_is_refused_with_the_workers_name(scratch: Path, tmp_path: Path) -> None:
    """`algoprog train` into the folder of a sweep would write the same checkpoints."""
    out = tmp_path / "out"
    grid = {"arch": "modern", "width": 16, "flops": "3e10", "lr": 0.01}
    file = write_sweep(tmp_path / "sweep.yaml", small_corpus(scratch / "texts"), grids=[grid])
    driver = sweeps.start(file, out, environment(scratch / "cache"))
    try:
        wait_for(lambda: [path for path in out.glob("checkpoints/*/.claim") if path.read_text()])
        (claim,) = out.glob("checkpoints/*/.claim")
        holder = json.loads(claim.read_text())["pid"]
        assert holder in sweeps.children(driver.pid)
        same = ["--arch", "modern", "--width", "16", "--flops", "3e10", "--lr", "0.01", "--precision", "fp32"]
        same += ["--corpus", str(scratch / "texts"), "--tokenizer", "bpe-300", "--set", "batch=4"]
        command = [sys.executable, "-m", "algoprog.cli", "train", *same, "--set", "model.context=32", "--out", str(out)]
        refused = subprocess.run(command, capture_output=True, text=True, env=environment(scratch / "cache"))
        assert refused.returncode == 2 and refused.stderr.count("\n") == 1, refused.stderr
        assert f"process {holder} on " in refused.stderr and f"checkpoints/{claim.parent.name}" in refused.stderr
        assert driver.poll() is None and not (out / "config.json").exists()
    finally:
        driver.kill()
        driver.communicate()


def test_rows_of_a_foreign_store_name_no_folder_outside(scratch: Path, tmp_path: Path) -> None:
    """A sweep into somebody else's store touches only what its own plan names."""
    import sqlite3

    from algoprog.sweep.store import FILE, open_for_driving

    out, victim = tmp_path / "out", tmp_path / "victim"
    victim.mkdir()
    (victim / "precious").write_text("stays")
    open_for_driving(out).close()
    with sqlite3.connect(out / FILE) as db:
        db.execute(
            "INSERT INTO runs (digest, position, arch, width, seed, config, params, steps, tokens, flops, state) "
            "VALUES ('../../victim', 0, '../x', 1, 1, '{}', 1, 1, 1, 1, 'planned')"
        )
    db.close()
    file = write_sweep(tmp_path / "sweep.yaml", small_corpus(scratch / "texts"), flops=("1e8",), compare=[])
    code, errors = sweeps.finish(file, out, environment(scratch / "cache"))
    assert code == 0, errors
    assert (victim / "precious").read_text() == "stays" and sorted(p.name for p in tmp_path.iterdir()) == [
        "out", "sweep.yaml", "victim",
    ]  # fmt: skip


# ---- whole sweeps: minutes


@pytest.mark.slow
def test_random_kills_lose_repeat_and_change_nothing(tmp_path: Path) -> None:
    file, reference = kill_sweep.prepare_reference(tmp_path)
    tally = kill_sweep.Killer(file, tmp_path / "cache", tmp_path, reference, 6.0, seed=random.randrange(10**6)).run(20)
    assert tally.failures == 0 and tally.sweeps >= 1, tally


@pytest.mark.slow
@NEEDS_COMPILER
def test_a_disk_that_fills_up_under_a_sweep(tmp_path: Path) -> None:
    file, reference = kill_sweep.prepare_reference(tmp_path)
    filler = disk_full_sweep.Filler(Shim.build(tmp_path / "shim"), file, tmp_path / "cache", tmp_path, reference)
    total = filler.count_operations()
    for at in (1, total // 3, 2 * total // 3):
        assert not filler.one_point(at).wrong


@pytest.mark.slow
def test_a_folder_that_vanishes_under_a_sweep(scratch: Path, tmp_path: Path) -> None:
    file, out = write_sweep(tmp_path / "sweep.yaml", small_corpus(scratch / "texts"), flops=("3e9",)), tmp_path / "out"
    driver = sweeps.start(file, out, environment(scratch / "cache"))
    wait_for(lambda: sweeps.finished(out))
    shutil.rmtree(out, ignore_errors=True)
    _, errors = driver.communicate(timeout=120)
    assert driver.returncode == 2 and "Traceback" not in errors
    assert "the same command" in errors.strip().splitlines()[-1]
    again = subprocess.run(
        [sys.executable, "-m", "algoprog.cli", "sweep", str(file), "--out", str(out)],
        env=environment(scratch / "cache"), capture_output=True, text=True,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
