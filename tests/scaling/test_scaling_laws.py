"""PowerLaw: the two directions are inverses, limits are infinities, nonsense is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algoprog.scaling import InputError, PowerLaw

laws = st.builds(
    PowerLaw,
    E=st.floats(0, 4),
    a=st.floats(0.05, 100),
    alpha=st.floats(0.01, 1.0),
    C0=st.floats(1, 1e20),
)


@given(laws, st.floats(-4, 4))
def test_loss_and_compute_invert(law: PowerLaw, decades: float) -> None:
    flops = law.C0 * 10**decades
    loss = law.loss(flops)
    # ln C is lost in rounding where the reducible loss is: its error is eps * L / (L - E) / alpha.
    slack = 1e-14 * loss / (loss - law.E) / law.alpha + 1e-12
    assert math.log(law.compute(loss)) == pytest.approx(math.log(flops), abs=slack)
    assert law.loss(law.compute(loss)) == pytest.approx(loss, rel=1e-12)


@given(laws)
def test_compute_is_infinite_at_and_below_the_irreducible_loss(law: PowerLaw) -> None:
    assert law.compute(law.E) == math.inf
    assert law.compute(law.E - 0.1) == math.inf


@given(laws, st.floats(1e3, 1e25))
def test_amplitude_for_unit_compute(law: PowerLaw, flops: float) -> None:
    assert law.E + law.A * flops**-law.alpha == pytest.approx(law.loss(flops), rel=1e-9)


def test_arrays_keep_their_shape() -> None:
    law = PowerLaw(1.9, 36.3, 0.065)
    flops = np.geomspace(1e15, 1e18, 6).reshape(2, 3)
    assert law.loss(flops).shape == (2, 3)
    assert law.compute(law.loss(flops)) == pytest.approx(flops, rel=1e-9)
    assert isinstance(law.loss(1e16), float)
    assert law.loss(1e16) == pytest.approx(1.9 + 36.3 * 1e16**-0.065, rel=1e-14)


@pytest.mark.parametrize(
    "bad",
    [{"E": -0.1}, {"E": math.nan}, {"a": 0.0}, {"alpha": 0.0}, {"alpha": -0.1}, {"alpha": math.inf}, {"C0": 0.0}],
)
def test_nonsense_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(InputError, match=f"PowerLaw.{next(iter(bad))}"):
        PowerLaw(**{"E": 1.9, "a": 2.0, "alpha": 0.1, **bad})
