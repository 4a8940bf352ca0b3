"""A figure of docs/reliability.md: what was to hold, what was measured, and the command that measures it again.

One figure is one JSON object in ``benchmarks/results/reliability/NAME.json``::

    {"name": "kill-sweep", "figure": "200 random kill -9 over a 12-run sweep", "target": "0 lost, ...",
     "measured": "0 lost, ...", "met": true, "n": 200, "failures": 0, "spread": "failure rate below 1.5 % (...)",
     "command": "python benchmarks/faults/kill_sweep.py --kills 200",
     "provenance": {"commit": ..., "date": ..., "platform": ..., "processor": ..., "versions": {...}}}

``failures`` is null where the figure is a time or a ratio; ``spread`` is then said in words, with its method.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from scipy.stats import beta

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "reliability"
PACKAGES = ("algoprog", "torch", "numpy", "pandas", "pydantic", "pyyaml", "safetensors", "hypothesis")
FIELDS = ("name", "figure", "target", "measured", "met", "n", "failures", "spread", "command", "provenance")


def write_row(
    *,
    name: str,
    figure: str,
    target: str,
    measured: str,
    met: bool | None,
    n: int,
    command: str,
    failures: int | None = None,
    spread: str | None = None,
    folder: Path = RESULTS,
) -> Path:
    """Write one figure, replacing its older measurement, and return the file.

    Args:
        name: file name and key, in words joined by hyphens.
        figure: what is counted or timed, for people.
        met: None for a figure that has no target.
        n: cases tried. failures: how many of them broke the target, or None for a time or a ratio.
        spread: default for counts is the one-sided 95 % bound of :func:`failure_bound`; times and ratios must give one.

    Raises:
        ValueError: a time or ratio without a spread, no cases, or an empty text.
    """
    if failures is None and not spread:
        raise ValueError(f"{name}: a time or a ratio needs its spread")
    if n < 1 or not all((name, figure, target, measured, command)):
        raise ValueError(f"{name}: every text and at least one case are needed")
    row = {
        "name": name, "figure": figure, "target": target, "measured": measured, "met": None if met is None else bool(met),
        "n": n, "failures": failures, "spread": spread or bound_text(failures or 0, n), "command": command,
        "provenance": provenance(),
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(row, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    partial.replace(path)
    return path


def read_rows(folder: Path = RESULTS) -> list[dict[str, Any]]:
    """All figures, by name.

    Raises:
        ValueError: a file lacks a field.
    """
    rows = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    for row in rows:
        if missing := [field for field in FIELDS if field not in row]:
            raise ValueError(f"{row.get('name', '?')}: no {', '.join(missing)}")
    return rows


def failure_bound(failures: int, n: int, level: float = 0.95) -> float:
    """Upper end of the one-sided exact interval for a failure rate (Clopper and Pearson 1934): 1 - .05^(1/n) for none."""
    return 1.0 if failures >= n else float(beta.ppf(level, failures + 1, n - failures))


def bound_text(failures: int, n: int) -> str:
    """The bound in words."""
    return f"failure rate below {100 * failure_bound(failures, n):.2g} % (95 %, Clopper-Pearson)"


def provenance() -> dict[str, Any]:
    """Commit, date, platform and versions; no name of a machine."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "versions": versions,
    }


def _commit() -> str | None:
    """The commit of the checkout, with ``+changes`` where files of the package or the fault suite differ from it."""
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, timeout=20)
        paths = ["algoprog", "kernels", "tests/faults", "benchmarks/faults"]
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--", *paths], cwd=ROOT, capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if head.returncode:
        return None
    return head.stdout.strip()[:12] + ("+changes" if changed.stdout.strip() else "")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()
