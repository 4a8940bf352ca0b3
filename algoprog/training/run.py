"""One run in a folder of its own: tokens, training under any launcher, and a record that says how it ended.

The folder holds ``config.json``, ``metrics.jsonl`` and, once the run has ended, ``outcome.json``; checkpoints while it runs.
Repeating a finished run reads its outcome; repeating an interrupted one continues it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from algoprog.config import InputError, RunConfig
from algoprog.data.cache import sync
from algoprog.data.store import TokenStore
from algoprog.data.tokens import prepare
from algoprog.training.checkpoint import Checkpoints
from algoprog.training.engines import Engine, open_engine
from algoprog.training.loop import train
from algoprog.training.outcome import Outcome

Json = dict[str, Any]


def train_in_folder(
    config: RunConfig,
    engine_name: str,
    out: Path | None,
    show: Callable[[Json], None],
    should_stop: Callable[[], bool] = lambda: False,
    kernels: str = "auto",
) -> Json | None:
    """Train ``config`` and return its record (digest, folder, outcome); None on ranks other than 0.

    ``out`` defaults to ``runs/ARCH-WIDTH-DIGEST``. ``show`` receives metric rows on rank 0.

    Raises:
        InputError: bad data, a budget below one step, an engine that is not installed, kernels that cannot run here, or a
            folder that cannot be used.
        Stopped: asked to stop; the state is saved.
    """
    engine = open_engine(engine_name)
    try:
        _on_first_rank(engine, lambda: prepare(config.data))
        store = prepare(config.data, progress=False)
        digest = config.digest(store.fingerprint)
        folder = out or Path("runs") / f"{config.arch}-{config.model.width}-{digest}"
        _on_first_rank(engine, lambda: _claim(folder, digest, config))
        record = _read(folder / "outcome.json")
        if record is None:
            record = _train(config, store, engine, folder, digest, show, should_stop, kernels)
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


def _claim(folder: Path, digest: str, config: RunConfig) -> None:
    """Make the folder this run's own.

    Raises:
        InputError: it belongs to another run, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
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
) -> Json:
    checkpoints = Checkpoints(folder / "checkpoints" / digest, digest)
    if engine.place.rank == 0:
        (folder / "metrics.jsonl").write_text("")  # every attempt reports the whole curve
    engine.fence()

    def on_metrics(row: Json) -> None:
        with (folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"run": digest, **row}) + "\n")
        show(row)

    outcome = train(
        config, store, engine, kernels=kernels, checkpoints=checkpoints, on_metrics=on_metrics, should_stop=should_stop
    )
    record = _record(config, store, digest, folder, engine, outcome)
    if engine.place.rank == 0:
        write_whole(folder / "outcome.json", record)
        checkpoints.discard()
    return record


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
