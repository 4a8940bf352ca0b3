"""What only recurrent models carry from step to step: their state, when it is forgotten, and their dropout masks.

A carried state is one pair (h, c) of shape [1, B, D] per layer. Checkpoints hold that of the global batch; each rank works
on its own rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from algoprog.config import InputError, LstmConfig, RunConfig
from algoprog.data.order import Order, reset_draw
from algoprog.training.engines import Engine

Carried = list[tuple[Tensor, Tensor]] | None


def check_ranks(config: RunConfig, world: int) -> None:
    """Dropout masks are drawn per rank, so with dropout a run would depend on the number of ranks: refuse that.

    Raises:
        InputError: dropout with more than one rank.
    """
    if world > 1 and isinstance(config.model, LstmConfig) and config.model.dropout > 0:
        raise InputError("dropout on several ranks would change the run", got=f"{world} ranks", expected="1")


def carries(config: RunConfig) -> bool:
    """Whether the state after a step is where the next one starts."""
    return isinstance(config.model, LstmConfig) and config.model.carry_state


def forgets(config: RunConfig, order: Order, step: int) -> bool:
    """Whether the recurrent state starts from zero at this step: a stream starts over, or the random reset strikes."""
    if not isinstance(config.model, LstmConfig):
        return False
    return order.starts_fresh(step) or reset_draw(config.seed, step) < config.model.reset_probability


def mask_generator(config: RunConfig, step: int, engine: Engine) -> torch.Generator | None:
    """The generator of this step's dropout masks, a function of (seed, step); None without dropout."""
    if not isinstance(config.model, LstmConfig) or config.model.dropout == 0:
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
