"""One run in a folder of its own: tokens, training under any launcher, and a record that says how it ended.

The folder holds ``config.json``, ``metrics.jsonl``, ``environment.json`` (of the last attempt) and, once the run has ended,
``outcome.json``, or ``stopped.json`` with the exit code if it was asked to stop; checkpoints while it runs, and the last ones
of a run that diverged. Repeating a finished run reads its outcome; repeating an interrupted one continues it, and what it
repeats must be what was there (:mod:`algoprog.training.replay`).
While a process works on a folder or on a run's checkpoints no other one does (:mod:`algoprog.training.claim`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from algoprog.config import InputError, RunConfig
from algoprog.data.cache import sync
from algoprog.data.store import TokenStore
from algoprog.data.tokens import prepare
from algoprog.training.checkpoint import Checkpoints
from algoprog.training.claim import claimed
from algoprog.training.determinism import determinism, wants_determinism
from algoprog.training.engines import Engine, open_engine
from algoprog.training.loop import Stopped, train
from algoprog.training.memory import PLAIN, Memory
from algoprog.training.metrics_file import MetricsFile, read_metrics
from algoprog.training.out_of_memory import train_within_memory
from algoprog.training.outcome import Outcome
from algoprog.training.replay import Replay
from algoprog.training.state import describe_environment

Json = dict[str, Any]

OUTCOME_FILE, STOPPED_FILE = "outcome.json", "stopped.json"


def train_in_folder(
    config: RunConfig,
    engine_name: str,
    out: Path | None,
    show: Callable[[Json], None],
    should_stop: Callable[[], bool] = lambda: False,
    kernels: str = "auto",
    deepspeed: str | None = None,
    memory: Memory = PLAIN,
    deterministic: bool | None = None,
    execution: str = "auto",
    halve: bool = False,
) -> Json | None:
    """Train ``config`` and return its record (digest, folder, outcome); None on ranks other than 0.

    ``out`` defaults to ``runs/ARCH-WIDTH-DIGEST``. ``show`` receives metric rows on rank 0. ``deterministic`` None is the
    default of the device (:mod:`algoprog.training.determinism`), ``execution`` is explained in
    :mod:`algoprog.training.execution`. ``halve`` lets a run that is out of memory go on with half the rows at once.

    Raises:
        InputError: bad data, a budget below one step, an engine that is not installed or has bad settings, kernels that
            cannot run here, or a folder that cannot be used or on which another process works.
        ReplayMismatch: a continued run is not the one that stopped.
        Stopped: asked to stop; the state is saved.
    """
    engine = open_engine(engine_name, deepspeed)
    try:
        _on_first_rank(engine, lambda: prepare(config.data))
        store = prepare(config.data, progress=False)
        digest = config.digest(store.fingerprint)
        folder = out or Path("runs") / f"{config.arch}-{config.model.width}-{digest}"
        with ExitStack() as held:
            _on_first_rank(engine, lambda: _take(folder, digest, config, held))
            record = _read(folder / OUTCOME_FILE)
            if record is None:
                held.enter_context(determinism(wants_determinism(deterministic, engine.place.device)))
                record = _train(
                    config, store, engine, folder, digest, show, should_stop, kernels, memory, execution, halve
                )
            return record if engine.place.rank == 0 else None
    finally:
        engine.close()


def _on_first_rank(engine: Engine, action: Callable[[], object]) -> None:
    """Rank 0 acts while the others wait; if it fails, they leave too instead of waiting for ever."""
    problem: InputError | None = None
    if engine.place.rank == 0:
        try:
            action()
        except InputError as error:
            problem = error
    failed = engine.sum_over_ranks(torch.tensor(float(problem is not None), device=engine.place.device))
    if problem is not None:
        raise problem
    if failed > 0:
        raise SystemExit(2)


def _take(folder: Path, digest: str, config: RunConfig, held: ExitStack) -> None:
    """Make the folder this run's own, and this process's until ``held`` is left; so for its checkpoints if it is not over.

    Raises:
        InputError: it belongs to another run, another process works on it, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held.enter_context(claimed(folder))
        if not (folder / OUTCOME_FILE).exists():
            checkpoints = _checkpoints(folder, digest)
            checkpoints.mkdir(parents=True, exist_ok=True)
            held.enter_context(claimed(checkpoints))  # in the folder of a sweep one of its workers may hold them
        owner = _read(folder / "config.json")
        if owner is None:
            write_whole(folder / "config.json", {"run": digest, "config": config.model_dump(mode="json")})
    except OSError as error:
        raise InputError(f"the output folder cannot be written ({error})", where=folder) from None
    if owner is not None and owner.get("run") != digest:
        raise InputError(
            "this folder holds another run",
            where=folder,
            got=digest,
            expected=owner.get("run"),
            remedy="choose another --out",
        )


