"""One training step: gather, forward, backward, clip, rate, update. Nothing here reads the device, and nothing that changes
from step to step comes from the host, but for two exceptions that :meth:`TrainingStep.obstacle` names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from algoprog.config import RunConfig
from algoprog.data.order import Order
from algoprog.data.store import TokenStore
from algoprog.kernels import FlatAdamW
from algoprog.training.accumulate import forward_backward, slices
from algoprog.training.engines import Engine
from algoprog.training.guard import Guard, allowed_skips
from algoprog.training.metrics import MetricBuffer
from algoprog.training.optim import clip_gradients, rate_tensor, set_lr
from algoprog.training.recurrent import Carried, CarriedState, carries, mask_generator, masks
from algoprog.training.schedule import schedule_factors
from algoprog.training.step_inputs import StepInputs


class TrainingStep:
    """Calling it trains one step and leaves loss and gradient norm in ``buffer``. It serves one run after another.

    A run starts with :meth:`begin`, an interval with :meth:`load`. ``done`` counts the steps of the run so far. ``call`` is
    the module that is called, ``model`` as the engine wants it.
    """

    def __init__(
        self,
        config: RunConfig,
        store: TokenStore,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        engine: Engine,
        longest_interval: int,
        micro_batch: int | None = None,
    ) -> None:
        self.config, self.model, self.optimizer, self.engine = config, model, optimizer, engine
        self.call: Callable[..., Any] = engine.adopt(model, optimizer, config.optim.clip)
        self.parts = slices(config.batch // engine.place.world, micro_batch)
        self.inputs = StepInputs(config, store, engine.place, longest_interval)
        self.buffer = MetricBuffer(longest_interval, engine)
        self.state = CarriedState(config, engine.place) if carries(config) else None
        self.rate = rate_tensor(optimizer, engine, self.inputs.rate)
        self.guard = Guard(optimizer, engine)
        self.done = 0

    def begin(self, config: RunConfig, order: Order, steps: int) -> None:
        """A run of ``steps`` steps starts; its shape is that of the step."""
        self.config, self.order = config, order
        self.factors = schedule_factors(config.schedule, steps)
        self.resume(0, None, 0)

    def resume(self, done: int, carried: Carried, skipped: int) -> None:
        """Continue after ``done`` steps, ``skipped`` of them bad, from this rank's share of the recurrent state."""
        self.done = done
        self.guard.begin(allowed_skips(self.config), skipped)
        if self.state is not None:
            self.state.set(carried)
        if self.rate is not None:
            set_lr(self.optimizer, self.rate)

    @property
    def carried(self) -> Carried:
        """A copy of this rank's recurrent state, None where there is none."""
        return None if self.state is None else self.state.copy()

    def obstacle(self) -> str | None:
        """What in a step comes from the host, so that it cannot be replayed; None if nothing does."""
        if masks(self.config):
            return "dropout masks are seeded by the host at every step"
        if self.rate is None:
            return f"the host sets the learning rate of {type(self.optimizer).__name__}"
        return None

    def load(self, steps: int) -> None:
        """Make ready for the next ``steps`` steps, an interval."""
        rates = [self.config.optim.lr * factor for factor in self.factors[self.done : self.done + steps]]
        self.inputs.load(self.config, self.order, rates, self.done)

    def clip(self) -> Tensor:
        """See :func:`~algoprog.training.optim.clip_gradients`."""
        return clip_gradients(self.config.optim, self.optimizer, self.model)

    def __call__(self) -> None:
        inputs, targets = self.inputs.batch()
        before = None if self.state is None else self.state.before(self.inputs.keep)
        masks_of_step = mask_generator(self.config, self.done, self.engine)
        loss, after = forward_backward(self.call, self.engine, inputs, targets, before, masks_of_step, self.parts)
        norm = self.engine.grad_norm  # of an engine that clips by itself
        if norm is None:
            norm = self.clip()
        if self.rate is None:
            set_lr(self.optimizer, self.config.optim.lr * self.factors[self.done])
        elif self.rate is not self.inputs.rate:
            self.rate.copy_(self.inputs.rate)
        known_later = norm is self.engine.grad_norm or isinstance(self.optimizer, FlatAdamW)
        self.guard.judge(loss, None if known_later else norm)
        self.engine.update()
        good = self.guard.settle(norm if known_later else None)
        if self.state is not None:
            self.state.store(after, before, good)
        self.buffer.record(loss, norm, self.inputs.cursor)
        self.inputs.advance()
        self.done += 1
