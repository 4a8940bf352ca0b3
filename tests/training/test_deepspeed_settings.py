"""What a DeepSpeed settings file may say, and what it gets told otherwise. DeepSpeed itself is not imported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from algoprog.config import InputError
from algoprog.training.engines.deepspeed_settings import (
    OWNED,
    DeepSpeedSettings,
    check_settings,
    read_settings,
    shipped_settings,
)

STAGES = {"zero0": 0, "zero1": 1, "zero2": 2, "zero3": 3, "bf16": 0, "multi-node": 1}


def test_shipped_files_are_valid_and_leave_everything_else_to_the_loop() -> None:
    assert {name: read_settings(name).stage for name in shipped_settings()} == STAGES
    for name, stage in STAGES.items():
        settings = read_settings(name)
        config = settings.config(max_norm=0.7)
        assert config["gradient_clipping"] == (0.7 if stage else 0.0), "our clip at stage 0, DeepSpeed's from 1 on"
        assert config["gradient_accumulation_steps"] == 1 and config["zero_optimization"]["stage"] == stage
        assert settings.config(max_norm=None)["gradient_clipping"] == 0.0
        assert not {"optimizer", "scheduler", "fp16", "bf16", "amp"} & set(config)


def test_no_file_means_stage_0() -> None:
    assert DeepSpeedSettings().config(1.0)["zero_optimization"] == {"stage": 0}
    assert not DeepSpeedSettings().delegates_clip and DeepSpeedSettings(1).delegates_clip


@pytest.mark.parametrize("key", OWNED)
def test_what_the_loop_owns_is_refused_with_the_option_to_use(key: str) -> None:
    with pytest.raises(InputError, match=f"my.json: {key} is not DeepSpeed's to decide here; say ") as refused:
        check_settings({key: {"enabled": True}}, "my.json")
    assert "\n" not in str(refused.value)
    assert check_settings({key: "auto"}, "my.json") == DeepSpeedSettings()
    assert check_settings({key: {"enabled": False}}, "my.json") == DeepSpeedSettings()


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"train_batch_size": 32}, "say --set batch=N"),
        ({"gradient_clipping": 1.0}, "say --set optim.clip=X"),
        ({"bf16": {"enabled": True}}, "layers convert their fp32 weights"),
        ({"zero_optimisation": {"stage": 1}}, "unknown key 'zero_optimisation'; did you mean 'zero_optimization'"),
        ({"zero_optimization": 2}, 'expected an object, {"stage": 1}'),
        ({"zero_optimization": {"stage": 4}}, "got 4; expected 0, 1, 2 or 3"),
        ({"zero_optimization": {"stage": True}}, "got True; expected 0, 1, 2 or 3"),
        ({"zero_optimization": {"offload_optimizer": {"device": "cpu"}}}, "zero_optimization.offload_optimizer"),
        ({"zero_optimization": {"zero_quantized_gradients": True}}, "zero_optimization.zero_quantized_gradients"),
        ({"communication_data_type": "fp16"}, "unknown key 'communication_data_type'"),
    ],
)
def test_bad_settings_get_one_line(values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError) as refused:
        check_settings(values, "my.json")
    assert complaint in str(refused.value) and "\n" not in str(refused.value)


def test_files_and_names(tmp_path: Path) -> None:
    own = tmp_path / "own.json"
    own.write_text(json.dumps({"zero_optimization": {"stage": 2, "overlap_comm": True}, "gradient_clipping": "auto"}))
    settings = read_settings(own)
    assert settings.stage == 2 and settings.config(1.0)["zero_optimization"]["overlap_comm"] is True
    with pytest.raises(InputError, match="unknown DeepSpeed settings 'zero11'; did you mean 'zero1'"):
        read_settings("zero11")
    with pytest.raises(InputError, match="no such file"):
        read_settings(tmp_path / "absent.json")
    for text in ("{", "[1]"):
        own.write_text(text)
        with pytest.raises(InputError, match=r"not readable as JSON|expected a JSON object"):
            read_settings(own)
