"""Starts processes with settings of their own and asks them in turn, or several at the same moment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Any

from algoprog.sweep.worker_process import LAUNCHER_VARIABLES, TUNED_ENVIRONMENT

Json = dict[str, Any]


class PeerFailed(Exception):
    """A way cannot run here; the message is the last line of what went wrong."""


@dataclass(frozen=True)
class Place:
    """Settings of a process: CPU threads (None: PyTorch's own choice), and whether the allocator settings of sweeps hold."""

    threads: int | None
    tuned: bool
    number: int = 0

    def environment(self) -> dict[str, str]:
        """The variables of the process: a user's own, without ours where this place is meant to be untouched."""
        ours = {*TUNED_ENVIRONMENT, "OMP_NUM_THREADS", *LAUNCHER_VARIABLES}
        mine = {name: value for name, value in os.environ.items() if name not in ours}
        if self.tuned:
            mine |= TUNED_ENVIRONMENT
        if self.threads is not None:
            mine["OMP_NUM_THREADS"] = str(self.threads)
        return mine


class Child:
    """One process of :mod:`algoprog.bench.child`."""

    def __init__(self, place: Place, engine: str, log: IO[str] | int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "algoprog.bench.child"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=place.environment(),
        )  # fmt: skip
        self.send({"threads": place.threads, "engine": engine})

    def send(self, order: Mapping[str, Any]) -> None:
        """Send an order without waiting for its answer.

        Raises:
            PeerFailed: the process has died.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise PeerFailed(f"the process died with exit status {self._process.wait()}") from None

    def receive(self) -> Json:
        """The answer to the oldest order that has none yet.

        Raises:
            PeerFailed: the order failed, or the process died.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise PeerFailed(f"the process died with exit status {self._process.wait()}")
        answer: Json = json.loads(line)
        if "error" in answer:
            raise PeerFailed(answer["error"])
        return answer

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)
        self._process.stdout.close()


class Children:
    """Processes by place, started when first asked for."""

    def __init__(self, engine: str, log: IO[str] | int = subprocess.DEVNULL) -> None:
        self.engine, self.log = engine, log
        self._children: dict[Place, Child] = {}

    def __enter__(self) -> Children:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self._children.values():
            child.close()

    def start(self, places: Sequence[Place]) -> None:
        """Start the processes of these places, all at once."""
        for place in places:
            if place not in self._children:
                self._children[place] = Child(place, self.engine, self.log)

    def ask(self, places: Sequence[Place], order: Mapping[str, Any]) -> list[Json]:
        """Send one order to several processes at the same moment and wait for all answers.

        Raises:
            PeerFailed: one of them failed; the answers of the others have been read.
        """
        self.start(places)
        for place in places:
            self._children[place].send(order)
        answers, trouble = [], None
        for place in places:
            try:
                answers.append(self._children[place].receive())
            except PeerFailed as error:
                trouble = error
        if trouble is not None:
            raise trouble
        return answers
