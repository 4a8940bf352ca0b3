"""The report of a running sweep follows it and ends with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from algoprog.config import InputError
from algoprog.report import watch
from algoprog.report.watch import watch_report
from algoprog.sweep.store import Store, open_for_driving, open_for_reading

Build = Callable[..., Path]


@pytest.fixture()
def waiting(build: Build) -> Path:
    """Twelve runs of one architecture, none started."""
    return build(archs=("modern",), extras=False, end=False)


def finish(store: Store, runs: list[dict[str, Any]]) -> None:
    for run in runs:
        store.start_attempt(run["digest"], "local-0", {})
        loss = 2.0 + 1.3 * (run["flops"] / 1e11) ** -0.16 * (1.0 if run["width"] == 32 else 1.05)
        result = {"state": "done", "tokens": run["tokens"], "flops": run["flops"], "loss": loss}
        store.end_attempt(run["digest"], "done", None, result)


def all_runs(folder: Path) -> list[dict[str, Any]]:
    with open_for_reading(folder) as store:
        return store.runs()


def test_pages_follow_the_sweep_and_end_with_it(waiting: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[int, float | None]] = []

    def write(folder: Path, draws: int, reload: float | None = None) -> Any:
        written.append((draws, reload))
        page = type("Page", (), {"page": folder})()
        return page

    monkeypatch.setattr(watch, "write_report", write)
    runs, slept = all_runs(waiting), list[float]()

    def sleep(seconds: float) -> None:
        """Nothing at first, then some runs, then nothing, then all the others, while the driver is still there."""
        slept.append(seconds)
        if len(slept) == 2:
            with open_for_driving(waiting) as store:
                finish(store, runs[:5])
        elif len(slept) == 4:
            driver = open_for_driving(waiting)
            finish(driver, runs[5:])
            drivers.append(driver)
        elif len(slept) == 5:
            assert written == [(200, 7.0), (200, 7.0)]  # all runs have ended, but their driver may still add some
            drivers.pop().close()

    drivers: list[Store] = []
    watch_report(waiting, draws=1000, every_s=7.0, sleep=sleep)
    assert written == [(200, 7.0), (200, 7.0), (1000, None)]
    assert slept == [7.0] * 5


def test_a_live_page_says_so_and_the_last_one_does_not(waiting: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("render_png", "render_pdf", "render_svg"):
        monkeypatch.setattr(f"algoprog.report.page.{name}", lambda figure: b"figure")
    monkeypatch.setattr("algoprog.report.explore.E_VALUES", 2)
    runs, pages = all_runs(waiting), list[str]()
    with open_for_driving(waiting) as store:
        finish(store, runs[:9])

    def sleep(_: float) -> None:
        pages.append((waiting / "report" / "index.html").read_text())
        with open_for_driving(waiting) as store:
            finish(store, runs[9:])

    last = watch_report(waiting, draws=100, sleep=sleep).page.read_text()
    assert len(pages) == 1
    assert 'data-reload="5"' in pages[0] and "not complete yet" in pages[0]
    assert "data-reload=" not in last and "not complete yet" not in last


def test_no_folder_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder") as error:
        watch_report(tmp_path / "nowhere")
    assert "\n" not in str(error.value)


def test_a_broken_store_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "store.sqlite").write_bytes(b"this is no database, whatever its name" * 100)
    with pytest.raises(InputError, match="not a readable store"):
        watch_report(tmp_path, sleep=lambda _: pytest.fail("waited"))


def test_an_interrupted_watch_exits_as_a_stopped_command(waiting: Path) -> None:
    # A shell starts background jobs with SIGINT ignored, which a child would inherit from a suite started so.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from algoprog.cli import main; main()"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", code, "report", str(waiting), "--watch"],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    time.sleep(6.0)
    assert process.poll() is None  # no run has ended, so it waits
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 75
    assert "stopped" in said and "Traceback" not in said
