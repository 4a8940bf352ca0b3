"""What a sweep file asks: interactions and a chain, refused in one line where no run answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from algoprog.config import InputError
from algoprog.sweep.questions import missing_level
from algoprog.sweep.sweep_file import load_sweep

FACTORS = {"model.activation": ["gelu", "swiglu"], "model.position": ["sinusoidal", "rotary"]}
VARIANTS = {
    "old": {"arch": "modern", "settings": {"model": {"activation": "gelu", "position": "sinusoidal"}}},
    "half": {"arch": "modern", "settings": {"model": {"activation": "gelu"}}},
}
TREND = {"flops": 1e16, "year": 2013, "growth": 4.1}


def write(folder: Path, **changes: Any) -> Path:
    values = {
        "name": "asked",
        "data": {"corpus": "sotu", "tokenizer": "bpe-1024"},
        "variants": VARIANTS,
        "grids": [{"arch": ["modern", "old", "half"], "width": 16, "flops": 1e10}],
    }
    (folder / "s.yaml").write_text(yaml.safe_dump(values | changes))
    return folder / "s.yaml"


def test_questions_are_part_of_the_sweep(tmp_path: Path) -> None:
    asked = {"factors": FACTORS | {"model.depth": [1, 1]}, "law_arch": "modern"}
    with pytest.raises(InputError, match="level 1 twice"):
        load_sweep(write(tmp_path, interactions=asked))
    sweep = load_sweep(
        write(tmp_path, interactions={"factors": FACTORS, "law_arch": "modern"}, decompose=["old", "modern"])
    )
    told = sweep.model_dump(mode="json")
    assert told["interactions"] == {"factors": FACTORS, "law_arch": "modern"}
    assert told["decompose"] == {"stages": ["old", "modern"], "years": None, "compute": None}
    timed = {"stages": ["old", "modern"], "years": [2012, 2023], "compute": TREND}
    assert load_sweep(write(tmp_path, decompose=timed)).model_dump()["decompose"]["years"] == [2012.0, 2023.0]
    assert load_sweep(write(tmp_path)).interactions is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"interactions": {"factors": FACTORS}}, "law_arch"),
        ({"interactions": {"factors": FACTORS, "law_arch": "moderm"}}, "law_arch.*did you mean 'modern'"),
        ({"interactions": {"factors": {"model.activation": ["gelu", "swiglu"]}, "law_arch": "modern"}}, "2 to 8 factors"),
        ({"interactions": {"factors": FACTORS | {"activation": ["a", "b"]}, "law_arch": "modern"}}, "no key of a run"),
        ({"interactions": {"factors": FACTORS | {"model.activaton": ["a", "b"]}, "law_arch": "modern"}}, "the key model.acti"),
        (
            {"interactions": {"factors": FACTORS | {"schedule.name": ["linear", "cosine"]}, "law_arch": "modern"}},
            "no run of the sweep has schedule.name = linear; there is cosine",
        ),
        ({"interactions": {"factors": FACTORS, "law_arch": "modern", "law": 1}}, "did you mean 'law_arch'"),
        ({"decompose": ["modern"]}, "at least 2"),
        ({"decompose": ["old", "old"]}, "comes twice"),
        ({"decompose": ["old", "lstm"]}, "decompose: unknown architecture 'lstm'"),
        ({"decompose": {"stages": ["old", "modern"], "years": [2012, 2023]}}, "together with compute"),
        ({"decompose": {"stages": ["old", "modern"], "years": [2023, 2012], "compute": TREND}}, "one year per stage, rising"),
        ({"decompose": {"stages": ["old", "modern"], "years": [2012], "compute": TREND}}, "one year per stage, rising"),
        ({"decompose": "modern"}, "decompose"),
    ],
)  # fmt: skip
def test_questions_that_no_run_answers(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_sweep(write(tmp_path, **changes))
    assert "\n" not in str(caught.value)


def test_levels_are_looked_up_in_nested_configs() -> None:
    configs = [{"model": {"depth": 1, "on": True}}, {"model": {"depth": 2, "on": False}}]
    assert missing_level({"model.depth": ("1", "2")}, configs) is None
    assert "model.depth = 3" in str(missing_level({"model.depth": ("1", "3")}, configs))
    assert "the key model.depth.x" in str(missing_level({"model.depth.x": ("1", "3")}, configs))
