"""Schedules are the study's formulas, without wasted steps."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from algoprog.config import ScheduleConfig
from algoprog.training.schedule import schedule_factors

NAMES = ["cosine", "inverse_sqrt", "linear", "constant", "wsd"]


@given(name=st.sampled_from(NAMES), steps=st.integers(1, 500), warmup=st.floats(0, 1), floor=st.floats(0, 1))
def test_factors_are_positive_and_at_most_one(name: str, steps: int, warmup: float, floor: float) -> None:
    config = ScheduleConfig.model_validate({"name": name, "warmup": warmup, "floor": floor, "decay": (1 - warmup) / 2})
    factors = schedule_factors(config, steps)
    assert len(factors) == steps
    assert all(0 <= f <= 1 + 1e-12 for f in factors) and max(factors[:-1] + [1.0]) == 1.0
    warm = int(warmup * steps)
    assert factors[:warm] == sorted(factors[:warm]) and all(f > 0 for f in factors[:-1])


def test_formulas_at_known_steps() -> None:
    def at(step: int, **values: object) -> float:
        return schedule_factors(ScheduleConfig.model_validate(values), 1000)[step]

    assert at(99, name="cosine") == pytest.approx(100 / 101)
    assert at(100, name="cosine") == 1.0
    assert at(550, name="cosine") == pytest.approx(0.1 + 0.9 * 0.5)
    assert at(999, name="cosine") == pytest.approx(0.1, abs=1e-4)
    assert at(999, name="inverse_sqrt") == pytest.approx(math.sqrt(100 / 999))
    assert at(999, name="linear") == pytest.approx(1 / 900)
    assert at(700, name="constant") == 1.0
    assert at(799, name="wsd", decay=0.2, floor=0.0) == 1.0
    assert at(900, name="wsd", decay=0.2, floor=0.0) == pytest.approx(0.5)
