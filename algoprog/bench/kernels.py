"""`algoprog bench kernels`: starts the measurement script of the source checkout and reads its rows.

On a GPU the rows are absolute: seconds, shares of ceilings measured beside them, accuracy. On a CPU the reference runs against
eager PyTorch at small sizes, and only the ratio of the two is kept.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from algoprog.config import InputError

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "operations.py"
STOPPED = 75
PARTS = ("plain", "compiled", "adamw")
LONGEST_MINUTES = 60

Json = dict[str, Any]


def measure(out: Path | None, minutes: float, part: str | None = None) -> Json:
    """Measure, and return ``{"device", "finished", "rows"}``. GPU rows are appended to ``out`` (default benchmarks/results).

    Raises:
        InputError: not in a source checkout, or an argument is out of range.
    """
    if not SCRIPT.exists():
        raise InputError(
            "the benchmarks are part of the source checkout", where=SCRIPT, remedy="run it from a checkout"
        )
    if part not in (None, *PARTS):
        raise InputError("unknown part", where="--part", got=part, expected=", ".join(PARTS))
    if not 0 < minutes <= LONGEST_MINUTES:
        raise InputError("no such time", where="--minutes", got=minutes, expected=f"above 0, at most {LONGEST_MINUTES}")
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) if device == "cpu" else out or ROOT / "benchmarks" / "results"
        options = ["--device", device, "--minutes", str(minutes), "--out", str(folder)]
        options += ["--tiny"] if device == "cpu" else []
        options += ["--part", part] if part else []
        code = _run([sys.executable, str(SCRIPT), *options])
        if code not in (0, STOPPED):
            raise RuntimeError(f"{SCRIPT.name} ended with exit code {code}")
        rows = [json.loads(line) for line in (folder / "operations.jsonl").read_text().splitlines()]
    if device == "cpu":
        rows = relative(rows)
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            (out / "operations-cpu.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"device": device, "finished": code == 0, "rows": rows}


def _run(command: list[str]) -> int:
    """Run it, its progress on stderr; returns the exit code."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            print(line, end="", file=sys.stderr, flush=True)
    return child.returncode


def relative(rows: list[Json]) -> list[Json]:
    """Rows without seconds: the time of each over that of eager for the same problem, None where either has none."""
    identity = ("script", "key", "source", "commit", "device", "versions", "status", "reason", "accuracy")
    eager = {_problem(row): row for row in rows if row["key"]["variant"] == "eager"}
    found = []
    for row in rows:
        own, base = row["median_s"], eager.get(_problem(row), {}).get("median_s")
        ratio = own / base if own and base else None
        spread = row["iqr_s"] / own if own else None
        found.append({**{key: row[key] for key in identity}, "time_over_eager": ratio, "iqr_over_median": spread})
    return found


def _problem(row: Json) -> str:
    return json.dumps({k: v for k, v in row["key"].items() if k != "variant"}, sort_keys=True)
