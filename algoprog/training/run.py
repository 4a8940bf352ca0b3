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

from algoprog.config import RunConfig
from algoprog.data.tokens import prepare
from algoprog.training.checkpoint import Checkpoints
from algoprog.training.engines import Engine, open_engine
from algoprog.training.loop import Outcome, train

Json = dict[str, Any]


def train_in_folder(
    config: RunConfig,
    engine_name: str,
    out: Path | None,
    show: Callable[[Json], None],
    should_stop: Callable[[], bool] = lambda: False,
) -> Json | None:
    """Train ``config`` and return its record (digest, folder, outcome); None on ranks other than 0.

    ``out`` defaults to ``runs/ARCH-WIDTH-DIGEST``. ``show`` receives metric rows on rank 0.

    Raises:
        InputError: bad data, a budget below one step, or an engine that is not installed.
        Stopped: asked to stop; the state is saved.
    """
    engine = open_engine(engine_name)
    try:
        if engine.place.rank == 0:
            prepare(config.data)
        engine.fence()
        store = prepare(config.data, progress=False)
        digest = config.digest(store.fingerprint)
        folder = out or Path("runs") / f"{config.arch}-{config.model.width}-{digest}"
        finished = _read_outcome(folder, digest)
        if finished is None:
            finished = _train(config, store, engine, folder, digest, show, should_stop)
        return finished if engine.place.rank == 0 else None
    finally:
        engine.close()


def _read_outcome(folder: Path, digest: str) -> Json | None:
    try:
        record: Json = json.loads((folder / "outcome.json").read_text())
    except FileNotFoundError:
        return None
    return record if record["run"] == digest else None


def _train(
    config: RunConfig,
    store: Any,
    engine: Engine,
    folder: Path,
    digest: str,
    show: Callable[[Json], None],
    should_stop: Callable[[], bool],
) -> Json:
    checkpoints = Checkpoints(folder / "checkpoints" / digest, digest)
    if engine.place.rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
        _write_whole(folder / "config.json", config.model_dump_json(indent=1))
        (folder / "metrics.jsonl").write_text("")  # every attempt reports the whole curve
    engine.fence()

    def on_metrics(row: Json) -> None:
        with (folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"run": digest, **row}) + "\n")
        show(row)

    outcome = train(config, store, engine, checkpoints=checkpoints, on_metrics=on_metrics, should_stop=should_stop)
    record = _record(config, digest, folder, engine, outcome)
    if engine.place.rank == 0:
        _write_whole(folder / "outcome.json", json.dumps(record, indent=1, allow_nan=False))
        checkpoints.discard()
    return record


def _record(config: RunConfig, digest: str, folder: Path, engine: Engine, outcome: Outcome) -> Json:
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
        **asdict(outcome),
    }


def _write_whole(path: Path, text: str) -> None:
    """Write beside, then rename: the file is whole or absent."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text + "\n")
    partial.replace(path)
