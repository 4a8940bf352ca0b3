"""Commands of the package under a time limit, and the row that says how they went: what the three scripts of runs share.

A command that reaches the limit is asked to save and stop; the same script then goes on where it stopped, since sweeps and
runs of the package do. The row is written when the work is complete.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rows
import torch
from device import Nvml, environment
from drive import BLANK, GRACE_S, STOPPED

ROOT = rows.HERE.parents[1]
SCRATCH = ROOT / "runs" / "gpu"


@dataclass(frozen=True)
class Options:
    """The command line, parsed. ``work`` holds what is continued; ``deadline`` is on the monotonic clock, in seconds."""

    device: str
    tiny: bool
    out: Path
    work: Path
    corpus: str
    tokenizer: str
    deadline: float


def parse(script: str, about: str, arguments: Sequence[str] | None) -> Options:
    """Options of a script of runs; exits with code 2 on bad input."""
    parser = argparse.ArgumentParser(script, description=about)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="sizes that only show that the script runs")
    parser.add_argument("--minutes", type=float, default=9.0, help="stop after this long; the same command continues")
    parser.add_argument("--out", type=Path, help="folder for the rows (default benchmarks/results)")
    parser.add_argument("--work", type=Path, help="folder of the runs (default runs/gpu/SCRIPT)")
    parser.add_argument("--corpus", default="sotu", help="as in `algoprog data prepare`")
    parser.add_argument("--tokenizer", help="default gpt2, with --tiny bpe-300")
    parser.add_argument("--pack", type=Path, help="folder of `algoprog data pack`: unpacked into the cache first")
    given = parser.parse_args(arguments)
    if not 0 < given.minutes <= 60:
        parser.error(f"--minutes: got {given.minutes}, expected more than 0 and at most 60")
    if given.device == "cpu" and not (given.tiny and given.out):
        parser.error("--device cpu tries a script out: it needs --tiny, and --out with a folder outside the results")
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no CUDA device; try the script out with --device cpu --tiny --out FOLDER")
    deadline = time.monotonic() + 60 * given.minutes
    if given.pack is not None and (code := run(["data", "unpack", str(given.pack)], deadline)[0]):
        raise SystemExit(code)
    out = given.out or rows.RESULTS
    work = given.work or (out / "work" / Path(script).stem if given.tiny else SCRATCH / Path(script).stem)
    tokenizer = given.tokenizer or ("bpe-300" if given.tiny else "gpt2")
    return Options(given.device, given.tiny, out, work, given.corpus, tokenizer, deadline)


def run(command: Sequence[str], deadline: float) -> tuple[int, Any]:
    """``algoprog COMMAND --json`` until the deadline. Returns its exit code (75: stopped, it can go on) and its JSON."""
    began = time.monotonic()
    child = subprocess.Popen(
        [sys.executable, "-m", "algoprog.cli", *command, "--json"], stdout=subprocess.PIPE, text=True, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"},
    )  # fmt: skip
    try:
        text, _ = child.communicate(timeout=max(0.1, deadline - began))
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGTERM)
        try:
            text, _ = child.communicate(timeout=GRACE_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            return STOPPED, None
        if child.returncode:  # 75, or ended by the signal before it could listen: either way it has not failed
            return STOPPED, None
    found = None if child.returncode or not text.strip() else json.loads(text)
    return child.returncode, found


def finish(script: str, key: Mapping[str, Any], options: Options, measure: Callable[[], tuple[int, Any]]) -> int:
    """Run ``measure`` unless its row is there, and write the row when it is complete. Returns the script's exit code."""
    device = torch.device(options.device)
    about = environment(device, Nvml(device))
    source = rows.source_hash(script)
    name = rows.row_id(script, key, source, about)
    file = rows.RowFile(options.out / f"{Path(script).stem}.jsonl")
    if name in file.ids():
        print(f"{file.path}: nothing new", flush=True)
        return 0
    code, facts = measure()
    if code == STOPPED:
        print("stopped before the end; the same command goes on from here", flush=True)
        return STOPPED
    row = {
        "id": name,
        "script": Path(script).stem,
        "part": "all",
        "key": dict(key),
        "source": source,
        "commit": rows.commit(),
        **about,
        "tiny": options.tiny,
        "utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **BLANK,
        "status": "failed" if code else "answered",
        "reason": f"the command ended with exit code {code}" if code else None,
        "facts": facts,
    }
    file.append(row)
    print(f"{file.path}: 1 {row['status']}", flush=True)
    return 0


def sweep(name: str, grids: Sequence[Mapping[str, Any]], options: Options) -> tuple[int, Any]:
    """Run or continue a sweep of these grids; facts are its states, runs per hour, seconds by phase and final losses."""
    options.work.mkdir(parents=True, exist_ok=True)
    plan = {"name": name, "data": {"corpus": options.corpus, "tokenizer": options.tokenizer}, "grids": list(grids)}
    file = options.work / "sweep.yaml"
    file.write_text(json.dumps(plan))  # JSON is YAML
    folder = options.work / "sweep"
    code, summary = run(["sweep", str(file), "--out", str(folder)], options.deadline)
    if code:
        return code, None
    code, state = run(["status", str(folder)], options.deadline + 60)
    kept = ("total", "states", "runs_per_hour", "phase_seconds")
    return code, {"summary": summary, **{key: (state or {}).get(key) for key in kept}}
