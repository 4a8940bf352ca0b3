"""Real sweeps as child processes: start one, look at its store, and say what must not depend on any interruption."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from algoprog.config import InputError
from algoprog.sweep.store import FILE, open_for_reading
from algoprog.sweep.verify import verify

ROOT = Path(__file__).resolve().parents[2]
TIMES = ("seconds",)  # the only columns of a point that differ between two undisturbed sweeps


def start(file: Path, out: Path, environment: Mapping[str, str], workers: int = 2) -> subprocess.Popen[str]:
    """``algoprog sweep`` as a child; its stdout and stderr are pipes."""
    command = [sys.executable, "-m", "algoprog.cli", "sweep", str(file), "--out", str(out)]
    options = ["--precision", "fp32", "--workers", str(workers), "--json"]
    return subprocess.Popen(
        command + options, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(environment), cwd=ROOT
    )


def finish(file: Path, out: Path, environment: Mapping[str, str], limit_s: float = 600.0) -> tuple[int, str]:
    """Run to its own end; exit code and stderr."""
    driver = start(file, out, environment)
    try:
        _, errors = driver.communicate(timeout=limit_s)
    finally:
        if driver.poll() is None:
            driver.kill()
    return driver.returncode, errors


def outcome(out: Path) -> dict[str, Any]:
    """Points without their times, and curves: equal for every sweep that was not harmed."""
    with open_for_reading(out) as store:
        points = [{key: value for key, value in point.items() if key not in TIMES} for point in store.points()]
        return {"points": points, "curves": store.curves()}


def finished(out: Path) -> dict[str, float | None]:
    """Loss of every finished run by name; empty while there is no store."""
    if not (out / FILE).exists():
        return {}
    with contextlib.suppress(InputError), open_for_reading(out) as store:  # none of today's schema yet
        return {point["run"]: point["loss"] for point in store.points()}
    return {}


def repeated(out: Path) -> int:
    """How many finished runs were executed again after they had finished."""
    with open_for_reading(out) as store:
        ends = Counter(attempt["digest"] for attempt in store.attempts() if attempt["outcome"] in ("done", "diverged"))
    return sum(count > 1 for count in ends.values())


def problems(out: Path) -> tuple[str, ...]:
    """What a check of the store finds; nothing while there is none."""
    try:
        return verify(out).problems
    except InputError:
        return ()


def children(pid: int) -> list[int]:
    """Child processes of a process, by number."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(child) for child in task.read_text().split()]
    return found
