"""FLOPs of one optimiser step, clipping included. Outside model FLOPs; independent of how many tokens the step read.

One FLOP is one elementary operation of the plain update, counted per parameter; scalars that are computed once per step
(bias corrections, the learning rate, the clip factor) are free.
"""

from __future__ import annotations

from algoprog.config import OptimConfig
from algoprog.flops.count import FlopCount

# Kingma & Ba 2015, algorithm 1: two moments (3 and 4), sqrt, correction, eps (3), division, step size, subtraction (3).
ADAM = 3 + 4 + 3 + 3
# Hinton 2012, lecture 6e: second moment 4, sqrt and eps 2, division, step size, subtraction 3.
RMSPROP = 4 + 2 + 3
MOMENTUM = 2  # buffer times momentum, plus gradient
PLAIN_SGD = 2  # step size, subtraction
COUPLED_DECAY = 2  # gradient plus decay times weight
DECOUPLED_DECAY = 1  # weight times (1 - lr decay), Loshchilov & Hutter 2019, algorithm 2
CLIP = 2 + 1  # squares and their sum; scaling


def optimizer_flops(config: OptimConfig, params: int, decayed: int) -> FlopCount:
    """One update of ``params`` parameters, of which ``decayed`` are under weight decay. Counted as backward work."""
    adaptive = config.name in ("adam", "adamw")
    per_param = ADAM if adaptive else RMSPROP if config.name == "rmsprop" else PLAIN_SGD
    if not adaptive and config.momentum > 0:
        per_param += MOMENTUM
    if config.clip is not None:
        per_param += CLIP
    per_decayed = DECOUPLED_DECAY if config.name == "adamw" else COUPLED_DECAY
    decay = per_decayed * decayed if config.weight_decay > 0 else 0
    return FlopCount({}, {"optimizer": per_param * params + decay})
