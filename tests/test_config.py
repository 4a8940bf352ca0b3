"""Configs are frozen, strict and named by their content."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from algoprog.config import (
    BudgetConfig,
    DataConfig,
    InputError,
    OptimConfig,
    RunConfig,
    TransformerConfig,
    canonical_json,
    parse,
    read_yaml,
    tokenizer_vocabulary,
)
from algoprog.recipes import load_recipe, merge, parse_settings, preset_names, resolve

BUDGET = BudgetConfig(flops=10**12)


def test_digest_is_stable_and_sees_config_and_data() -> None:
    run = resolve("modern", 64, BUDGET)
    again = RunConfig.model_validate_json(canonical_json(run))
    assert again == run and again.digest("f") == run.digest("f")
    assert len(run.digest("f")) == 16
    others = [
        run.digest("g"),
        resolve("modern", 64, BUDGET, seed=1).digest("f"),
        resolve("modern", 32, BUDGET).digest("f"),
    ]
    assert len({run.digest("f"), *others}) == 4


def test_golden_digest() -> None:
    """A changed digest renames every stored run: change this only on purpose."""
    assert canonical_json(BUDGET) == '{"flops":1000000000000,"tokens":null,"tokens_per_param":null}'


def test_configs_are_frozen() -> None:
    with pytest.raises(ValidationError):
        resolve("modern", 64, BUDGET).seed = 3  # type: ignore[misc]


@pytest.mark.parametrize("preset", preset_names())
@pytest.mark.parametrize("width", [16, 32, 104, 256])
def test_every_preset_resolves(preset: str, width: int) -> None:
    run = resolve(preset, width, BUDGET)
    assert run.arch == preset and run.model.width == width and run.optim.lr > 0
    assert load_recipe(preset).description


def test_shape_rule_is_the_studys() -> None:
    depths = {
        16: 1,
        32: 2,
        48: 3,
        64: 4,
        80: 5,
        96: 6,
        104: 6,
        112: 7,
        128: 8,
        160: 10,
        192: 12,
        224: 14,
        256: 16,
        512: 32,
    }
    for width, depth in depths.items():
        model = resolve("modern", width, BUDGET).model
        assert isinstance(model, TransformerConfig)
        assert model.depth == depth
        assert width % model.heads == 0
    model = resolve("modern", 104, BUDGET).model
    assert isinstance(model, TransformerConfig) and model.heads == 4


def test_published_learning_rates() -> None:
    assert resolve("modern", 64, BUDGET).optim.lr == pytest.approx(0.00579, rel=2e-3)
    assert resolve("retro", 128, BUDGET).optim.lr == pytest.approx(0.00061996, rel=2e-3)
    assert resolve("lstm", 32, BUDGET).optim.lr == pytest.approx(0.056234, rel=2e-3)
    assert resolve("modern-sgd", 64, BUDGET).optim.lr == pytest.approx(0.177, rel=1e-2)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"model": {"heds": 2}}, "unknown key 'model.heds'; did you mean 'heads'"),
        ({"bach": 2}, "did you mean 'batch'"),
        ({"model": {"heads": 5}}, "width 64 is not divisible by heads 5; .* is 4"),
        ({"optim": {"lr": 0}}, "optim.lr: .*greater than 0; got 0"),
        ({"optim": {"lr": float("nan")}}, "optim.lr"),
        ({"optim": {"lr": "fast"}}, "optim.lr: .*'fast'"),
        ({"model": {"norm": "batch"}}, "model.norm: .*'rms' or 'layernorm'; got 'batch'"),
        ({"model": {"vocab": 7}}, "differs from tokenizer"),
        ({"data": {"tokenizer": "bpe-99999999999"}}, "largest token type"),
        ({"data": {"tokenizer": "words"}}, "unknown tokenizer; got 'words'"),
        ({"seed": -1}, "seed"),
        ({"batch": True}, "a number is needed, not True"),
        ({"schedule": {"name": "wsd", "warmup": 0.5, "decay": 0.8}}, "more than 1"),
    ],
)
def test_bad_overrides_give_one_clear_line(overrides: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        resolve("modern", 64, BUDGET, overrides=overrides, where="sweep.yaml")
    assert "\n" not in str(caught.value)


def test_lstm_constraints() -> None:
    with pytest.raises(InputError, match="not a multiple of bptt"):
        resolve("lstm", 64, BUDGET, overrides={"model": {"bptt": 33}})
    with pytest.raises(InputError, match="carry_state needs data.order: streams"):
        resolve("lstm", 64, BUDGET, overrides={"data": {"order": "shuffled"}})


def test_an_overridden_width_rules_depth_and_learning_rate() -> None:
    assert resolve("modern", 64, BUDGET, overrides={"model": {"width": 32}}) == resolve("modern", 32, BUDGET)


def test_a_users_order_wins_over_the_presets() -> None:
    run = resolve("lstm", 32, BUDGET, data={"order": "shuffled"}, overrides={"model": {"carry_state": False}})
    assert run.data.order == "shuffled"


def test_budget_is_exactly_one() -> None:
    for bad in ({}, {"flops": 1, "tokens": 1}, {"flops": 0}, {"flops": -1}, {"flops": "lots"}, {"flops": float("inf")}):
        with pytest.raises(InputError):
            parse(BudgetConfig, bad, "test")
    assert parse(BudgetConfig, {"flops": "1e15"}, "test").flops == 10**15


def test_unknown_architecture_names_the_nearest() -> None:
    with pytest.raises(InputError, match="unknown architecture 'modrn'; did you mean 'modern'"):
        resolve("modrn", 64, BUDGET)
    with pytest.raises(InputError, match="width is not a positive whole number"):
        resolve("modern", 0, BUDGET)


def test_read_yaml_errors(tmp_path: object) -> None:
    from pathlib import Path

    folder = Path(str(tmp_path))
    with pytest.raises(InputError, match="no such file"):
        read_yaml(folder / "absent.yaml")
    (folder / "bad.yaml").write_text("a: [1")
    with pytest.raises(InputError, match="not valid YAML"):
        read_yaml(folder / "bad.yaml")
    (folder / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="UTF-8"):
        read_yaml(folder / "binary.yaml")
    (folder / "evil.yaml").write_text("!!python/object/apply:os.system ['true']")
    with pytest.raises(InputError, match="not valid YAML"):
        read_yaml(folder / "evil.yaml")


def test_settings_are_nested_yaml_values() -> None:
    assert parse_settings(["model.depth=4", "optim.clip=null", "batch=8"]) == {
        "model": {"depth": 4}, "optim": {"clip": None}, "batch": 8,
    }  # fmt: skip
    with pytest.raises(InputError, match="KEY=VALUE"):
        parse_settings(["model.depth"])


@given(st.dictionaries(st.sampled_from("abc"), st.integers() | st.dictionaries(st.sampled_from("xyz"), st.integers())))
def test_merge_with_nothing_or_itself_changes_nothing(values: dict[str, object]) -> None:
    assert merge(values, {}) == merge(values, values) == merge({}, values) == values


def test_vocabulary_sizes() -> None:
    assert tokenizer_vocabulary("gpt2") == 50257
    assert tokenizer_vocabulary("bpe-4096") == 4096
    with pytest.raises(InputError, match="257"):
        tokenizer_vocabulary("bpe-256")


def test_defaults_are_valid() -> None:
    assert DataConfig().tokenizer and OptimConfig(lr=1.0).clip == 1.0
