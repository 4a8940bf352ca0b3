"""Decompositions with known answers, of the user's own making, with intervals from runs; bad configurations."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algoprog.config import read_yaml
from algoprog.recipes import CONFIGS
from algoprog.scaling import Analysis, InputError, PowerLaw, analyse, gain_at_flops, law_gain
from algoprog.scaling.commands import plain
from algoprog.scaling.decomposition.commands import decomposition, decomposition_json
from algoprog.scaling.decomposition.estimate import estimate, shares_of
from algoprog.scaling.decomposition.result import decompose
from algoprog.scaling.decomposition.shapley import admissible_orders, count_orders, marginal, shapley

Config = dict[str, Any]


@pytest.fixture
def config() -> Config:
    values: Config = copy.deepcopy(read_yaml(CONFIGS / "decompose" / "gundlach-2025.yaml"))
    return values


@pytest.fixture
def own() -> Config:
    """Two changes of architecture with a gain on each, none shipped."""
    return {
        "name": "own",
        "start": "a",
        "laws": {
            "a": {"E": 1.8, "A": 30.0, "alpha": 0.07},
            "b": {"E": 1.8, "A": 40.0, "alpha": 0.08},
            "c": {"E": 1.8, "A": 60.0, "alpha": 0.09},
        },
        "stages": [
            {"name": "to b", "kind": "law", "law": "b", "year": 2015},
            {"name": "better data", "kind": "invariant", "gain": 1.5, "year": 2016},
            {"name": "to c", "kind": "law", "law": "c", "year": 2018},
            {"name": "optimiser", "kind": "invariant", "gain": "3", "year": 2019, "after": ["to b"]},
        ],
        "compute": {"flops": "1e18", "year": 2014, "growth": 3},
        "spans": [[2014, 2020], [2014, 2016]],
    }


@pytest.fixture
def fitted(study: Callable[..., pd.DataFrame]) -> Analysis:
    return analyse(study(budgets=10, decades=3.0), draws=200)


def test_factors_multiply_to_the_total_in_every_order(own: Config) -> None:
    span = decompose(own).spans[0]
    gain = law_gain(PowerLaw(1.8, 30.0, 0.07), PowerLaw(1.8, 60.0, 0.09), 3 * 1.5 * span.flops) * 3 * 1.5
    assert span.composed.total.value == pytest.approx(gain, rel=1e-9)
    assert math.prod(one.value for one in span.composed.factors.values()) == pytest.approx(gain, rel=1e-9)
    assert math.prod(one.value for one in span.composed.shapley_factors.values()) == pytest.approx(gain, rel=1e-9)
    for order in span.composed.orders:
        assert sum(one.value for one in order.shares.values()) == pytest.approx(1)
    # to b < to c (architectures follow each other), to b < optimiser, better data anywhere: 2 orders of three, times 4.
    assert span.composed.n_orders == len(span.composed.orders) == 8
    assert span.composed.orders[0].order == ("to b", "better data", "to c", "optimiser")


def test_a_span_takes_the_stages_up_to_its_last_year(own: Config) -> None:
    early = decompose(own).spans[1]
    assert tuple(early.composed.factors) == ("to b", "better data") and early.left_out == ("to c", "optimiser")
    gain = law_gain(PowerLaw(1.8, 30.0, 0.07), PowerLaw(1.8, 40.0, 0.08), 1.5 * early.flops) * 1.5
    assert early.composed.total.value == pytest.approx(gain, rel=1e-9)
    assert any("to c comes later" in note for note in decompose(own).notes)


def test_an_old_policy_that_still_rules_is_not_forgotten(config: Config) -> None:
    """In 2021 the transformer is there and the optimal allocation is not."""
    config["spans"] = [[2012, 2021], [2012, 2023]]
    early = decompose(config).spans[0]
    stage = decompose(config).plan.stages[2]
    assert early.left_out == ("chinchilla",)
    m, c = 2.568067087456029, early.flops
    effective = m * c / stage.change.old(m * c)  # type: ignore[attr-defined]
    lstm, transformer = PowerLaw(1.9, 36.3, 0.065), PowerLaw(1.9, 81.7, 0.091)
    assert early.composed.total.value == pytest.approx(lstm.compute(transformer.loss(effective)) / c, rel=1e-9)
    # The study's factors then do not multiply to G m either: the factor that cancelled is missing.
    assert early.study.total.value < law_gain(lstm, transformer, c) * m
    # total_in_last is the old side's view of the same recipe.
    new_c = c / early.composed.total_in_last.value
    effective = m * new_c / stage.change.old(m * new_c)  # type: ignore[attr-defined]
    assert transformer.loss(effective) == pytest.approx(lstm.loss(c), rel=1e-9)


def test_reference_free_shares_ignore_the_reference(own: Config) -> None:
    """Another start with the same E changes the unit but not the split of the fall of ln(L - E) among later stages."""
    one = decompose(own).spans[0].composed.reference_free
    other = copy.deepcopy(own)
    other["laws"]["a"]["alpha"] = 0.05
    two = decompose(other).spans[0].composed.reference_free
    assert one is not None and two is not None
    for first, second in (("better data", "optimiser"), ("to c", "optimiser")):
        ratios = [shares[first].value / shares[second].value for shares in (one, two)]
        assert ratios[0] == pytest.approx(ratios[1], rel=1e-9)


def test_a_partial_sum_is_a_gain_in_any_reference(own: Config) -> None:
    """Shares of the fall of ln(L - E) times the whole fall over alpha_ref: ln of the ratio of reference compute."""
    span = decompose(own).spans[0]
    shares = span.composed.reference_free
    assert shares is not None
    a, b, c = (PowerLaw(1.8, *values) for values in ((30.0, 0.07), (40.0, 0.08), (60.0, 0.09)))
    before, between, after = a.loss(span.flops), b.loss(1.5 * span.flops), c.loss(4.5 * span.flops)
    whole = math.log((before - 1.8) / (after - 1.8))
    for reference in (a, PowerLaw(1.8, 20.0, 0.05)):
        part = (shares["to b"].value + shares["better data"].value) * whole / reference.alpha
        assert math.exp(part) == pytest.approx(reference.compute(between) / reference.compute(before), rel=1e-9)


def test_different_irreducible_losses(own: Config) -> None:
    own["laws"]["c"]["E"] = 1.7
    found = decompose(own)
    assert found.spans[0].composed.reference_free is None and found.spans[0].composed.status == "ok"
    assert any("different E" in note for note in found.notes)
    own["laws"]["c"]["E"] = 0.5  # far below: a never reaches what c does
    span = decompose(own).spans[0]
    assert span.composed.total.value == math.inf and span.composed.status == "infinite: a never reaches this loss"
    assert span.study.total.value == math.inf and span.study.per_year is None
    assert all(math.isnan(one.value) for one in span.composed.shares.values())
    text = decomposition_json(decompose(own))
    assert text["composed"]["2014-2020"]["total"] == "inf" and text["composed"]["2014-2020"]["shares"]["to b"] is None


def test_policy_range_moves_the_share_and_not_the_total(config: Config) -> None:
    composed = decompose(config).spans[0].composed
    spread = composed.policy_range["chinchilla"]
    assert spread.share[0] < composed.shares["chinchilla"].value < spread.share[1]
    assert spread.factor[0] < composed.factors["chinchilla"].value < spread.factor[1]
    assert spread.total == pytest.approx((composed.total.value, composed.total.value), rel=1e-9)


def test_constants_say_how_far_they_extrapolate(config: Config, own: Config) -> None:
    composed = decompose(config).spans[0].composed
    assert composed.in_range is False and composed.decades_beyond == pytest.approx(
        math.log10(composed.total.value * decompose(config).spans[0].flops / 4.14e16), rel=1e-9
    )
    assert composed.level_slope[0].C0 == pytest.approx(math.sqrt(1e16 * 4.14e16))
    assert decompose(own).spans[0].composed.in_range is None


def test_laws_from_runs_have_intervals(config: Config, fitted: Analysis) -> None:
    found = decompose(config, fitted)
    span = found.spans[0]
    assert found.laws["transformer"] == fitted.fit.laws["retro"] and "200 draws" in found.method
    for bars in (
        span.composed.factors,
        span.composed.shares,
        span.composed.shapley_shares,
        span.study.shares,
        span.composed.reference_free or {},
    ):
        for name, one in bars.items():
            assert one.interval is not None and one.interval[0] <= one.value <= one.interval[1], name
    for row in span.composed.level_slope:
        assert row.level.interval is not None and row.slope.interval is not None
    assert span.study.factors["invariant"].interval is None, "a constant has no interval, not one of no width"
    assert span.composed.decades_beyond and span.composed.decades_beyond > 3
    assert found.references is not None
    lstm = found.references.rows["LSTM"][-1].composed.log_rate
    assert lstm.interval is not None and lstm.interval[0] < lstm.value < lstm.interval[1]
    assert any("inside the data" in note for note in found.notes)


def test_interval_of_a_total_is_that_of_the_gain(own: Config, fitted: Analysis) -> None:
    """With a single law stage the composed total is the gain itself, interval and all."""
    own["stages"] = own["stages"][:1]
    own["laws"] = {"a": {**own["laws"]["a"], "arch": "lstm"}, "b": {**own["laws"]["b"], "arch": "modern"}}
    own["compute"] = {"flops": 3e15, "year": 2014, "growth": 1.0000001}
    own["spans"] = [[2014, 2015]]
    span = decompose(own, fitted).spans[0]
    gain = gain_at_flops(fitted.fit, "lstm", "modern", span.flops, boot=fitted.boot)
    assert span.composed.total.value == pytest.approx(gain.gain, rel=1e-9)
    assert span.composed.total.interval == pytest.approx(gain.interval, rel=1e-9)
    assert span.study.total.interval == pytest.approx(gain.interval, rel=1e-9)
    assert span.composed.in_range is gain.in_range is True


def test_a_copy_of_an_architecture_gains_nothing(own: Config, study: Callable[..., pd.DataFrame]) -> None:
    one = study(budgets=10, archs=("modern",))
    two = analyse(pd.concat([one, one.assign(arch="copy", run=one["run"] + "c")]), draws=200)
    own["stages"] = own["stages"][:1]
    own["laws"] = {"a": {**own["laws"]["a"], "arch": "modern"}, "b": {**own["laws"]["b"], "arch": "copy"}}
    own["spans"] = [[2014, 2015]]
    total = decompose(own, two).spans[0].composed.total
    assert total.value == pytest.approx(1, rel=1e-6)
    assert total.interval is not None and total.interval[0] < 1 < total.interval[1]


def test_order_of_runs_does_not_matter(config: Config, study: Callable[..., pd.DataFrame]) -> None:
    frame = study(budgets=8)
    shuffled = frame.sample(frac=1, random_state=1)
    texts = [decomposition_json(decompose(config, analyse(table, draws=100))) for table in (frame, shuffled)]
    assert texts[0] == texts[1]


@settings(max_examples=30, deadline=None)
@given(st.floats(-8, 8))
def test_unit_of_compute_does_not_matter(shift: float) -> None:
    values: Config = read_yaml(CONFIGS / "decompose" / "gundlach-2025.yaml")
    unit, other = 10**shift, copy.deepcopy(values)
    for law in other["laws"].values():
        law["A"] *= unit ** law["alpha"]
        law.pop("flops_range")
    other["compute"]["flops"] = float(values["compute"]["flops"]) * unit
    # The surface's C = 6 N D fixes its unit, so the policy stage is left out here.
    for one in (values, other):
        one["stages"] = one["stages"][:2]
        one.pop("reference_dependence")
        one.pop("level_at")
    a, b = (decompose(one).spans[0] for one in (values, other))
    assert a.composed.total.value == pytest.approx(b.composed.total.value, rel=1e-7)
    assert a.study.total.value == pytest.approx(b.study.total.value, rel=1e-7)


names = st.lists(st.sampled_from("abcde"), min_size=1, max_size=5, unique=True)


@given(names, st.randoms(use_true_random=False))
def test_shapley_is_the_mean_over_admissible_orders(found: list[str], rng: Any) -> None:
    after = {name: frozenset(n for n in found[:i] if rng.random() < 0.4) for i, name in enumerate(found)}
    worth = {frozenset(c): rng.random() for k in range(6) for c in permutations(sorted(found), k)}

    def value(done: frozenset[str]) -> np.ndarray:
        return np.array([worth[done], 2 * worth[done]])

    orders = [o for o in permutations(found) if all(after[n] <= set(o[: o.index(n)]) for n in o)]
    assert set(admissible_orders(found, after)) == set(orders) and count_orders(found, after) == len(orders)
    assert next(iter(admissible_orders(found, after))) == tuple(found)
    mean = shapley(found, after, value)
    for name in found:
        expected = np.mean([marginal(order, value)[name] for order in orders], axis=0)
        assert mean[name] == pytest.approx(expected, abs=1e-12)
    assert np.sum(list(mean.values()), axis=0) == pytest.approx(value(frozenset(found)) - value(frozenset()))


def test_shares_of_nothing() -> None:
    shares = shares_of({"a": np.array([1.0, math.inf]), "b": np.array([-1.0, 1.0])})
    assert np.isnan(shares["a"]).all() and np.isnan(shares["b"]).all()
    assert estimate(np.array([1.0, 0.5, 1.5]), 0.95).interval == (0.5, 1.5)
    assert estimate(np.array([1.0, 1.0, 1.0]), 0.95).interval is None


def test_json_has_every_part_and_only_plain_numbers(config: Config) -> None:
    text = decomposition(config, "x")
    values = decomposition_json(text)
    assert set(values) >= {
        "study",
        "composed",
        "shapley",
        "level_slope",
        "reference_free",
        "reference_dependence",
        "notes",
    }
    assert plain(values) == values
    for label in ("2012-2023", "2013-2025"):
        for kind in ("study", "composed"):
            assert set(values[kind][label]) >= {"total", "factors", "shares"}


def put(values: Any, path: str, value: object) -> None:
    """Set ``a.0.b`` in nested dicts and lists; the value ``...`` removes it."""
    *way, last = path.split(".")
    for part in way:
        values = values[int(part)] if isinstance(values, list) else values[part]
    if value is ...:
        del values[last]
    elif isinstance(values, list):
        values[int(last)] = value
    else:
        values[last] = value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("laws.lstm.alpha", ..., "x.laws.lstm.alpha: missing"),
        ("laws.lstm.alpha", "much", "x.laws.lstm.alpha: bad number; got 'much'; expected a finite number > 0"),
        ("laws.lstm.alpha", True, "x.laws.lstm.alpha: bad number"),
        ("laws.lstm.alpha", -0.1, "expected a finite number > 0"),
        ("laws.lstm.E", -1, "x.laws.lstm.E: bad number; got '-1'; expected a finite number >= 0"),
        ("laws.lstm.alhpa", 1, "x.laws.lstm: unknown key alhpa; .*did you mean alpha?"),
        ("laws.lstm.flops_range", [2, 1], "flops_range: bad range"),
        ("laws.lstm.flops_range", [1], "not such a list; .*a list of 2"),
        ("laws", {}, "x.laws: missing|not a group of names"),
        ("start", "lsmt", "x.start: unknown name; got 'lsmt'; .*did you mean lstm?"),
        ("stages.0.law", "transfomer", "x.stages\\[0\\].law: unknown name; .*did you mean transformer?"),
        ("stages.0.kind", "lwa", "x.stages\\[0\\].kind: unknown name; .*did you mean law?"),
        ("stages.0.gain", 2.0, "x.stages\\[0\\]: unknown key gain"),
        ("stages.1.after", ["chinchilla"], "x.stages\\[1\\].after\\[0\\]: unknown name; got 'chinchilla'"),
        ("stages.1.gain", 2.0, "exactly one of gain and parts"),
        ("stages.1.joint", ..., "joint: one without the other"),
        ("stages.1.parts.0.shrink", "yes", "shrink: neither true nor false; got 'yes'"),
        ("stages.1.parts.0.gain", 0, "parts\\[0\\].gain: bad number"),
        ("stages.1.year", 2016, "not in historical order"),
        ("stages.2.name", "invariant", "two stages of one name"),
        ("stages.2.policy.p", 1.5, "bad policy"),
        ("stages.2.policy.params", ..., "policy.params: missing"),
        ("stages.2.surface.alpha", 0, "surface.alpha: bad number"),
        ("stages.2.rounded.terms", [[1, 2, 3], [1, 2]], "rounded.terms"),
        ("stages", [], "bad number of stages"),
        ("stages", 3, "x.stages: not such a list; got '3'; expected a list"),
        ("compute.growth", 0, "x.compute.growth: bad number"),
        ("compute", [], "x.compute: not a group of keys"),
        ("spans", [], "x.spans: no span"),
        ("spans", [[2018, 2023]], "a first year before 2017"),
        ("spans", [[2012, 2016]], "bad span"),
        ("spans", [2012], "x.spans\\[0\\]: not a span"),
        ("reference_dependence.references.LSTM", {}, "exactly one of law and allocation"),
        ("reference_dependence.years", [2014, 2013], "rising years"),
        ("nonsense", 1, "x: unknown key nonsense"),
    ],
)
def test_bad_configurations_name_the_key(config: Config, path: str, value: object, message: str) -> None:
    put(config, path, value)
    with pytest.raises(InputError, match=message) as caught:
        decompose(config, where="x")
    assert "\n" not in str(caught.value)


def test_not_a_mapping_at_all() -> None:
    for bad in (None, [], "text", 3):
        with pytest.raises(InputError, match="x: not a group of keys"):
            decompose(bad, where="x")


def test_runs_without_the_architectures(config: Config, study: Callable[..., pd.DataFrame]) -> None:
    two = analyse(study(archs=("lstm", "modern")), draws=100)
    with pytest.raises(InputError, match="x.laws.transformer.arch: unknown architecture; got 'retro'"):
        decompose(config, two, "x")
    config["laws"]["transformer"].pop("arch")
    with pytest.raises(InputError, match="x.laws.transformer.arch: missing, and laws from runs were asked for"):
        decompose(config, two, "x")
    frame = study()
    few = analyse(frame[(frame["arch"] != "retro") | (frame["flops"] < 1.1e15)], draws=100)
    config["laws"]["transformer"]["arch"] = "retro"
    with pytest.raises(InputError, match="no law for retro"):
        decompose(config, few, "x")
