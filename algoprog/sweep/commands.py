"""What `algoprog plan`, `sweep`, `status` and `runs export` do."""

from __future__ import annotations

import csv
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from algoprog.config import InputError, unknown_key
from algoprog.data.store import TokenStore
from algoprog.data.tokens import open_store, prepare
from algoprog.flops.conventions import DEFAULT
from algoprog.sweep.calibration import Candidate, calibrate
from algoprog.sweep.driver import count_states, run_sweep
from algoprog.sweep.executors import Executor
from algoprog.sweep.local_pool import LocalExecutor
from algoprog.sweep.plan import PlannedRun, check_data, expand
from algoprog.sweep.progress import show_progress
from algoprog.sweep.rate import phase_seconds, runs_per_hour
from algoprog.sweep.rounds import Predict, Rounds
from algoprog.sweep.schema import FINISHED
from algoprog.sweep.store import FILE, open_for_driving, open_for_reading
from algoprog.sweep.sweep_file import SweepConfig, load_sweep
from algoprog.sweep.timing import time_shapes
from algoprog.sweep.verify import verify
from algoprog.training.commands import resolve_precision
from algoprog.training.execution import REQUESTS

Json = dict[str, Any]


def read_plan(file: str, precision: str, size: str | None = None) -> tuple[SweepConfig, list[PlannedRun]]:
    """A sweep file and the runs that can be planned before its first one is finished.

    Raises:
        InputError: see :func:`algoprog.sweep.sweep_file.load_sweep` and :func:`algoprog.sweep.plan.expand`.
    """
    sweep = load_sweep(file, size)
    runs = expand(sweep, resolve_precision(precision), file)
    check_data(runs, sweep.data)
    return sweep, runs


def plan(file: str, precision: str, workers: int | None, threads: int, size: str | None = None) -> Json:
    """The runs with exact work and, from a few timed steps of every shape, seconds and memory. Writes nothing."""
    sweep, runs = read_plan(file, precision, size)
    tokens = _prepared(sweep)
    shapes = {run.shape: run for run in sorted(runs, key=lambda run: run.work.flops_per_step)}
    configs = [run.config.model_dump(mode="json") for run in shapes.values()]
    costs = dict(zip(shapes, time_shapes(configs, threads, _count_shapes(len(configs))), strict=True))
    workers = workers or default_workers(threads)
    rows = [_plan_row(run, costs[run.shape], tokens) for run in runs]
    seconds = sum(row["seconds"] for row in rows)
    return {
        "sweep": sweep.name,
        "runs": rows,
        "total_flops": sum(row["flops"] for row in rows),
        "total_tokens": sum(row["tokens"] for row in rows),
        "workers": workers,
        "worker_seconds": seconds,
        "wall_seconds": max(seconds / workers, max(row["seconds"] for row in rows)),
        "seconds_include": "training; evaluation and start-up come on top",
        "searches": _count_searches(sweep),
        "data": None if tokens is None else tokens.fingerprint,
    }


def _count_searches(sweep: SweepConfig) -> int:
    """How many searches will add runs of their own to those listed."""
    searched = (grid for grid in sweep.grids if grid.lr_search is not None or grid.tune is not None)
    return sum(len(grid.arch) * len(grid.width) * len(grid.budgets()) for grid in searched)


def _prepared(sweep: SweepConfig) -> TokenStore | None:
    try:
        return open_store(sweep.data)
    except InputError:
        return None  # The plan is still exact without tokens; run names and epochs are shown as unknown.


def _count_shapes(total: int) -> Any:
    return lambda done: print(f"timed {done} of {total} shapes", file=sys.stderr, flush=True)


def _plan_row(run: PlannedRun, cost: Mapping[str, Any], tokens: TokenStore | None) -> Json:
    config, work = run.config, run.work
    return {
        "run": None if tokens is None else config.digest(tokens.fingerprint),
        "arch": config.arch,
        "width": config.model.width,
        "depth": config.model.depth,
        "seed": config.seed,
        "lr": config.optim.lr,
        "params": work.params,
        "steps": work.steps,
        "tokens": work.tokens,
        "epochs": None if tokens is None else work.tokens / len(tokens.train),
        "flops": work.flops,
        "group": run.group,
        "seconds": work.steps * cost["seconds_per_step"],
        "memory_bytes": cost["peak_memory_bytes"],
    }


