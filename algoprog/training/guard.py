"""What happens to a step whose loss or gradient is not finite: it changes nothing, and after too many of them no step does.

The decision is made on the device, so the host never waits for it; the host counts bad steps when it reads the metrics. The
policy "abort" allows none: from the first bad step on no update happens. The policy "skip" allows ``max_skips``. Neither
zeroes gradients, which would still decay weights and averages.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from algoprog.config import RunConfig
from algoprog.kernels import FlatAdamW
from algoprog.training.engines import Engine


def allowed_skips(config: RunConfig) -> int:
    """How many bad steps a run may have and still go on."""
    return config.max_skips if config.nonfinite == "skip" else 0


class Guard:
    """Stands between gradient and update of one optimiser. All of its tensors are scalars that keep their place.

    PyTorch's fused optimisers look for ``found_inf`` and leave everything as it is where that is 1; the flat AdamW looks at a
    loss. Other optimisers (RMSprop) work on, and get back what they had.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, engine: Engine) -> None:
        device = engine.place.device
        self._optimizer, self._engine = optimizer, engine
        self._bad = torch.zeros((), dtype=torch.int64, device=device)
        self._allowed = torch.zeros((), dtype=torch.int64, device=device)
        self._refused = torch.zeros((), dtype=torch.float32, device=device)
        self._nan = torch.full((), math.nan, dtype=torch.float32, device=device)
        self._watched = torch.zeros((), dtype=torch.float32, device=device)
        self._held: list[tuple[Tensor, Tensor]] = []
        self._flat = isinstance(optimizer, FlatAdamW)
        self._asks = bool(getattr(optimizer, "_step_supports_amp_scaling", False))
        if isinstance(optimizer, FlatAdamW):
            optimizer.watched_loss = self._watched
        elif self._asks:
            optimizer.found_inf = self._refused  # type: ignore[attr-defined]

    def begin(self, allowed: int, skipped: int = 0) -> None:
        """A run starts, or goes on after ``skipped`` bad steps."""
        self._allowed.fill_(allowed)
        self._bad.fill_(skipped)

    def judge(self, loss: Tensor, norm: Tensor | None) -> None:
        """Before the update: decide whether it may happen. ``norm`` is None where only the update will know it."""
        trouble = _zero_if_finite(loss.detach())
        if self._engine.place.world > 1:  # gradients are the same on all ranks, losses are not
            trouble = self._engine.sum_over_ranks((trouble != 0).float())
        if norm is not None:
            trouble = trouble + _zero_if_finite(norm)
        refused = (trouble != 0) | (self._bad > self._allowed)
        self._refused.copy_(refused)
        if self._flat:
            self._watched.copy_(torch.where(refused, self._nan, self._refused))
        elif not self._asks:
            self._hold()

    def settle(self, norm: Tensor) -> Tensor:
        """After the update: count, and say whether the step was good (bool scalar). ``norm`` is now known."""
        good = self._refused + _zero_if_finite(norm) == 0
        if not (self._flat or self._asks):
            self._give_back(good)
        self._bad.add_(~good)
        return good

    def _hold(self) -> None:
        """Copy what an optimiser that asks nobody will change."""
        own = [p.data for group in self._optimizer.param_groups for p in group["params"]]
        own += [v for entry in self._optimizer.state.values() for v in entry.values() if isinstance(v, Tensor)]
        self._held = [(tensor, tensor.clone()) for tensor in own]

    def _give_back(self, good: Tensor) -> None:
        """Undo a refused update. State that it has just created starts from zeros, as it would have later."""
        known = {id(tensor) for tensor, _ in self._held}
        for tensor, before in self._held:
            tensor.copy_(torch.where(good.to(tensor.device), tensor, before))
        for entry in self._optimizer.state.values():
            for value in entry.values():
                if isinstance(value, Tensor) and id(value) not in known:
                    value.copy_(torch.where(good.to(value.device), value, torch.zeros_like(value)))
        self._held = []


def _zero_if_finite(x: Tensor) -> Tensor:
    """0 where x is finite, else NaN: one operation where `isfinite` takes four, of which every step would pay eight."""
    return x - x
