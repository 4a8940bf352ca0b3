"""Runs the cases of a script: in a child process, within a time limit, skipping rows that are already there.

Some of the kernels measured here may hang or read out of bounds, and after such a fault a CUDA process is of no further use.
So cases run in a forked child. If it dies, or stays silent for too long, the case it was in becomes a row that says so, and a
new child goes on with the next one. The parent never touches the GPU.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import rows
from bench import Bench, Case, Measurement, Unsupported, row_fields

SILENCE_S = 240.0  # compiling a step of 16 layers takes minutes; a hung kernel takes for ever
GRACE_S = 45.0  # a case under way at the limit may finish within this
STOPPED = 75  # exit code: stopped at the time limit, the same command continues
LIMIT = "stopped at the time limit"
LOST = 3  # exit code of a child whose row is written but whose device is lost
BLANK = dict.fromkeys(("median_s", "iqr_s", "n", "speed", "timing", "accuracy", "facts"))

CasesOf = Callable[[bool], Sequence[Case]]


@dataclass(frozen=True)
class Options:
    """The command line, parsed. ``deadline`` is on the monotonic clock, in seconds."""

    device: str
    tiny: bool
    out: Path
    part: str | None
    deadline: float


def main(script: str, about: str, cases_of: CasesOf, arguments: Sequence[str] | None = None) -> int:
    """Command-line entry of every script here. Returns the exit code: 0 done, 75 stopped at the limit, 2 bad input, 1 fault."""
    options, cases = _parse(script, about, cases_of, arguments)
    path = options.out / f"{Path(script).stem}.jsonl"
    before = len(rows.RowFile(path).rows)
    code = _supervise(script, cases, options, path)
    if code not in (0, STOPPED):
        return code
    file = rows.RowFile(path)
    counts: dict[str, int] = {}
    for row in file.rows[before:]:
        counts[row["status"]] = counts.get(row["status"], 0) + 1
    done = ", ".join(f"{n} {status}" for status, n in sorted(counts.items())) or "nothing new"
    print(f"{path}: {done}", flush=True)
    if code == STOPPED:
        print("stopped before the end; the same command goes on from here", flush=True)
    return code


def _parse(
    script: str, about: str, cases_of: CasesOf, arguments: Sequence[str] | None
) -> tuple[Options, Sequence[Case]]:
    parser = argparse.ArgumentParser(script, description=about)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="sizes that only show that the script runs")
    parser.add_argument("--minutes", type=float, default=9.0, help="stop after this long; the same command continues")
    parser.add_argument("--out", type=Path, help="folder for the rows (default benchmarks/results)")
    parser.add_argument("--part", help="only this part of the cases")
    given = parser.parse_args(arguments)
    if not 0 < given.minutes <= 60:
        parser.error(f"--minutes: got {given.minutes}, expected more than 0 and at most 60")
    if given.device == "cpu" and not (given.tiny and given.out):
        parser.error("--device cpu tries a script out: it needs --tiny, and --out with a folder outside the results")
    if given.device == "cpu":
        os.environ.setdefault("TRITON_INTERPRET", "1")  # read when Triton is imported, which no case has done yet
    cases = cases_of(given.tiny)
    parts = sorted({case.part for case in cases})
    if given.part is not None and given.part not in parts:
        parser.error(f"--part: got {given.part}, expected one of {', '.join(parts)}")
    chosen = [case for case in cases if given.part in (None, case.part)]
    deadline = time.monotonic() + 60 * given.minutes
    return Options(given.device, given.tiny, given.out or rows.RESULTS, given.part, deadline), chosen


def _supervise(script: str, cases: Sequence[Case], options: Options, path: Path) -> int:
    """Starts children until every case has a row, the limit has come, or a child cannot start."""
    context = multiprocessing.get_context("fork")
    while True:
        mine, theirs = context.Pipe(duplex=False)
        child = context.Process(target=_child, args=(theirs, script, cases, options, path))
        child.start()
        theirs.close()
        try:
            stub, why = _listen(mine, child, options.deadline)
        except KeyboardInterrupt:
            child.kill()
            child.join()
            return STOPPED
        if why == LIMIT:
            return STOPPED
        if child.exitcode in (0, STOPPED):
            return child.exitcode
        if child.exitcode == LOST:
            continue
        if stub is None:
            print(f"{script}: {why}", file=sys.stderr, flush=True)
            return 2 if child.exitcode == 2 else 1
        rows.RowFile(path).append(stub | BLANK | {"status": "failed", "reason": why})
        print(f"  failed    {rows.canonical(stub['key'])}  {why}", flush=True)


def _listen(
    pipe: multiprocessing.connection.Connection, child: BaseProcess, deadline: float
) -> tuple[dict[str, Any] | None, str]:
    """Follows a child to its end. Returns the row stub of the case it was in, if any, and what happened."""
    stub: dict[str, Any] | None = None
    why = "ended before its first case"
    while True:
        patience = min(SILENCE_S, max(1.0, deadline + GRACE_S - time.monotonic()))
        if not pipe.poll(patience):
            child.kill()
            child.join()
            return (stub, f"no answer within {patience:.0f} s: killed") if patience == SILENCE_S else (None, LIMIT)
        try:
            kind, value = pipe.recv()
        except EOFError:
            child.join()
            if stub is not None:
                why = f"the process ended with exit code {child.exitcode} during this case"
            return stub, why
        if kind == "case":
            stub = value
        elif kind == "row":
            stub = None
        else:
            why = value


def _child(pipe: Any, script: str, cases: Sequence[Case], options: Options, path: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: it ends this process
    try:
        bench = Bench(options.device, options.tiny)
        bench.warm_up()
    except Unsupported as error:
        pipe.send(("why", str(error)))
        sys.exit(2)
    file, source, at_commit = rows.RowFile(path), rows.source_hash(script), rows.commit()
    known = file.ids()
    for case in cases:
        name = rows.row_id(script, case.key, source, bench.environment)
        if name in known:
            continue
        if time.monotonic() >= options.deadline:
            sys.exit(STOPPED)
        stub = {
            "id": name,
            "script": Path(script).stem,
            "part": case.part,
            "key": dict(case.key),
            "source": source,
            "commit": at_commit,
            **bench.environment,
            "tiny": options.tiny,
            "utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        pipe.send(("case", stub))
        row, lost = _row(case, bench, stub)
        gc.collect()  # a traceback or a graph may hold gigabytes in a cycle
        file.append(row)
        pipe.send(("row", None))
        print(_line(row), flush=True)
        if lost:
            sys.exit(LOST)  # the row is written; the parent starts a fresh process for the rest


def _row(case: Case, bench: Bench, stub: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """The finished row, and whether the device was lost on the way."""
    before = bench.nvml.clocks_mhz()
    try:
        ceilings = bench.ceilings
        fields = row_fields(case.measure(bench), ceilings)
    except Unsupported as error:
        return stub | BLANK | {"status": "unsupported", "reason": str(error)}, False
    except Exception as error:  # a fault of one case, a peer's included, must not take the others with it
        traceback.print_exc()
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"[:300]
        return stub | BLANK | {"status": "failed", "reason": reason}, _lost(bench)
    clocks = {"before": before, "after": bench.nvml.clocks_mhz()}
    return stub | fields | {"clocks_mhz": clocks, "ceilings": ceilings}, False


def _lost(bench: Bench) -> bool:
    import torch

    if bench.device.type != "cuda":
        return False
    try:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
    except RuntimeError:
        return True
    return False


def _line(row: dict[str, Any]) -> str:
    took = f"{row['median_s'] * 1e6:12.3f} us" if row.get("median_s") is not None else " " * 15
    return f"  {row['status']:11s}{took}  {rows.canonical(row['key'])}  {row.get('reason') or ''}".rstrip()


def need_triton() -> None:
    """Raises :class:`Unsupported` where Triton is missing."""
    if importlib.util.find_spec("triton") is None:
        raise Unsupported("Triton is not installed")


__all__ = ["Case", "Measurement", "Unsupported", "main", "need_triton"]
