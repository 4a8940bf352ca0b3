"""Which way to fill a CPU with workers is fastest here: a few real steps in every candidate, and a choice that is recorded.

Only settings that change no number may be chosen: how many workers, threads per worker, settings of the allocator. What they
leave unchanged is not assumed: a candidate whose losses differ in one bit from those of the default is shown and not taken.
Settings that change numbers (bf16, a larger batch) are timed as advice only; they belong into the sweep file.
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from algoprog.config import InputError
from algoprog.data.cache import default_cache_dir, disk_errors
from algoprog.sweep.plan import PlannedRun
from algoprog.sweep.provenance import device_name, software
from algoprog.sweep.worker_process import Inbox, WorkerProcess

Json = dict[str, Any]

ROUNDS = 5
LEAST_FLOPS = 3_000_000_000_000
"""Below this a sweep takes about a minute on two cores, and calibrating it would cost more than it could save."""

PATIENCE_S = 60.0
HALF_FEATURES = ("amx_bf16", "avx512_bf16")


@dataclass(frozen=True)
class Candidate:
    """``workers`` processes of ``threads`` threads, with the sweeps' allocator settings or without."""

    workers: int
    threads: int
    tuned: bool


@dataclass(frozen=True)
class Timed:
    """A candidate's speed: tokens per second of all workers together, median and inter-quartile range over ``rounds``.

    ``same_losses``: every loss equals the default's in every bit. ``reason`` says why there is no speed.
    """

    candidate: Candidate
    tokens_per_s: float | None
    iqr_tokens_per_s: float | None
    rounds: int
    same_losses: bool
    reason: str | None = None


@dataclass(frozen=True)
class Advice:
    """A setting that changes numbers: its speed over the default's on the same workers, and how to ask for it."""

    setting: str
    ratio: float | None
    how: str
    reason: str | None = None


@dataclass(frozen=True)
class Calibration:
    """The chosen candidate, why, and everything that was measured. ``shape`` names the run that was timed."""

    chosen: Candidate
    reason: str
    shape: str
    device: str
    timed: tuple[Timed, ...] = ()
    advice: tuple[Advice, ...] = ()
    seconds: float = 0.0

    def as_json(self) -> Json:
        """As the store keeps it."""
        return asdict(self)


def default_candidate(cores: int) -> Candidate:
    """One worker of one thread per core: runs are independent, threads of one run wait for each other."""
    return Candidate(cores, 1, True)


