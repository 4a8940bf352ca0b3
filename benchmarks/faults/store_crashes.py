"""Kill a process at every write of its store, tear every write, fill the disk at every write: what was committed stays.

    python benchmarks/faults/store_crashes.py

The life of a store (store_session.py) is run once to count its file operations, then once per operation and kind of fault.
After each: the store opens, verifies, holds every change that was reported committed, and the same process completes it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from algoprog.config import InputError
from algoprog.sweep.store import FILE, open_for_reading
from algoprog.sweep.verify import verify
from benchmarks.faults import store_session
from benchmarks.faults.rows import write_row
from benchmarks.faults.shim import Shim

SESSION = Path(store_session.__file__)


@dataclass(frozen=True)
class Point:
    """One fault and what is not as it should be after it. ``struck``: whether the process died of it or reported it."""

    kind: str
    at: int
    wrong: tuple[str, ...]
    struck: bool


def count_operations(shim: Shim, scratch: Path) -> int:
    """File operations in one undisturbed life of a store."""
    folder = scratch / "counted"
    subprocess.run(
        [sys.executable, str(SESSION), str(folder)],
        check=True,
        capture_output=True,
        env=shim.environment(folder, "kill", 0),
    )
    shutil.rmtree(folder)
    return shim.operations()


def one_point(shim: Shim, kind: str, at: int, folder: Path) -> Point:
    """Let the fault strike, look at what is left, and complete it."""
    command = [sys.executable, str(SESSION), str(folder)]
    first = subprocess.run(command, capture_output=True, text=True, env=shim.environment(folder, kind, at), timeout=120)
    wrong = list(_badly_said(kind, first))
    committed = {
        line.split()[1]: float(line.split()[2]) for line in first.stdout.splitlines() if line.startswith("done")
    }
    if (folder / FILE).exists() and (committed or "planned" in first.stdout):
        wrong += verify(folder).problems
        wrong += _lost(folder, committed)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            store_session.live(folder)
        wrong += verify(folder).problems
        wrong += _lost(folder, store_session.expected())
    except InputError as error:
        wrong.append(f"does not continue: {error}")
    shutil.rmtree(folder, ignore_errors=True)
    return Point(kind, at, tuple(wrong), first.returncode != 0)


def _badly_said(kind: str, first: subprocess.CompletedProcess[str]) -> Iterable[str]:
    """A kill must have happened; a full or read-only disk gives one line and exit code 2, unless nothing more was needed."""
    if kind in ("kill", "half") and first.returncode != -signal.SIGKILL:
        yield f"was not killed: {first.returncode}"
    if kind in ("full", "readonly"):
        lines = first.stderr.strip().splitlines()
        if first.returncode == 2 and (len(lines) != 1 or not lines[0].startswith("error: ")):
            yield f"says {lines[-1:]}"
        elif first.returncode not in (0, 2):
            yield f"exit code {first.returncode}: {lines[-1:]}"


def _lost(folder: Path, committed: dict[str, float]) -> Iterable[str]:
    try:
        with open_for_reading(folder) as store:
            found = {run["digest"]: run["result"]["loss"] for run in store.runs() if run["state"] == "done"}
    except InputError as error:
        return [f"unreadable: {error}"]
    return [
        f"{digest}: {found.get(digest)} for {loss}" for digest, loss in committed.items() if found.get(digest) != loss
    ]


def run(kinds: Iterable[str], every: int, scratch: Path) -> list[Point]:
    """A fault of each kind at every ``every``-th operation."""
    shim = Shim.build(scratch / "shim")
    total = count_operations(shim, scratch)
    points = []
    for kind in kinds:
        for at in range(1, total + 1, every):
            points.append(one_point(shim, kind, at, scratch / f"{kind}-{at}"))
            if points[-1].wrong:
                print(points[-1], flush=True)
    return points


FIGURES = {
    "store-kills": (
        ("kill", "half"),
        "kill -9 before every file operation of a store's life, and inside every write",
        "readable, verified, nothing committed lost, continues",
        100,
    ),
    "store-disk-full": (
        ("full",),
        "disk full from every file operation of a store's life on",
        "100 points: no torn store, one clear line, continues",
        100,
    ),
    "store-read-only": (
        ("readonly",),
        "disk read-only from every file operation of a store's life on",
        "no torn store, one clear line, continues",
        1,
    ),
}
"""Name of a figure: its kinds of faults, what it is, its target, and the least number of points that meets it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="strike at every one, every second, ... operation")
    parser.add_argument("--only", choices=list(FIGURES), help="measure one of the figures")
    arguments = parser.parse_args()
    for name in [arguments.only] if arguments.only else FIGURES:
        kinds, figure, target, least = FIGURES[name]
        with tempfile.TemporaryDirectory() as scratch:
            points = run(kinds, arguments.every, Path(scratch))
        bad = sum(bool(point.wrong) for point in points)
        every = f" --every {arguments.every}" if arguments.every != 1 else ""
        write_row(
            name=name, figure=figure, target=target, met=bad == 0 and len(points) >= least, n=len(points), failures=bad,
            measured=f"{bad} not so; the fault ended the process at {sum(point.struck for point in points)}",
            command=f"python benchmarks/faults/store_crashes.py --only {name}{every}",
        )  # fmt: skip
        print(f"{name}: {bad} of {len(points)}", flush=True)


if __name__ == "__main__":
    main()
