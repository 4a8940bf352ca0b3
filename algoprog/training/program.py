"""A program: model, optimiser and step of one shape, built once and used by one run after another.

What the shape fixes (model, batch, precision, optimiser, kernels, tokens) is built, compiled or recorded once; what differs
between runs (weights, optimiser state, tables, counters) is written anew, in place, when a run begins. A run of a used
program equals that of a new one bit for bit.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from algoprog.config import InputError, PluginConfig, RunConfig
from algoprog.data.order import Order
from algoprog.data.store import TokenStore
from algoprog.kernels import REFERENCE, Operations, Unavailable, select
from algoprog.kernels.dispatch import head_kind
from algoprog.models import build_model
from algoprog.training.capture import capture
from algoprog.training.checkpoint import Checkpoints
from algoprog.training.clock import Clock
from algoprog.training.engines import Engine
from algoprog.training.execution import choose_execution
from algoprog.training.memory import Memory
from algoprog.training.optim import build_optimizer, operations_used
from algoprog.training.shape import shape_of
from algoprog.training.state import Fits, RunState, check_weights
from algoprog.training.step import TrainingStep

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
LONGEST_INTERVAL_STEPS = 50


class Program:
    """Model, optimiser and step for the runs of one shape on one store of tokens. ``runs`` counts those that have begun.

    On a GPU it has a stream of its own; whoever works with its tensors does so inside :meth:`lane`.
    """

    def __init__(
        self,
        config: RunConfig,
        store: TokenStore,
        order: Order,
        engine: Engine,
        kernels: str,
        execution: str,
        clock: Clock,
        memory: Memory,
    ) -> None:
        """Build, and compile or record, which takes a few steps; the phases go to ``clock``.

        Raises:
            InputError: the kernels or the execution are impossible here.
        """
        self.shape, self._dtype, device = shape_of(config), DTYPES[config.precision], engine.place.device
        self.engine = engine = copy.copy(engine)  # adopting a model ties an engine to it
        self.runs, self._fresh = 0, True
        self.stream: torch.cuda.Stream | None = None
        if device.type == "cuda" and engine.capture_obstacle() is None:
            self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            self.stream.wait_stream(torch.cuda.current_stream(device))
        with clock.phase("build"), self.lane():
            self.operations = _operations(kernels, device, self._dtype)
            self.model = build_model(config.model, config.seed, self._dtype, self.operations).to(device)
            self.model.recompute = memory.recompute == "blocks"  # type: ignore[assignment]
            # The flat buffer of the fused AdamW is held to plain AdamW on one rank only.
            alone = engine.place.engine == "torch" and engine.place.world == 1
            self.optimizer = build_optimizer(config.optim, self.model, self.operations if alone else REFERENCE)
            self.step = TrainingStep(
                config, store, self.model, self.optimizer, engine, LONGEST_INTERVAL_STEPS, memory.micro_batch
            )
            self.step.begin(config, order, LONGEST_INTERVAL_STEPS)
        self._memory_facts = memory.facts(config, engine.place.world)
        obstacle = engine.capture_obstacle() or self.step.obstacle()
        self.execution = choose_execution(execution, engine.place, obstacle)
        self._execute: Callable[[], None] = self.step
        if self.execution.mode != "eager":
            with clock.phase(self.execution.mode), self.lane():
                self._execute = self._prepare()
            self._fresh = False  # those steps trained

    def _prepare(self) -> Callable[[], None]:
        if self.stream is not None and self.execution.mode == "capture":
            return capture(self.step, self.stream)
        self.step.call = torch.compile(self.step.call, dynamic=False)
        self.step.load(1)
        self.step()
        return self.step

    def lane(self) -> AbstractContextManager[object]:
        """The program's stream as the current one; on a CPU nothing."""
        return contextlib.nullcontext() if self.stream is None else torch.cuda.stream(self.stream)

    def begin(self, config: RunConfig, order: Order, steps: int) -> None:
        """A run of ``steps`` steps starts from the initial weights of its seed."""
        if not self._fresh:
            fresh = build_model(config.model, config.seed, self._dtype, self.operations)
            self.engine.restart(self.model, self.optimizer, fresh.state_dict())
        self.runs, self._fresh = self.runs + 1, False
        self.step.begin(config, order, steps)

    def restore(self, checkpoints: Checkpoints, fits: Fits) -> RunState | None:
        """Weights and optimiser state of the newest checkpoint that ``fits``, in place; None if there is none."""
        own = self.engine.weights(self.model)

        def check(found: RunState) -> None:
            check_weights(found, own)
            fits(found)

        state = checkpoints.restore(check)
        if state is not None:
            held = {p: dict(entry) for p, entry in self.optimizer.state.items()}
            self.engine.load(self.model, self.optimizer, state.model, state.optimizer)
            _put_back(self.optimizer, held)
        return state

    def whole_model(self, config: RunConfig) -> nn.Module:
        """A model to evaluate: the weights as they are now."""
        return self.engine.whole_model(
            self.model, lambda: build_model(config.model, config.seed, self._dtype, self.operations)
        )

    def execute(self, steps: int) -> None:
        """The next ``steps`` steps of the run, at most :data:`LONGEST_INTERVAL_STEPS`. On a GPU they are only sent."""
        self.step.load(steps)
        for _ in range(steps):
            self._execute()

    def facts(self) -> dict[str, Any]:
        """How steps are executed, where their tokens are and what saves memory, for the record of a run."""
        return {**self.execution.as_json(), "tokens": self.step.inputs.tokens.residence, **self._memory_facts}

    def head_kind(self, config: RunConfig) -> str:
        """See :func:`algoprog.kernels.dispatch.head_kind`; a user's own architecture has a head of its own."""
        if isinstance(config.model, PluginConfig):
            return "plain"
        return head_kind(self.operations, config.model.width, self._dtype, self.engine.place.device)

    def kernels_used(self) -> dict[str, list[str]]:
        """See :func:`algoprog.training.optim.operations_used`."""
        return operations_used(self.operations, self.optimizer)


def _operations(kernels: str, device: torch.device, dtype: torch.dtype) -> Operations:
    try:
        return select(kernels, device, dtype)
    except Unavailable as problem:
        raise InputError(str(problem), where="--kernels") from None


@torch.no_grad()
def _put_back(optimizer: torch.optim.Optimizer, held: dict[Tensor, dict[str, Any]]) -> None:
    """Move loaded state into the tensors that the optimiser had before: a recorded step knows no others."""
    for parameter, entry in held.items():
        loaded = optimizer.state[parameter]
        for key, tensor in entry.items():
            if isinstance(tensor, Tensor):
                tensor.copy_(loaded[key])
                loaded[key] = tensor