def default_workers(threads: int) -> int:
    """One worker per GPU; on a CPU as many as fill the cores."""
    return _gpus() or max(1, (os.cpu_count() or 1) // threads)


def _gpus() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def settle(
    runs: Sequence[PlannedRun], tokens: TokenStore, out: Path, workers: int | None, threads: int | None
) -> Candidate:
    """Workers and threads: as asked for, else calibrated for what is left to do on a CPU, and recorded in ``out``'s store."""
    asked = Candidate(workers or default_workers(threads or 1), threads or 1, True)
    if workers is not None or threads is not None or _gpus():
        return asked
    with open_for_driving(out) as store:
        finished = {run["digest"] for run in store.runs() if run["state"] in FINISHED}
        left = [run for run in runs if run.config.digest(tokens.fingerprint) not in finished]
        if not left:
            return asked
        found = calibrate(left, os.cpu_count() or 1)
        store.set_meta({"calibration": found.as_json()})
    return found.chosen


def make_executor(
    name: str,
    tokens: TokenStore,
    out: Path,
    workers: int | None,
    threads: int,
    per_gpu: str = "1",
    execution: str = "auto",
    tuned: bool = True,
) -> Executor:
    """The executor called ``name``. ``per_gpu`` runs share a worker: a number, or "auto" for as many as are measured to pay.

    Raises:
        InputError: there is no executor or execution of that name, or ``per_gpu`` is neither.
    """
    if execution not in REQUESTS:
        raise unknown_key(execution, list(REQUESTS), where="--execution", kind="execution")
    if per_gpu != "auto" and not (per_gpu.isdecimal() and int(per_gpu) > 0):
        raise InputError("runs at once", where="--per-gpu", got=per_gpu, expected="auto, or a number of at least 1")
    if name != "local":
        raise unknown_key(name, ["local"], where="--executor", kind="executor")
    return LocalExecutor(
        tokens=tokens.path,
        logs=out / "logs",
        checkpoints=out / "checkpoints",
        workers=workers or default_workers(threads),
        threads=threads,
        gpus=_gpus(),
        slots=0 if per_gpu == "auto" else int(per_gpu),
        execution=execution,
        tuned=tuned,
    )


def sweep(
    file: str,
    out: Path,
    executor: str,
    precision: str,
    workers: int | None,
    threads: int | None,
    size: str | None,
    predict: Predict,
    per_gpu: str = "1",
    execution: str = "auto",
) -> Json:
    """Run or resume a sweep file into ``out``; ``predict`` is asked where the sweep wants predictions first.

    The last two options are those of :func:`make_executor`.
    """
    config, runs = read_plan(file, precision, size)
    tokens = prepare(config.data)
    how = settle(runs, tokens, out, workers, threads)
    pool = make_executor(executor, tokens, out, how.workers, how.threads, per_gpu, execution, how.tuned)
    rounds = Rounds(config, resolve_precision(precision), file, predict)
    summary = run_sweep(config, rounds.first(), tokens, pool, out, show_progress(), rounds)
    return {
        "out": str(out),
        "planned": summary.planned,
        "executed": summary.executed,
        "complete": summary.complete,
        "runs_per_hour": status(out)["runs_per_hour"],
        **{state: summary.states.get(state, 0) for state in ("done", "diverged", "failed")},
    }


def status(folder: Path) -> Json:
    """States of all runs, and what failed and why."""
    with open_for_reading(folder) as store:
        runs, attempts, meta = store.runs(), store.attempts(), store.meta()
    left = [run for run in runs if run["state"] not in FINISHED]
    return {
        "sweep": _sweep_name(meta),
        "total": len(runs),
        "states": count_states(runs),
        "flops_done": sum(run["flops"] for run in runs if run["state"] in FINISHED),
        "flops_left": sum(run["flops"] for run in left),
        "runs_per_hour": runs_per_hour(attempts),
        "phase_seconds": phase_seconds(run["result"] for run in runs),
        "runs": [{key: run[key] for key in ("digest", "arch", "width", "seed", "flops", "state")} for run in runs],
        "problems": [
            {"run": attempt["digest"], "outcome": attempt["outcome"], "message": attempt["message"]}
            for attempt in attempts
            if attempt["outcome"] in ("failed", "retry", "diverged")
        ],
    }


def _sweep_name(meta: Json) -> str | None:
    """The name in a store's meta, if there is one: the store may be somebody else's."""
    sweep = meta.get("sweep")
    name = sweep.get("name") if isinstance(sweep, dict) else None
    return None if name is None else str(name)


def verify_store(folder: Path) -> Json:
    """Everything that is wrong with a store, and how much of it was checked."""
    found = verify(folder)
    return {
        "store": str(folder / FILE),
        "whole": found.whole,
        "checked": found.checked,
        "problems": list(found.problems),
    }


def export(folder: Path, format: str, output: Path | None, convention: str = DEFAULT) -> Json:
    """Write the finished runs as CSV or Parquet, ``flops`` in the named convention.

    Raises:
        InputError: unknown format or convention, no finished runs, or pyarrow is missing for Parquet.
    """
    if format not in ("csv", "parquet"):
        raise unknown_key(format, ["csv", "parquet"], where="--format", kind="format")
    with open_for_reading(folder) as store:
        points = store.points(convention)
    if not points:
        raise InputError("no finished runs to export", where=folder)
    path = output or folder / f"runs.{format}"
    try:
        (_write_csv if format == "csv" else _write_parquet)(points, path)
    except OSError as error:
        raise InputError(f"cannot be written ({error})", where=path) from None
    return {"file": str(path), "rows": len(points), "format": format, "flop_convention": convention}


def _write_csv(points: list[Json], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(points[0]))
        writer.writeheader()
        writer.writerows({k: "" if isinstance(v, float) and math.isnan(v) else v for k, v in p.items()} for p in points)


def _write_parquet(points: list[Json], path: Path) -> None:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise InputError(
            "Parquet needs pyarrow", remedy='pip install "algoprog[parquet]", or use --format csv'
        ) from None
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(points), path)
