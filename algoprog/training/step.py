"""One training step: gather, forward, backward, clip, rate, update. Nothing here reads the device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from algoprog.config import RunConfig
from algoprog.data.order import Order
from algoprog.data.store import TokenStore
from algoprog.training.engines import Engine
from algoprog.training.metrics import MetricBuffer
from algoprog.training.optim import clip_gradients, set_lr
from algoprog.training.recurrent import Carried, carries, forgets, mask_generator


class TrainingStep:
    """Calling it trains one step and leaves loss and gradient norm in ``buffer``.

    ``done`` counts the steps of the run so far; ``carried`` is this rank's recurrent state, None where there is none.
    """

    def __init__(
        self,
        config: RunConfig,
        store: TokenStore,
        order: Order,
        factors: Sequence[float],
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        engine: Engine,
        buffer: MetricBuffer,
    ) -> None:
        self.config, self.store, self.order, self.factors = config, store, order, factors
        self.model, self.optimizer, self.engine, self.buffer = model, optimizer, engine, buffer
        self.call = engine.adopt(model, optimizer)
        self.done = 0
        self.carried: Carried = None

    def resume(self, done: int, carried: Carried) -> None:
        """Continue after ``done`` steps from this rank's share of the recurrent state."""
        self.done, self.carried = done, carried

    def __call__(self) -> None:
        config, place = self.config, self.engine.place
        batch = self.order.batch(self.store.train, self.done, place.rank, place.world)
        inputs, targets = (torch.from_numpy(a).to(place.device) for a in batch)
        if forgets(config, self.order, self.done):
            self.carried = None
        loss_sum, after = self.call(inputs, targets, self.carried, mask_generator(config, self.done, self.engine))
        loss = loss_sum / targets.numel()
        self.engine.backward(loss)
        norm = clip_gradients(config.optim, self.optimizer, self.model)
        set_lr(self.optimizer, config.optim.lr * self.factors[self.done])
        self.engine.update()
        self.carried = after if carries(config) else None
        self.buffer.record(loss.detach(), norm)
        self.done += 1
