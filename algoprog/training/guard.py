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
        # All of them fp32, as losses and norms are: on a CPU every change of type is an operation of its own.
        self._left, self._verdict, self._refused, self._zero, self._watched = (
            torch.zeros((), dtype=torch.float32, device=device) for _ in range(5)
        )
        self._nan = torch.full((), math.nan, dtype=torch.float32, device=device)
        self._good = torch.ones((), dtype=torch.bool, device=device)
        self._held: list[tuple[Tensor, Tensor]] = []
        self._flat = isinstance(optimizer, FlatAdamW)
        self._asks = bool(getattr(optimizer, "_step_supports_amp_scaling", False))
        if isinstance(optimizer, FlatAdamW):
            optimizer.watched_loss = self._watched
        elif self._asks:
            optimizer.found_inf = self._refused  # type: ignore[attr-defined]

    def begin(self, allowed: int, skipped: int = 0) -> None:
        """A run starts, or goes on after ``skipped`` bad steps. More than 2^24 allowed ones, up to which fp32 counts, are that
        many."""
        self._left.fill_(min(allowed - skipped, 2**24))

    def judge(self, loss: Tensor, norm: Tensor | None) -> None:
        """Before the update: decide whether it may happen. ``norm`` is None where only the update will know it."""
        if self._engine.place.world > 1:  # gradients are the same on all ranks, losses are not
            loss = self._engine.sum_over_ranks(loss - loss)
        self._watch(self._left, loss)
        if norm is not None:
            self._watch(self._verdict, norm)
        self._decide()
        if self._flat:
            torch.where(self._good, self._zero, self._nan, out=self._watched)
        elif not self._asks:
            self._hold()

    def settle(self, norm: Tensor | None) -> Tensor:
        """After the update: count, and say whether the step was good (bool scalar, until the next step). ``norm`` is one that
        only the update made known, else None."""
        if norm is not None:
            self._watch(self._verdict, norm)
            self._decide()
        if not (self._flat or self._asks):
            self._give_back(self._good)
        self._left.sub_(self._refused)
        return self._good

    def _watch(self, verdict: Tensor, x: Tensor) -> None:
        """The verdict is ``verdict`` if ``x`` is finite, else NaN: one operation where `isfinite` takes four."""
        torch.addcmul(verdict, x, self._zero, out=self._verdict)

    def _decide(self) -> None:
        """Good is a verdict of 0 or more: -1 says that one skip more was needed than allowed; NaN fails every comparison."""
        torch.ge(self._verdict, self._zero, out=self._good)
        torch.logical_not(self._good, out=self._refused)

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
