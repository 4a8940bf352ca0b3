"""What only recurrent models carry from step to step: their state, when it is forgotten, and their dropout masks.

A carried state is one pair (h, c) of shape [1, B, D] per layer. Checkpoints hold that of the global batch; each rank works
on its own rows.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from algoprog.config import InputError, LstmConfig, RunConfig
from algoprog.data.order import Ints, Order, reset_draw
from algoprog.training.engines import Engine, Placement

Carried = list[tuple[Tensor, Tensor]] | None


def check_ranks(config: RunConfig, world: int) -> None:
    """Dropout masks are drawn per rank, so with dropout a run would depend on the number of ranks: refuse that.

    Raises:
        InputError: dropout with more than one rank.
    """
    if world > 1 and masks(config):
        raise InputError("dropout on several ranks would change the run", got=f"{world} ranks", expected="1")


def carries(config: RunConfig) -> bool:
    """Whether the state after a step is where the next one starts."""
    return isinstance(config.model, LstmConfig) and config.model.carry_state


def forgotten(config: RunConfig, order: Order, first: int, starts: Ints) -> npt.NDArray[np.bool_]:
    """Whether carried state starts from zero at each step from ``first`` on, [steps]: a stream starts over, or the random
    reset strikes. Never, where none is carried. ``starts`` [steps, B] is what all ranks read at these steps."""
    found = np.zeros(len(starts), dtype=np.bool_)
    if not (isinstance(config.model, LstmConfig) and config.model.carry_state):
        return found
    at_start = (starts == 0).any(axis=1)  # few steps: only they, and the first of all, are worth asking the order about
    for i, step in enumerate(range(first, first + len(starts))):
        begun = (step == 0 or at_start[i]) and order.starts_fresh(step)
        found[i] = begun or reset_draw(config.seed, step) < config.model.reset_probability
    return found


def masks(config: RunConfig) -> bool:
    """Whether training steps draw dropout masks."""
    return isinstance(config.model, LstmConfig) and config.model.dropout > 0


class CarriedState:
    """The state between steps of one rank in tensors that keep their place: (h, c), each [1, b, D], per layer.

    It is fp32, which holds exactly what a layer returns, whether its cells are fp32 or of the type it computes in.
    """

    def __init__(self, config: RunConfig, place: Placement) -> None:
        shape = (1, config.batch // place.world, config.model.width)
        self._zero = torch.zeros((), device=place.device)
        self._layers = [
            (torch.zeros(shape, device=place.device), torch.zeros(shape, device=place.device))
            for _ in range(config.model.depth)
        ]

    def before(self, keep: Tensor) -> list[tuple[Tensor, Tensor]]:
        """What a step starts from: the state, or zeros if ``keep`` (bool scalar on the device) is false."""
        return [(torch.where(keep, h, self._zero), torch.where(keep, c, self._zero)) for h, c in self._layers]

    def store(self, after: Carried, before: Carried, good: Tensor) -> None:
        """Keep the state that a step ended with, or, after a step that was not ``good`` (bool scalar), that it began with."""
        assert after is not None and before is not None
        for (h, c), (new_h, new_c), (old_h, old_c) in zip(self._layers, after, before, strict=True):
            torch.where(good, new_h, old_h, out=h)
            torch.where(good, new_c, old_c, out=c)

    def set(self, carried: Carried) -> None:
        """Take over ``carried``; None is the zero state."""
        for index, (h, c) in enumerate(self._layers):
            new_h, new_c = (self._zero, self._zero) if carried is None else carried[index]
            h.copy_(new_h)
            c.copy_(new_c)

    def copy(self) -> list[tuple[Tensor, Tensor]]:
        """The state as it is now, in tensors of its own."""
        return [(h.clone(), c.clone()) for h, c in self._layers]


def mask_generator(config: RunConfig, step: int, engine: Engine) -> torch.Generator | None:
    """The generator of this step's dropout masks, a function of (seed, step); None without dropout."""
    if not masks(config):
        return None
    return torch.Generator(engine.place.device).manual_seed(config.seed * 1_000_003 + step)


def share_of_rank(carried: Carried, engine: Engine) -> Carried:
    """This rank's rows of the global batch's state, on its device."""
    place = engine.place
    if carried is None:
        return None
    return [
        (h.chunk(place.world, 1)[place.rank].to(place.device), c.chunk(place.world, 1)[place.rank].to(place.device))
        for h, c in carried
    ]


def state_of_all(carried: Carried, engine: Engine) -> Carried:
    """The global batch's state on every rank: each contributes its rows to a sum of zero-padded parts."""
    place = engine.place
    if carried is None or place.world == 1:
        return carried

    def gather(part: Tensor) -> Tensor:
        rows = [torch.zeros_like(part) for _ in range(place.world)]
        rows[place.rank] = part
        return engine.sum_over_ranks(torch.cat(rows, dim=1))

    return [(gather(h), gather(c)) for h, c in carried]
