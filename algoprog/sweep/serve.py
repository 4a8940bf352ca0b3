"""The runs of a worker: started as orders come, trained in turn, reported as they end."""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections import deque
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

import torch

from algoprog.config import RunConfig
from algoprog.data.store import TokenStore
from algoprog.training.admission import Admission, fits
from algoprog.training.checkpoint import Checkpoints
from algoprog.training.claim import claimed
from algoprog.training.engines import Engine
from algoprog.training.loop import Run, Stopped
from algoprog.training.shape import shape_of
from algoprog.training.together import Ended, Together
from algoprog.training.warm import Programs

WAIT_S = 5.0
"""How long a run waits for the worker that had it before and has just been killed."""


class Reporter(Protocol):
    """Where events go."""

    def send(self, kind: str, **values: Any) -> None: ...
    def metrics(self, digest: str, row: dict[str, Any]) -> None: ...
    def flush(self, digest: str) -> None: ...


class Service:
    """Orders in, events out. ``slots`` runs at once, 0: as many as are measured to pay, of which the driver is told."""

    def __init__(
        self,
        store: TokenStore | None,
        engine: Engine,
        reporter: Reporter,
        stopping: threading.Event,
        slots: int,
        execution: str,
        start_up_s: float,
    ) -> None:
        """``store`` is None in a process that only times steps; ``start_up_s`` is what the process took until now."""
        self._reporter, self._stopping, self._device = reporter, stopping, engine.place.device
        self._programs = None if store is None else Programs(store, engine, execution=execution)
        self._together, self._waiting = Together(), deque[dict[str, Any]]()
        # Only a GPU computes several runs at once; elsewhere taking turns gains nothing, so nothing is tried.
        self._fixed = slots or (None if self._device.type == "cuda" else 1)
        self._admission: dict[str, Admission] = {}
        self._claims: dict[str, ExitStack] = {}
        self._needs: dict[str, int] = {}
        self._shape, self._announced, self._start_up_s = "", slots or 1, start_up_s

    @property
    def busy(self) -> bool:
        """Whether a run is under way or waits for room."""
        return bool(len(self._together) or self._waiting)

    def start(self, order: dict[str, Any]) -> None:
        """Begin the run that ``order`` describes, or keep it until there is room."""
        self._waiting.append(order)
        self._admit()

    def turn(self) -> None:
        """One interval of every run."""
        before, running, began = self._together.tokens, len(self._together), time.monotonic()
        ended = self._together.turn()
        self._note_memory(running)
        if self._shape in self._admission and not ended:
            admission = self._admission[self._shape]
            admission.observe(running, self._together.tokens - before, time.monotonic() - began)
            self._announce(admission.level)
        self._report(ended)
        self._admit()

    def _admit(self) -> None:
        while self._waiting and (not len(self._together) or fits(self._device, self._needs.get(self._next_shape()))):
            order = self._waiting.popleft()
            self._report(self._together.add(order["digest"], lambda order=order: self._open(order)))  # type: ignore[misc]

    def _next_shape(self) -> str:
        try:
            return shape_of(RunConfig.model_validate(self._waiting[0]["config"]))
        except ValueError:  # a config that is none: opening it will say so
            return ""

    def _open(self, order: dict[str, Any]) -> Run:
        assert self._programs is not None
        digest, config = order["digest"], RunConfig.model_validate(order["config"])
        self._shape = shape_of(config)
        if not len(self._together) and self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        self._announce(self._admission.setdefault(self._shape, Admission(self._fixed)).level)
        return Run(
            config,
            self._programs,
            checkpoints=self._claim(Path(order["checkpoints"]), digest),
            on_metrics=lambda row: self._reporter.metrics(digest, row),
            should_stop=self._stopping.is_set,
        )

    def _claim(self, folder: Path, digest: str) -> Checkpoints:
        """The checkpoints in ``folder``, this process's alone until the run has ended."""
        self._claims[digest] = ExitStack()
        folder.mkdir(parents=True, exist_ok=True)
        self._claims[digest].enter_context(claimed(folder, WAIT_S))
        return Checkpoints(folder, digest)

    def _announce(self, slots: int) -> None:
        if slots != self._announced:
            self._announced = slots
            self._reporter.send("slots", slots=slots)

    def _note_memory(self, running: int) -> None:
        """What a run takes is what is allocated while it is alone: a bound, for other programs may be idle beside it."""
        if running == 1 and self._device.type == "cuda":
            self._needs[self._shape] = torch.cuda.max_memory_allocated(self._device)

    def _report(self, ended: list[Ended]) -> None:
        for end in ended:
            self._reporter.flush(end.name)
            self._claims.pop(end.name, ExitStack()).close()
            if end.outcome is not None:
                seconds = (
                    {"start_up": self._start_up_s, **end.outcome.seconds} if self._start_up_s else end.outcome.seconds
                )
                self._start_up_s = 0.0  # of the first run only
                result = asdict(replace(end.outcome, seconds=seconds))
                self._reporter.send("finished", digest=end.name, result=result)
            elif isinstance(end.error, Stopped):
                self._reporter.send("stopped", digest=end.name)
            else:
                self._report_failure(end)

    def _report_failure(self, end: Ended) -> None:
        traceback.print_exception(end.error, file=sys.stderr)
        self._reporter.send("failed", digest=end.name, message=f"{type(end.error).__name__}: {end.error}")
        if "CUDA error" in str(end.error):
            os._exit(1)  # the device context is lost; the driver starts another worker
