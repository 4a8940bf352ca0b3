"""Sources of spread are kept apart, hold what they say, and say what could not be tried."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from algoprog.scaling import InputError, PowerLaw, analyse, commands, fit_frontiers, law_gain
from algoprog.scaling.sensitivity import Range, Sources
from algoprog.scaling.simulate import Design, Noise, simulate_sweep
from algoprog.scaling.study_sources import sources_json

TRUE = {"lstm": PowerLaw(1.9, 2.6, 0.065, 1e16), "modern": PowerLaw(1.9, 2.0, 0.09, 1e16)}


@pytest.fixture(scope="module")
def curves():
    """Six budgets of five sizes with learning curves: every frontier rule can be used."""
    design = Design(budgets=6, widths=5, size_step=2.0, curve_points=6)
    return simulate_sweep(TRUE, design, Noise(s0=0.004), np.random.default_rng(3))


@pytest.fixture(scope="module")
def analysis(curves):
    return analyse(curves, draws=60)


def named(analysis, quantity: str, *archs: str) -> Sources:
    return next(one for one in analysis.sources if one.quantity == quantity and set(archs) <= set(one.archs))


def test_the_strip_holds_the_fits_at_fixed_e(analysis) -> None:
    fixed = {choice.label: choice.fit for choice in analysis.choices if choice.kind == "fixed E"}
    assert list(fixed) == ["E = 0", "E = 1.3", "E = 1.5", "E = 1.7", "E = 1.9", "E = 2.2"]
    kind = {"loss": "squared"} if math.isinf(analysis.fit.knee) else {"loss": "huber", "knee": analysis.fit.knee}
    alone = fit_frontiers(analysis.frontier, 1.5, **kind)
    assert fixed["E = 1.5"].laws == alone.laws
    exponents = [fit.laws["modern"].alpha for fit in fixed.values()]
    assert exponents == sorted(exponents)
    found = named(analysis, "exponent", "modern").fixed_e
    everything = [*exponents, analysis.fit.laws["modern"].alpha]
    assert found == Range(min(everything), max(everything), "E = 0", "E = 2.2", 7)


def test_values_of_e_not_below_the_data_are_dropped(study) -> None:
    low = study(budgets=8).assign(loss=lambda table: table["loss"] - 1.8)
    labels = [choice.label for choice in analyse(low, draws=5).choices if choice.kind == "fixed E"]
    assert labels == [f"E = {value:g}" for value in (0.0, 1.3, 1.5, 1.7, 1.9, 2.2) if value < low["loss"].min()]
    assert 1 <= len(labels) < 6


def test_every_admissible_rule_and_cut_is_tried(analysis) -> None:
    rules = {choice.label: choice for choice in analysis.choices if choice.kind == "rule"}
    assert set(rules) == {"envelope", "slices", "surface"} and rules["envelope"].fit is not None
    cuts = [choice for choice in analysis.choices if choice.kind == "lower cut"]
    assert len(cuts) == 2
    for choice in cuts:
        if choice.fit is not None:
            lowest = min(low for low, _ in choice.fit.flops_range.values())
            assert lowest > min(low for low, _ in analysis.fit.flops_range.values())


def test_rules_that_need_more_say_why(study) -> None:
    found = analyse(study(), draws=5)
    why = {choice.label: choice.why for choice in found.choices if choice.kind == "rule"}
    assert "no training curves" in why["envelope"]
    assert "params" in why["slices"] and "params" in why["surface"]
    assert all(choice.fit is None for choice in found.choices if choice.kind == "rule")


def test_gains_are_read_at_one_compute_under_every_choice(analysis) -> None:
    gain = analysis.gains[0].at_largest
    assert gain is not None
    found = next(one for one in analysis.sources if one.quantity == "gain")
    assert found.estimate == pytest.approx(gain.gain, rel=1e-9)
    assert found.sampling == pytest.approx(gain.interval, rel=1e-9)
    values = [gain.gain] + [
        law_gain(choice.fit.laws[gain.a], choice.fit.laws[gain.b], gain.flops)
        for choice in analysis.choices
        if choice.kind in ("rule", "lower cut") and choice.fit is not None
    ]
    assert found.frontier is not None
    assert (found.frontier.low, found.frontier.high) == pytest.approx((min(values), max(values)), rel=1e-9)
    assert found.frontier.choices == len(values)


def test_intervals_and_ranges_hold_the_estimate(analysis) -> None:
    assert {one.quantity for one in analysis.sources} == {"exponent", "gap", "slope", "gain"}
    for one in analysis.sources:
        for low, high in (one.sampling, one.profile, *((r.low, r.high) for r in (one.profile_e, one.fixed_e) if r)):
            assert low < one.estimate < high
        assert one.profile_e is not None and one.profile is not None
        # Every E of its set belongs to the joint set, so the range lies inside the profile interval.
        assert one.profile[0] <= one.profile_e.low and one.profile_e.high <= one.profile[1]


def test_a_ratio_of_widths_above_one_and_a_half_is_a_warning(study) -> None:
    one = Sources("gap", ("a", "b"), "", 0.01, (0.0, 0.04), (0.0, 0.02), None, None, None)
    assert one.width_ratio == 2.0 and one.disagrees
    gain = Sources("gain", ("a", "b"), "at 1e16 FLOPs of b", 2.0, (1.0, 4.0), (1.0, 2.0), None, None, None)
    assert gain.width_ratio == pytest.approx(2.0) and gain.name == "gain of b over a at 1e16 FLOPs of b"
    assert math.isnan(Sources("gap", ("a", "b"), "", 0.01, None, (0.0, 0.02), None, None, None).width_ratio)
    # One run off by 3 %: squares see a wide likelihood, draws without the run a narrow one.
    frame = study(budgets=12, sigma=0.001)
    frame.loc[0, "loss"] *= 1.03
    found = analyse(frame, draws=100, loss="squared")
    apart = [source.name for source in found.sources if source.disagrees]
    told = [line for line in found.warnings if line.startswith("Bootstrap and profile-likelihood intervals differ")]
    assert bool(apart) == bool(told) and all(name in told[0] for name in apart)
    assert apart


def test_other_rules_rule_the_analysis(curves) -> None:
    found = analyse(curves, draws=12, rule="envelope")
    assert found.rule == "envelope" and len(found.biases) == 5
    assert found.profile is None and all(one.profile is None for one in found.sources)
    assert "envelope anew in each draw" in found.laws[0].method
    assert {choice.label for choice in found.choices if choice.kind == "rule"} == {"final", "slices", "surface"}
    assert any(line.startswith("Rule envelope: Winner's curse") for line in found.warnings)
    assert len(found.frontier) > 12 and found.laws[0].alpha is not None
    sliced = analyse(curves, draws=3, rule="slices")
    assert sliced.profile is not None and sliced.boot.draws == 3
    with pytest.raises(InputError, match="unknown frontier rule"):
        analyse(curves, draws=3, rule="hull")


def test_fixed_e_has_no_profile_set_of_e(study) -> None:
    found = analyse(study(), 1.7, draws=20)
    one = named(found, "exponent", "modern")
    assert one.profile_e is None and one.profile is not None and one.fixed_e is not None


def test_json_names_every_source(curves, tmp_path, analysis) -> None:
    told = sources_json(analysis.sources[0])
    assert list(told) == ["quantity", "archs", "place", "estimate", "bootstrap", "profile", "ranges"]
    assert list(told["ranges"]) == ["E_in_profile_set", "E_fixed", "frontier_rule"]
    json.dumps(commands.plain(told), allow_nan=False)
    curves.to_csv(tmp_path / "runs.csv", index=False)
    for options in ({"at_flops": 3e15}, {"at_flops": 3e16, "anchor": "old"}, {"at_loss": 4.3}):
        gain = commands.gain(tmp_path / "runs.csv", "lstm", "modern", draws=20, **options)
        assert gain.sources is not None and gain.sources.estimate == pytest.approx(gain.gain, rel=1e-9)
        assert gain.sources.sampling == pytest.approx(gain.interval, rel=1e-9)
        json.dumps(commands.gain_json(gain), allow_nan=False)
