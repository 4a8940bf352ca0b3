"""Gains as maps: composition equals the direct gain in both anchors, and what must not be combined is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from algoprog.scaling import InputError, PowerLaw, law_gain
from algoprog.scaling.allocation import AllocationGain, Policy
from algoprog.scaling.composition import GainMap, allocation_map, invariant_map, law_map
from algoprog.scaling.surface.law import Surface

LSTM, TRANSFORMER = PowerLaw(1.9, 36.3, 0.065), PowerLaw(1.9, 81.7, 0.091)
STUDY = {"lstm": LSTM, "transformer": TRANSFORMER}
KAPLAN = AllocationGain(Surface(1.69, 406.4, 410.7, 0.34, 0.28), Policy.through(1.3e9, 8.64e19, 0.73))
laws = st.builds(PowerLaw, E=st.floats(1.5, 2), a=st.floats(20, 100), alpha=st.floats(0.05, 0.12))
decades = st.floats(15, 21)
anchors = st.sampled_from(["new", "old"])


def reachable(a: PowerLaw, b: PowerLaw, c: PowerLaw, flops: float, anchor: str) -> None:
    """All three reach the loss that the anchor's side reaches at ``flops``, with some room."""
    loss = (c if anchor == "new" else a).loss(flops)
    assume(all(loss - law.E > 1e-2 for law in (a, b, c)))


@given(laws, laws, laws, decades, anchors)
def test_composition_is_the_direct_gain(a: PowerLaw, b: PowerLaw, c: PowerLaw, decade: float, anchor: str) -> None:
    flops, named = 10**decade, {"a": a, "b": b, "c": c}
    reachable(a, b, c, flops, anchor)
    chain = law_map("a", "b", named, anchor).then(law_map("b", "c", named, anchor))  # type: ignore[arg-type]
    direct = law_map("a", "c", named, anchor)  # type: ignore[arg-type]
    assert (chain.old, chain.new, chain.anchor) == ("a", "c", anchor) and dict(chain.laws) == named
    assert chain.at(flops) == pytest.approx(direct.at(flops), rel=1e-8)
    assert direct.at(flops) == law_gain(a, c, flops, anchor)  # type: ignore[arg-type]
    assert chain.slope(flops) == pytest.approx(direct.slope(flops), rel=1e-6, abs=1e-8)


@given(laws, laws, laws, laws, decades, anchors)
def test_composition_is_associative(
    a: PowerLaw, b: PowerLaw, c: PowerLaw, d: PowerLaw, decade: float, anchor: str
) -> None:
    flops, named = 10**decade, {"a": a, "b": b, "c": c, "d": d}
    reachable(a, b, c, flops, anchor)
    reachable(a, b, d, flops, anchor)
    ab, bc, cd = (law_map(*pair, named, anchor) for pair in ("ab", "bc", "cd"))  # type: ignore[arg-type]
    left, right = ab.then(bc).then(cd), ab.then(bc.then(cd))
    assert left.at(flops) == pytest.approx(right.at(flops), rel=1e-8)


@given(laws, laws, laws, st.floats(2.5, 5))
def test_gains_at_one_loss_multiply_along_a_chain(a: PowerLaw, b: PowerLaw, c: PowerLaw, loss: float) -> None:
    product = (a.compute(loss) / b.compute(loss)) * (b.compute(loss) / c.compute(loss))
    assert product == pytest.approx(a.compute(loss) / c.compute(loss), rel=1e-9)


@given(laws, laws, st.floats(0.5, 20), decades)
def test_an_invariant_gain_is_worth_a_power_of_itself(a: PowerLaw, b: PowerLaw, m: float, decade: float) -> None:
    b = PowerLaw(a.E, b.a, b.alpha)
    chain = law_map("a", "b", {"a": a, "b": b}).then(invariant_map("b", "b with m", m))
    assert chain.at(10**decade) == pytest.approx(law_gain(a, b, 10**decade) * m ** (b.alpha / a.alpha), rel=1e-6)
    old = law_map("a", "b", {"a": a, "b": b}, "old").then(invariant_map("b", "b with m", m, "old"))
    assert old.at(10**decade) == pytest.approx(law_gain(a, b, 10**decade, "old") * m, rel=1e-9)


@given(laws, laws, decades, st.floats(-10, 10))
def test_unit_of_compute_does_not_matter(a: PowerLaw, b: PowerLaw, decade: float, shift: float) -> None:
    scaled = {n: PowerLaw(law.E, law.a, law.alpha, 10**shift) for n, law in (("a", a), ("b", b))}
    flops = 10**decade
    assume(0 < law_gain(a, b, flops) < 1e100)
    assert law_map("a", "b", scaled).at(flops * 10**shift) == pytest.approx(law_gain(a, b, flops), rel=1e-6)