def candidates(cores: int) -> list[Candidate]:
    """The default first, then more threads for fewer workers, then the default with the allocator as it comes."""
    found, threads = [default_candidate(cores)], 2
    while threads <= cores:
        found.append(Candidate(max(1, cores // threads), threads, True))
        threads *= 2
    return [*found, Candidate(cores, 1, False)]


def calibrate(runs: Sequence[PlannedRun], cores: int, cache_dir: Path | None = None) -> Calibration:
    """The candidate for these runs, from the cache where this machine and software have timed the same shape before.

    Timed is the shape in which most of the runs' FLOPs are spent.

    Raises:
        InputError: not even the default can run the shape here.
    """
    shape = _costliest(runs)
    name = f"{shape.config.arch} at width {shape.config.model.width}, batch {shape.config.batch}"
    default = default_candidate(cores)
    if sum(run.work.flops for run in runs) < LEAST_FLOPS:
        reason = "default: the sweep is too short to be worth a calibration"
        return Calibration(default, reason, name, device_name())
    path = _cache_file(shape, cores, cache_dir or default_cache_dir())
    known = _read(path)
    if known is not None:
        return known
    print(f"calibrating workers and threads on {name}", file=sys.stderr, flush=True)
    found = measure(shape, cores, name)
    with disk_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}")
        partial.write_text(json.dumps(found.as_json()))
        partial.replace(path)
    return found


def _costliest(runs: Sequence[PlannedRun]) -> PlannedRun:
    flops: dict[tuple[object, ...], int] = {}
    for run in runs:
        flops[run.shape] = flops.get(run.shape, 0) + run.work.flops
    return max(runs, key=lambda run: flops[run.shape])


def _cache_file(run: PlannedRun, cores: int, cache: Path) -> Path:
    config = run.config
    versions = {name: software()[name] for name in ("python", "torch", "source_sha256")}
    shape = [config.model.model_dump(mode="json"), config.optim.name, config.batch, config.precision]
    key = json.dumps([device_name(), cores, versions, shape], sort_keys=True)
    return cache / "calibration" / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"


def _read(path: Path) -> Calibration | None:
    """A calibration from the cache; None where there is none that can be read: it is then made again."""
    try:
        content = json.loads(path.read_text())
        timed = tuple(Timed(**{**row, "candidate": Candidate(**row["candidate"])}) for row in content["timed"])
        advice = tuple(Advice(**row) for row in content["advice"])
        return Calibration(**{**content, "chosen": Candidate(**content["chosen"]), "timed": timed, "advice": advice})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def measure(run: PlannedRun, cores: int, name: str) -> Calibration:
    """Time every candidate on this run's shape, then the advice on the default's workers. About half a minute on two cores."""
    began = time.monotonic()
    tokens = run.work.tokens_per_step
    config = run.config.model_dump(mode="json")
    results: list[tuple[Candidate, list[float], list[list[float]], str | None]] = []
    for candidate in candidates(cores):
        results.append((candidate, *_time(candidate, config, tokens)))
    default, *_ = results
    if default[3] is not None:
        raise InputError(f"{name} cannot run here: {default[3]}")
    reference = default[2][0]
    timed = tuple(
        _describe(candidate, speeds, all(losses == reference for losses in seen), reason)
        for candidate, speeds, seen, reason in results
    )
    chosen, reason = choose(timed)
    advice = _advise(run, default_candidate(cores), timed[0])
    return Calibration(chosen, reason, name, device_name(), timed, advice, time.monotonic() - began)


def _describe(candidate: Candidate, speeds: Sequence[float], same: bool, reason: str | None) -> Timed:
    if not speeds:
        return Timed(candidate, None, None, 0, False, reason)
    low, middle, high = (_quantile(speeds, q) for q in (0.25, 0.5, 0.75))
    return Timed(candidate, middle, high - low, len(speeds), same, reason)


def choose(timed: Sequence[Timed]) -> tuple[Candidate, str]:
    """The fastest candidate that changes no loss; the default (the first) unless one is faster by more than both ranges."""
    default = timed[0]
    assert default.tokens_per_s is not None and default.iqr_tokens_per_s is not None
    best, reason = default.candidate, "default: no candidate is faster beyond the spread of the timings"
    most = default.tokens_per_s
    for row in timed[1:]:
        if row.tokens_per_s is None or row.iqr_tokens_per_s is None or not row.same_losses:
            continue
        margin = max(row.iqr_tokens_per_s, default.iqr_tokens_per_s)
        if row.tokens_per_s > most and row.tokens_per_s - default.tokens_per_s > margin:
            ratio = row.tokens_per_s / default.tokens_per_s
            best, most, reason = row.candidate, row.tokens_per_s, f"{ratio:.2f} times the default's tokens per second"
    return best, reason


def _advise(run: PlannedRun, candidate: Candidate, default: Timed) -> tuple[Advice, ...]:
    """bf16 where the processor has it, and twice the batch."""
    assert default.tokens_per_s is not None
    config = run.config
    larger = config.model_copy(update={"batch": 2 * config.batch})
    found = []
    if config.precision == "fp32":
        found.append(_bf16(run, candidate, default.tokens_per_s))
    speeds, _, reason = _time(candidate, larger.model_dump(mode="json"), 2 * run.work.tokens_per_step)
    ratio = _quantile(speeds, 0.5) / default.tokens_per_s if speeds else None
    found.append(Advice(f"batch {larger.batch}", ratio, "settings: {batch: N}; other losses, other best rates", reason))
    return tuple(found)


def _bf16(run: PlannedRun, candidate: Candidate, default_tokens_per_s: float) -> Advice:
    how = "--precision bf16; other losses"
    if not set(HALF_FEATURES) & cpu_features():
        return Advice("bf16", None, how, f"the processor has none of {', '.join(HALF_FEATURES)}")
    half = run.config.model_copy(update={"precision": "bf16"}).model_dump(mode="json")
    speeds, _, reason = _time(candidate, half, run.work.tokens_per_step)
    return Advice("bf16", _quantile(speeds, 0.5) / default_tokens_per_s if speeds else None, how, reason)


def cpu_features() -> set[str]:
    """What the processor says it can do (Linux); empty where it does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return {word for line in lines if line.startswith("flags") for word in line.partition(":")[2].split()}


def _quantile(values: Sequence[float], q: float) -> float:
    import numpy as np

    return float(np.quantile(values, q))


def _time(
    candidate: Candidate, config: Mapping[str, Any], tokens_per_step: int
) -> tuple[list[float], list[list[float]], str | None]:
    """Tokens per second of all workers together in every round, all losses seen, and why there are none."""
    inbox: Inbox = queue.Queue()
    pool = [
        WorkerProcess(
            f"calibration-{n}", inbox, None, candidate.threads, subprocess.DEVNULL, None, tuned=candidate.tuned
        )
        for n in range(candidate.workers)
    ]
    try:
        _gather(inbox, len(pool), lambda event: event["kind"] == "ready")
        speeds, seen = [], []
        for _ in range(ROUNDS):
            for worker in pool:
                worker.tell(kind="time", config=config)
            events = _gather(inbox, len(pool), lambda event: event["kind"] == "timed")
            speeds.append(sum(tokens_per_step / event["seconds_per_step"] for event in events))
            seen += [list(event["losses"]) for event in events]
        return speeds, seen, None
    except _Stuck as error:
        return [], [], str(error)
    finally:
        for worker in pool:
            worker.end()


class _Stuck(Exception):
    """A worker died, failed or did not answer."""


def _gather(inbox: Inbox, count: int, wanted: Callable[[Json], bool]) -> list[Json]:
    events: list[Json] = []
    while len(events) < count:
        try:
            _, event = inbox.get(timeout=PATIENCE_S)
        except queue.Empty:
            raise _Stuck(f"no answer within {PATIENCE_S:.0f} s") from None
        if event is None:
            raise _Stuck("a worker process died")
        if event["kind"] == "failed":
            raise _Stuck(str(event["message"]))
        if wanted(event):
            events.append(event)
    return events
