"""Programs kept between the runs of one process, so that the next run of the same shape starts at once."""

from __future__ import annotations

import torch

from algoprog.config import RunConfig
from algoprog.data.order import Order
from algoprog.data.store import TokenStore
from algoprog.training.clock import Clock
from algoprog.training.engines import Engine
from algoprog.training.memory import PLAIN, Memory
from algoprog.training.program import Program
from algoprog.training.shape import shape_of

KEEP_IDLE = 8
FREE_SHARE = 0.5
"""Idle programs go, oldest first, until this share of a GPU's memory is free."""


class Programs:
    """Programs for runs on one store of tokens under one engine, and the idle ones among them.

    A program belongs to one run at a time. One whose run ended in an error is not given back.
    """

    def __init__(
        self,
        store: TokenStore,
        engine: Engine,
        kernels: str = "auto",
        execution: str = "auto",
        memory: Memory = PLAIN,
    ) -> None:
        """``kernels`` as in :mod:`algoprog.kernels.dispatch`, ``execution`` as in :mod:`algoprog.training.execution`."""
        self.store, self.engine, self.kernels, self.execution = store, engine, kernels, execution
        self.memory = memory
        self._idle: list[Program] = []

    def take(self, config: RunConfig, order: Order, clock: Clock) -> Program:
        """An idle program of this shape, else a new one; what that takes goes to ``clock``.

        Raises:
            InputError: the kernels or the execution are impossible here.
        """
        shape = shape_of(config)
        for place, program in enumerate(self._idle):
            if program.shape == shape:
                return self._idle.pop(place)
        self._make_room(self.engine.place.device)
        return Program(config, self.store, order, self.engine, self.kernels, self.execution, clock, self.memory)

    def give_back(self, program: Program) -> None:
        """The run is over and its program idle."""
        self._idle.append(program)
        del self._idle[:-KEEP_IDLE]

    def _make_room(self, device: torch.device) -> None:
        while self._idle and device.type == "cuda":
            free, total = torch.cuda.mem_get_info(device)
            if free >= FREE_SHARE * total:
                return
            del self._idle[0]
            torch.cuda.empty_cache()