@given(laws, laws, decades, st.floats(0.1, 10))
def test_scale_of_the_loss_does_not_matter(a: PowerLaw, b: PowerLaw, decade: float, scale: float) -> None:
    """Nats or bits: E and a change together."""
    bits = {n: PowerLaw(law.E * scale, law.a * scale, law.alpha) for n, law in (("a", a), ("b", b))}
    flops = 10**decade
    assume(b.loss(flops) - a.E > 1e-3)
    assert law_map("a", "b", bits).at(flops) == pytest.approx(law_gain(a, b, flops), rel=1e-6)


@given(laws, decades, anchors)
def test_a_law_against_a_copy_of_itself(law: PowerLaw, decade: float, anchor: str) -> None:
    one = law_map("a", "copy", {"a": law, "copy": law}, anchor)  # type: ignore[arg-type]
    assert one.at(10**decade) == pytest.approx(1, rel=1e-9) and one.slope(10**decade) == pytest.approx(0, abs=1e-12)


def test_the_study_through_maps() -> None:
    """LSTM -> transformer under Kaplan's policy -> optimal transformer returns to the gain without the detour."""
    for anchor in ("new", "old"):
        to_optimum = allocation_map("kaplan", "transformer", KAPLAN, anchor)  # type: ignore[arg-type]
        other = "old" if anchor == "new" else "new"
        back = allocation_map("kaplan", "transformer", KAPLAN, other).reversed()  # type: ignore[arg-type]
        assert (back.old, back.new, back.anchor) == ("transformer", "kaplan", anchor)
        detour = law_map("lstm", "transformer", STUDY, anchor).then(back).then(to_optimum)  # type: ignore[arg-type]
        for flops in (1e17, 1e20, 1.342e22):
            assert detour.at(flops) == pytest.approx(law_gain(LSTM, TRANSFORMER, flops, anchor), rel=1e-9)  # type: ignore[arg-type]
    kaplan = law_map("lstm", "transformer", STUDY).then(
        allocation_map("kaplan", "transformer", KAPLAN, "old").reversed()
    )
    total = kaplan.then(invariant_map("kaplan", "kaplan with m", 2.568067087)).at(1.3422659310152388e22)
    assert total == pytest.approx(429.7777 * 2.44745171, rel=1e-6)


def test_a_chain_that_breaks_in_the_middle_says_nothing() -> None:
    """The middle law never reaches the loss; the outer two do."""
    named = {"a": PowerLaw(1.0, 40.0, 0.08), "b": PowerLaw(3.0, 40.0, 0.08), "c": PowerLaw(1.0, 60.0, 0.1)}
    flops = 1e20
    assert named["c"].loss(flops) < 3.0
    assert math.isfinite(law_map("a", "c", named).at(flops)) and law_map("b", "c", named).at(flops) == math.inf
    assert math.isnan(law_map("a", "b", named).then(law_map("b", "c", named)).at(flops))
    old = law_map("c", "b", named, "old").then(law_map("b", "a", named, "old"))
    assert math.isnan(old.at(1e20))


def test_what_must_not_be_combined() -> None:
    one = law_map("lstm", "transformer", STUDY)
    with pytest.raises(InputError, match="two anchors in one product; got 'new then old'"):
        one.then(invariant_map("transformer", "better", 2.0, "old"))
    with pytest.raises(InputError, match="do not connect; got 'transformer then modern'"):
        one.then(invariant_map("modern", "better", 2.0))
    other = {"transformer": PowerLaw(1.9, 85.2, 0.0923), "modern": PowerLaw(1.9, 88.0, 0.094)}
    with pytest.raises(InputError, match="two laws for transformer"):
        one.then(law_map("transformer", "modern", other))
    with pytest.raises(InputError, match="no law of this name; got 'retro'"):
        law_map("lstm", "retro", STUDY)
    for bad in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(InputError, match="bad invariant gain"):
            invariant_map("a", "b", bad)
    for build in (lambda a: law_map("lstm", "transformer", STUDY, a), lambda a: invariant_map("a", "b", 2.0, a)):
        with pytest.raises(InputError, match="unknown anchor"):
            build("middle")
    with pytest.raises(InputError, match="bad flops"):
        one.at(0.0)


def test_maps_take_arrays() -> None:
    chain: GainMap = law_map("lstm", "transformer", STUDY).then(invariant_map("transformer", "moe", 2.0))
    grid = np.log(np.geomspace(1e16, 1e23, 8)).reshape(2, 4)
    assert chain.log_gain(grid).shape == chain.log_slope(grid).shape == (2, 4)
    assert float(np.exp(chain.log_gain(grid)[1, 0])) == pytest.approx(chain.at(1e20))