def _checkpoints(folder: Path, digest: str) -> Path:
    """Where a sweep in ``folder`` keeps them, too."""
    return folder / "checkpoints" / digest


def _read(path: Path) -> Json | None:
    """A JSON object, or None if there is no such file.

    Raises:
        InputError: the file is something else.
    """
    try:
        record = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise InputError("not a record of a run", where=path, remedy="choose another --out, or remove that folder")
    return record


def _train(
    config: RunConfig,
    store: TokenStore,
    engine: Engine,
    folder: Path,
    digest: str,
    show: Callable[[Json], None],
    should_stop: Callable[[], bool],
    kernels: str,
    memory: Memory,
    execution: str,
    halve: bool,
) -> Json:
    checkpoints = Checkpoints(_checkpoints(folder, digest), digest)
    first_rank = engine.place.rank == 0
    if first_rank:
        about_engine = _about_engine(folder, engine)
        (folder / STOPPED_FILE).unlink(missing_ok=True)

    def attempt(memory: Memory) -> Outcome:
        """Every attempt reports the whole curve, and what it repeats must be what was there."""
        if first_rank:
            choices = {"kernels": kernels, **memory.facts(config, engine.place.world), **about_engine}
            replay = _open_replay(folder, engine, choices)
            metrics = MetricsFile(folder / "metrics.jsonl")
        engine.fence()

        def on_metrics(row: Json) -> None:
            replay.check(row)
            metrics.append({"run": digest, **row})
            show(row)

        outcome = train(
            config,
            store,
            engine,
            kernels=kernels,
            execution=execution,
            memory=memory,
            checkpoints=checkpoints,
            on_metrics=on_metrics,
            should_stop=should_stop,
        )
        if first_rank:
            metrics.close()
        return outcome

    try:
        outcome = train_within_memory(attempt, memory, config, engine.place.world, halve)
    except Stopped as stopped:
        if first_rank:  # a launcher of several ranks hides their exit codes behind its own
            ended = {"run": digest, "state": "preempted", "exit_code": 75, "message": str(stopped)}
            write_whole(folder / STOPPED_FILE, ended)
        raise
    record = _record(config, store, digest, folder, engine, outcome)
    if first_rank:
        record.update(about_engine)
        write_whole(folder / OUTCOME_FILE, record)
        if outcome.state == "done":  # whoever wants to know why a run diverged finds its last state
            checkpoints.discard()
    return record


def _about_engine(folder: Path, engine: Engine) -> Json:
    """The engine's own record; a mark that another engine would give other bits stays on a run that was continued."""
    before = _read(folder / "environment.json") or {}
    marked = before.get("deterministic_across_engines") is False
    return {**engine.record(), **({"deterministic_across_engines": False} if marked else {})}


def _open_replay(folder: Path, engine: Engine, choices: Json) -> Replay:
    """What the attempt before reported, held to strictly if its environment and ``choices`` were those of this one, in
    deterministic mode."""
    place = engine.place
    mode = torch.are_deterministic_algorithms_enabled()
    environment = {**describe_environment(place.device, place.world, place.engine, mode), **choices}
    same = _read(folder / "environment.json") == environment
    write_whole(folder / "environment.json", environment)
    return Replay(read_metrics(folder / "metrics.jsonl"), strict=mode and same)


def _record(config: RunConfig, store: TokenStore, digest: str, folder: Path, engine: Engine, outcome: Outcome) -> Json:
    place = engine.place
    return {
        "run": digest,
        "arch": config.arch,
        "width": config.model.width,
        "seed": config.seed,
        "folder": str(folder),
        "engine": place.engine,
        "world": place.world,
        "device": str(place.device),
        "precision": config.precision,
        "data_fingerprint": store.fingerprint,
        "torch": torch.__version__,
        **asdict(outcome),
    }


def write_whole(path: Path, value: Json) -> None:
    """Write JSON beside, flush it, then rename: after a crash or a power cut the file is whole or absent."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n")
    sync(partial)
    partial.replace(path)
    sync(path.parent)
