"""analyse and the two commands: choices stated, flags raised, JSON valid."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from algoprog.scaling import InputError, Status, analyse, commands
from algoprog.scaling.study import default_pairs, largest_in_range


def test_everything_of_a_good_study(study) -> None:
    found = analyse(study(budgets=12, decades=4.0), draws=60)
    assert found.fit.status is Status.CONVERGED and found.excluded == {}
    assert [row.arch for row in found.laws] == ["lstm", "modern", "retro"]
    for row in found.laws:
        assert row.n_points == row.n_runs == 12
        assert row.flops_range == pytest.approx((1e15, 1e19), rel=1e-9)
        for value, ends in ((row.law.E, row.E), (row.law.a, row.a), (row.law.A, row.A), (row.law.alpha, row.alpha)):
            assert ends is not None and ends[0] < value < ends[1]
    assert {(pair.a, pair.b) for pair in found.gains} == {("lstm", "modern"), ("lstm", "retro"), ("retro", "modern")}
    for pair in found.gains:
        assert pair.at_largest is not None and pair.at_largest.in_range and pair.at_largest.gain > 1
        assert pair.at_centre is not None and pair.at_centre.flops == pytest.approx(1e17, rel=1e-6)
    (covered,) = [line for line in found.warnings if line.startswith("Decades of compute covered")]
    assert covered.count(" 4.0 (1e+15 to 1e+19 FLOPs)") == 3


def test_largest_in_range_compute_is_the_last_one_in_range(study) -> None:
    found = analyse(study(), draws=5)
    for pair in found.gains:
        assert pair.at_largest is not None
        old = found.fit.flops_range[pair.a][1]
        assert pair.at_largest.flops_a == pytest.approx(old, rel=1e-6) or pair.at_largest.flops_b == pytest.approx(
            found.fit.flops_range[pair.b][1], rel=1e-6
        )


def test_pairs_can_be_given_and_are_checked(study) -> None:
    found = analyse(study(), draws=5, pairs=[("modern", "lstm")])
    assert [(pair.a, pair.b) for pair in found.gains] == [("modern", "lstm")]
    assert found.gains[0].at_centre is not None and found.gains[0].at_centre.gain < 1
    with pytest.raises(InputError, match="did you mean modern"):
        analyse(study(), draws=5, pairs=[("lstm", "modrn")])


def test_unfinished_runs_and_cuts_are_counted(study) -> None:
    frame = study().assign(state="done")
    frame.loc[0, ["state", "loss"]] = ["diverged", np.nan]
    found = analyse(frame, draws=5, min_flops=2e15)
    assert found.excluded == {"diverged": 1, "outside the cuts on flops": 2}
    assert "1 diverged run excluded." in found.warnings
    assert len(found.points) == len(frame) - 3
    assert found.fit.flops_range["lstm"][0] > 2e15


def test_last_steps_only(study) -> None:
    frame = study().assign(step=100)
    early = frame.assign(step=50, flops=frame["flops"] / 2, loss=frame["loss"] * 0.5)
    one, two = analyse(frame, draws=5), analyse(pd.concat([early, frame]), draws=5)
    assert pytest.approx(one.fit.E, rel=1e-9) == two.fit.E


def test_nothing_to_analyse(study) -> None:
    with pytest.raises(InputError, match="no finished run to analyse; got '30 diverged'"):
        analyse(study().assign(state="diverged"))
    with pytest.raises(InputError, match="no run inside the cuts"):
        analyse(study(), min_flops=1e25)
    with pytest.raises(InputError, match="missing column"):
        analyse(study().drop(columns="loss"))


def test_tiny_study_says_that_it_is_tiny(study) -> None:
    found = analyse(study(budgets=2), draws=10)
    assert found.fit.status is Status.TOO_FEW
    assert any("No law could be fitted" in line for line in found.warnings)
    assert found.laws == () and found.gains == ()
    three = analyse(study(budgets=3).drop(index=0), draws=10)
    assert any("Too few points: 8 on the frontier for 7 parameters" in line for line in three.warnings)
    assert any("unstable" in line for line in three.warnings)
    assert three.laws[0].alpha is None


def test_ranges_that_do_not_meet(study) -> None:
    low, high = study(archs=("lstm", "modern")), study(archs=("retro",))
    high = high.assign(flops=high["flops"] * 1e6, loss=high["loss"] - 1.5)
    found = analyse(pd.concat([low, high]), draws=5, irreducible=0.5)
    pair = next(p for p in found.gains if {p.a, p.b} == {"lstm", "retro"})
    assert pair.at_centre is None and pair.at_largest is None
    assert any("do not overlap" in line for line in found.warnings)
    assert any("share no loss" in line for line in found.warnings)


def test_e_at_its_bound_is_said() -> None:
    flops = np.geomspace(1e14, 1e18, 9)
    loss = 4 * np.exp(-0.02 * np.log(flops / 1e16) - 0.002 * np.log(flops / 1e16) ** 2)
    found = analyse(pd.DataFrame({"arch": "lstm", "flops": flops, "loss": loss}), draws=10)
    assert any("sits at its bound 0" in line for line in found.warnings)
    assert any("bound_hit" in line for line in found.warnings)


def test_default_pairs_point_from_worse_to_better(study) -> None:
    found = analyse(study(), draws=2)
    for a, b in default_pairs(found.fit):
        flops = largest_in_range(found.fit, a, b)
        assert flops is not None and found.fit.laws[b].loss(flops) < found.fit.laws[a].loss(flops)


# ---------------------------------------------------------------- the commands


@pytest.fixture
def table(study, tmp_path: Path) -> Path:
    path = tmp_path / "runs.csv"
    study().rename(columns={"flops": "C"}).to_csv(path, index=False)
    return path


def strict(value: object) -> object:
    return json.loads(json.dumps(value, allow_nan=False))


def test_fit_command(table: Path) -> None:
    found = commands.fit(table, "frontier", "shared", 20, 0, ["C=flops"])
    printed = strict(commands.fit_json(found))
    assert printed["law"] == "frontier" and printed["status"] == "converged"  # type: ignore[index]
    for part in printed["laws"]:  # type: ignore[index]
        assert set(part) == {"arch", "E", "A", "alpha", "n_points", "n_runs", "intervals", "flops_range"}
        assert set(part["intervals"]) == {"E", "A", "alpha"}
        law = found.fit.laws[part["arch"]]
        assert part["E"] + part["A"] * 1e16 ** -part["alpha"] == pytest.approx(law.loss(1e16), rel=1e-9)


@pytest.mark.parametrize("rule", ["1.7", "profile"])
def test_fit_command_with_other_rules_for_e(table: Path, rule: str) -> None:
    printed = strict(commands.fit_json(commands.fit(table, irreducible=rule, draws=5, mapping=["C=flops"])))
    if rule == "1.7":
        assert {part["E"] for part in printed["laws"]} == {1.7}  # type: ignore[index]
        assert printed["laws"][0]["intervals"]["E"] == [1.7, 1.7]  # type: ignore[index]
    else:
        assert len(printed["irreducible"]["profile"]) == 2  # type: ignore[index]


def test_gain_command(table: Path) -> None:
    at_flops = commands.gain(table, "lstm", "modern", at_flops=3e15, draws=20, mapping=["C=flops"])
    printed = strict(commands.gain_json(at_flops))
    keys = {"gain", "interval", "in_range", "anchor", "method", "loss", "flops", "sources"}
    assert set(printed) == keys  # type: ignore[call-overload]
    assert printed["in_range"] is True and printed["anchor"] == "new"  # type: ignore[index]
    at_loss = commands.gain(table, "lstm", "modern", at_loss=at_flops.loss, draws=20, mapping=["C=flops"])
    assert at_loss.gain == pytest.approx(at_flops.gain, rel=1e-9)
    old = commands.gain(table, "lstm", "modern", at_flops=1e17, anchor="old", draws=5, mapping=["C=flops"])
    assert old.flops_a == 1e17


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "say where to compare; got 'neither'"),
        ({"at_flops": 1e16, "at_loss": 4.0}, "got 'both'"),
        ({"at_flops": 1e16, "anchor": "mid"}, "--anchor: unknown anchor"),
        ({"at_flops": -1.0}, "bad flops"),
        ({"at_flops": 1e16, "new": "modrn"}, "did you mean modern"),
        ({"at_flops": 1e16, "irreducible": "some"}, "--irreducible: bad rule"),
        ({"at_flops": 1e16, "irreducible": "77"}, "bad irreducible loss; got 77.0"),
        ({"at_flops": 1e16, "mapping": ["C"]}, "--map: bad renaming; got 'C'"),
        ({"at_flops": 1e16, "mapping": []}, "try --map C=flops"),
    ],
)
def test_gain_command_refuses_bad_arguments(table: Path, arguments: dict[str, object], message: str) -> None:
    given = {"old": "lstm", "new": "modern", "draws": 5, "mapping": ["C=flops"], **arguments}
    with pytest.raises(InputError, match=message):
        commands.gain(table, **given)  # type: ignore[arg-type]


def test_law_that_does_not_exist(table: Path) -> None:
    with pytest.raises(InputError, match="--law: .* got 'line'; expected frontier or surface"):
        commands.fit(table, "line")


def test_infinity_and_nan_become_json() -> None:
    values = {"a": math.inf, "b": [-math.inf, math.nan, 1.5], "c": {"d": (1, None)}, "e": "text", "f": True}
    assert strict(commands.plain(values)) == {
        "a": "inf",
        "b": ["-inf", None, 1.5],
        "c": {"d": [1, None]},
        "e": "text",
        "f": True,
    }


def test_import_is_light() -> None:
    """No torch, no pydantic, no other room of the package, and scipy only when it is needed."""
    code = (
        "import sys, algoprog.scaling; "
        "heavy = {'torch', 'pydantic', 'scipy', 'matplotlib'} & set(sys.modules); "
        "rooms = [m for m in sys.modules if m.startswith('algoprog.') and not m.startswith('algoprog.scaling')]; "
        "assert not heavy and not rooms, (heavy, rooms)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
