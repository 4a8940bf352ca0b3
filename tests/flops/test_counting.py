"""`algoprog flops`: the contract of its JSON, its errors, and counters side by side with every difference explained."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from algoprog.cli import app
from algoprog.flops import FlopCount
from algoprog.flops.compare import side_by_side
from algoprog.flops.conventions import CONVENTIONS
from algoprog.flops.peers import PeerCount
from algoprog.training import counting

GPT2 = ["--vocab", "50257"]


def flops(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["flops", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_the_contract() -> None:
    code, out, _ = flops("--arch", "lstm", "--width", "128", "--seq", "128", "--json")
    found = json.loads(out)
    assert code == 0 and found["arch"] == "lstm" and found["params"] == 50257 * 129 + 8 * 128 * 129
    assert found["per_token"] == {
        "embed": {"forward": 0, "backward": 0},
        "recurrent": {"forward": 16 * 128**2, "backward": 32 * 128**2},
        "head": {"forward": 2 * 128 * 50257, "backward": 4 * 128 * 50257},
    }
    assert set(found["conventions"]) == set(CONVENTIONS)
    assert found["conventions"]["causal_exact"] == sum(sum(entry.values()) for entry in found["per_token"].values())
    assert all(type(value) is int for value in found["conventions"].values())


@pytest.mark.parametrize("seq", ["1", "17", "100", "512"])
@pytest.mark.parametrize("arch", ["modern", "lstm"])
def test_any_length_and_vocabulary(arch: str, seq: str) -> None:
    code, out, _ = flops(
        "--arch", arch, "--width", "32", "--seq", seq, "--vocab", "5", "--set", "model.depth=3", "--json"
    )
    found = json.loads(out)
    assert code == 0 and (found["seq"], found["vocab"], found["depth"]) == (int(seq), 5, 3)
    assert found["per_token"]["head"] == {"forward": 2 * 32 * 5, "backward": 4 * 32 * 5}


def test_tables_for_people() -> None:
    code, out, _ = flops(
        "--arch", "modern", "--width", "32", "--seq", "16", "--vocab", "300", "--set", "optim.decay=matrices"
    )
    assert code == 0 and all(f"{name}: " in out for name in CONVENTIONS)
    assert "attn_scores_causal" in out and "Kaplan et al. 2020" in out and "for the update" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--arch", "modem"], "did you mean 'modern'"),
        (["--width", "0"], "width is not a positive whole number"),
        (["--width", "63"], "head dimension is even"),
        (["--seq", "0"], "model.context: input should be greater than 0"),
        (["--vocab", "-3"], "vocab: input should be greater than 0"),
        (["--set", "model.heads=3"], "nearest number of heads that divides it is 2"),
        (["--arch", "lstm", "--seq", "30", "--set", "model.bptt=7"], "context 30 is not a multiple of bptt 7"),
        (["--set", "model=3"], "model is a group of keys"),
        (["--set", "modle.depth=2"], "modle"),
    ],
)
def test_bad_shapes_are_one_clear_line(arguments: list[str], message: str) -> None:
    code, out, err = flops(*arguments)
    assert code == 2 and out == "" and err.count("\n") == 1 and message in err


@pytest.mark.parametrize(
    ("arch", "missing"), [("modern", "fused attention counts nothing"), ("lstm", "the fused LSTM")]
)
def test_side_by_side_leaves_nothing_unexplained(arch: str, missing: str) -> None:
    code, out, _ = flops("--arch", arch, "--width", "32", "--seq", "32", "--vocab", "300", "--compare", "--json")
    rows = {row["counter"]: row for row in json.loads(out)["counters"]}
    assert code == 0 and all(row["unexplained"] == 0 for row in rows.values())
    exact = rows["analytic"]["flops"]
    assert rows["dispatch"]["flops"] == exact
    for name in ("FlopCounterMode", "torch.profiler"):
        assert rows[name]["flops"] - exact == sum(d["flops"] for d in rows[name]["differences"])
        assert rows[name]["differences"][0]["reason"].startswith(missing)
    assert rows["deepspeed"]["flops"] is None or rows["deepspeed"]["differences"]
    assert [d["reason"] for d in rows["torch.profiler"]["differences"]][1:] == [
        "elementwise work it adds by its own rules"
    ]


def test_a_gap_without_a_reason_is_shown() -> None:
    counted = counting.count("modern", 32, 16, 300, []).facts.count
    exact = counted.training_total
    watched = FlopCount.from_dict({"head": {"forward": 1, "backward": 2}})
    rows = side_by_side(
        counted, watched, [PeerCount("odd", "1", exact + 12345, 0, ""), PeerCount("none", None, None, 0, "")]
    )
    assert rows[1].unexplained > 0 and rows[2].unexplained == 12345 and rows[2].differences == ()
    assert rows[3].flops is None and rows[3].ratio is None
