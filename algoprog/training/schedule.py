"""Learning-rate schedules as a factor of the peak rate for each step.

Steps count s = 0 .. T-1 and W = int(warmup * T). During warm-up the factor is (s+1)/(W+1), so that no step is wasted at
rate zero; afterwards the formulas are the study's (arXiv 2511.21622, code).
"""

from __future__ import annotations

import math

from algoprog.config import ScheduleConfig


def schedule_factors(config: ScheduleConfig, steps: int) -> list[float]:
    """Factor of the peak learning rate at each of ``steps`` steps."""
    warm = int(config.warmup * steps)
    return [(s + 1) / (warm + 1) if s < warm else _decay(config, s, warm, steps) for s in range(steps)]


def _decay(config: ScheduleConfig, s: int, warm: int, steps: int) -> float:
    progress = (s - warm) / (steps - warm)
    if config.name == "cosine":
        return config.floor + (1 - config.floor) * 0.5 * (1 + math.cos(math.pi * progress))
    if config.name == "inverse_sqrt":
        return math.sqrt(max(warm, 1) / max(s, 1))
    if config.name == "linear":
        return 1 - progress
    if config.name == "wsd":
        falling = (s - (1 - config.decay) * steps) / max(config.decay * steps, 1)
        return 1 - (1 - config.floor) * min(1.0, max(0.0, falling))
    return 1.0
