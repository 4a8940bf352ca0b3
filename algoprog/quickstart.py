"""The main job on the embedded default: tokens, a sweep of three architectures, laws, gains, a report."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from algoprog.data.tokens import prepare
from algoprog.report.page import Written, write_report
from algoprog.scaling import Analysis
from algoprog.sweep.commands import make_executor, read_plan, settle
from algoprog.sweep.driver import SweepSummary, run_sweep
from algoprog.sweep.progress import show_progress


@dataclass(frozen=True)
class Quickstart:
    """What the quickstart leaves: the sweep's summary, the analysis and the page, and where the time went (seconds)."""

    summary: SweepSummary
    report: Written
    baselines: Mapping[str, float]
    seconds: Mapping[str, float]

    @property
    def analysis(self) -> Analysis:
        return self.report.analysis

    def as_json(self) -> dict[str, Any]:
        return {
            "planned": self.summary.planned,
            "executed": self.summary.executed,
            "states": dict(self.summary.states),
            "baselines": dict(self.baselines),
            "seconds": dict(self.seconds),
            **self.report.as_json(),
        }


def run(out: Path, draws: int) -> Quickstart:
    """Run or continue the quickstart in ``out``: small budgets on a CPU, larger ones on a GPU.

    A run that failed is left out of the laws and visible in the report; calling again tries it again.

    Raises:
        InputError: the folder cannot be used, or no run finished.
        KeyboardInterrupt: stopped; calling again continues.
    """
    began = time.monotonic()
    name = _sweep_for_this_machine()
    sweep, runs = read_plan(name, "auto")
    tokens = prepare(sweep.data)
    prepared = time.monotonic()
    total = sum(run.work.flops for run in runs)
    print(f"{name}: {len(runs)} runs, {total:.2e} FLOPs, data {tokens.fingerprint[:12]}", file=sys.stderr, flush=True)
    how = settle(runs, tokens, out, workers=None, threads=None)
    executor = make_executor("local", tokens, out, how.workers, how.threads, tuned=how.tuned)
    summary = run_sweep(sweep, runs, tokens, executor, out, show_progress())
    trained = time.monotonic()
    report = write_report(out, draws)
    ended = time.monotonic()
    return Quickstart(
        summary=summary,
        report=report,
        baselines=tokens.meta["baselines"],
        seconds={
            "data": prepared - began,
            "sweep": trained - prepared,
            "report": ended - trained,
            "total": ended - began,
        },
    )


def _sweep_for_this_machine() -> str:
    import torch

    return "quickstart-gpu" if torch.cuda.is_available() else "quickstart"
