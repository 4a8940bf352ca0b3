"""Death at every file operation of a save: afterwards the previous checkpoint or the new one loads, always.

A forked child saves while every operation on files that goes through :mod:`os` is counted. At operation k it dies: before
the operation, after it, or (writes) with half of the bytes written. ``power`` adds what a power cut does: bytes of
files that were not yet forced to the disk are lost::

    python benchmarks/faults/kill_points.py
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from algoprog.training.checkpoint import Checkpoints  # noqa: E402
from benchmarks.faults.checkpoint_states import same_state, small_state  # noqa: E402
from benchmarks.faults.rows import write_row  # noqa: E402

DIGEST = "0123456789abcdef"
OPERATIONS = ("mkdir", "open", "write", "fsync", "close", "rename", "replace", "unlink", "rmdir")
WAYS = ("before", "torn", "after", "power")
KILLED = 9


class Killer:
    """Replaces the functions of :mod:`os` by ones that count, and that end the process at operation ``point``."""

    def __init__(self, point: int, way: str) -> None:
        self.point, self.way, self.count = point, way, 0
        self.names: dict[int, str] = {}
        self.dirty: set[str] = set()
        self.real = {name: getattr(os, name) for name in OPERATIONS}
        for name in OPERATIONS:
            setattr(os, name, self.wrap(name))

    def wrap(self, name: str) -> Callable[..., Any]:
        def operation(*args: Any, **kwargs: Any) -> Any:
            number, self.count = self.count, self.count + 1
            if number == self.point and self.way == "before":
                os._exit(KILLED)
            if number == self.point and self.way == "torn" and name == "write":
                self.real["write"](args[0], bytes(args[1])[: len(args[1]) // 2])
                os._exit(KILLED)
            result = self.real[name](*args, **kwargs)
            self.note(name, args, result)
            if number == self.point:
                if self.way == "power":
                    self.cut_power()
                os._exit(KILLED)
            return result

        return operation

    def note(self, name: str, args: tuple[Any, ...], result: Any) -> None:
        """Keep account of the files whose bytes are not on the disk yet."""
        if name == "open":
            self.names[result] = str(args[0])
        elif name == "write":
            self.dirty.add(self.names[args[0]])
        elif name == "fsync":
            self.dirty.discard(self.names[args[0]])
        elif name in ("rename", "replace"):
            old, new = str(args[0]), str(args[1])
            self.dirty = {new + path.removeprefix(old) if path.startswith(old) else path for path in self.dirty}

    def cut_power(self) -> None:
        """Bytes that were only in memory are lost."""
        for path in self.dirty:
            if os.path.exists(path):
                os.truncate(path, 0)


def operations_of(before: Path, work: Path, step: int) -> int:
    """How many file operations a save of ``step`` takes on a copy of the folder ``before``."""
    reader, writer = os.pipe()
    shutil.copytree(before, work)
    child = os.fork()
    if child == 0:
        killer = Killer(-1, "before")
        try:
            Checkpoints(work, DIGEST).save(small_state(step))
            killer.real["write"](writer, str(killer.count).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    shutil.rmtree(work)
    return int(os.read(reader, 20))


def kill_at(before: Path, work: Path, step: int, point: int, way: str) -> bool:
    """Kill a save of ``step`` at one operation; whether the previous or the new state then loads, and a next save works."""
    shutil.copytree(before, work)
    child = os.fork()
    if child == 0:
        Killer(point, way)
        try:
            Checkpoints(work, DIGEST).save(small_state(step))
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) in (0, KILLED)
    good = whole(work, {step - 1, step} if step > 1 else {0, step})
    shutil.rmtree(work)
    return good


def whole(folder: Path, steps: set[int]) -> bool:
    """Whether one of ``steps`` loads bit for bit (0: nothing loads), nothing was set aside, and the next save loads."""
    checkpoints = Checkpoints(folder, DIGEST)
    state = checkpoints.restore()
    right = 0 in steps if state is None else state.step in steps and same_state(state, small_state(state.step))
    clean = not list(folder.glob("corrupt-*")) and not list(folder.glob("*.partial-*"))
    checkpoints.save(small_state(max(steps) + 1))
    after = checkpoints.restore()
    return right and clean and after is not None and same_state(after, small_state(max(steps) + 1))


def kill_everywhere(
    folder: Path, ways: tuple[str, ...] = WAYS, first: int = 0, every: int = 1
) -> tuple[int, list[str]]:
    """Kill the first, second and fourth save of a run at operations ``first``, ``first + every``, ...; (cases, failures)."""
    cases, failures = 0, []
    before = folder / "before"
    before.mkdir()
    for step in (1, 2, 3, 4):
        if step != 3:  # the third is like the second: nothing to remove yet in either
            for point in range(first, operations_of(before, folder / "work", step), every):
                for way in ways:
                    cases += 1
                    if not kill_at(before, folder / "work", step, point, way):
                        failures.append(f"save {step}, operation {point}, {way}")
        Checkpoints(before, DIGEST).save(small_state(step))
    return cases, failures


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cases, failures = kill_everywhere(Path(folder))
    print(f"{cases} kill points, {len(failures)} unreadable", *failures, sep="\n")
    write_row(
        name="checkpoint-kill-points",
        figure="death at every file operation of a save (before, half way through, after it, with a power cut)",
        target="the previous or the new checkpoint loads bit for bit, the next save works",
        measured=f"{cases - len(failures)} of {cases} load",
        met=not failures,
        n=cases,
        failures=len(failures),
        command="python benchmarks/faults/kill_points.py",
    )


if __name__ == "__main__":
    main()
