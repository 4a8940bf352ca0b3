"""Sweep files become exact plans, or one clear line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from algoprog.config import InputError
from algoprog.data.store import TokenStore
from algoprog.recipes import CONFIGS
from algoprog.sweep.commands import plan
from algoprog.sweep.plan import check_data, expand
from algoprog.sweep.sweep_file import load_sweep

GRID: dict[str, Any] = {"arch": "modern", "width": 16, "flops": "1e10"}


def write(tmp_path: Path, **changes: Any) -> Path:
    values = {"name": "t", "data": {"tokenizer": "bpe-300"}, "settings": {"batch": 4}, "grids": [GRID], **changes}
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_grids_multiply_and_repeat_once(tmp_path: Path) -> None:
    grids = [
        {"arch": ["modern", "retro"], "width": [16, 32], "flops": ["1e10", 3e10], "seed": [0, 1]},
        {"arch": "modern", "width": 16, "flops": 1e10},
        {"arch": "lstm", "width": 16, "tokens": 50000, "lr": [0.01, 0.02]},
        {"arch": "lstm", "width": [16, 64], "tokens_per_param": 1, "lr_law": {"coefficient": 0.16, "exponent": -0.5}},
    ]
    runs = expand(load_sweep(write(tmp_path, grids=grids)), "fp32")
    assert len(runs) == 16 + 2 + 2
    assert {run.config.arch for run in runs} == {"modern", "retro", "lstm"}
    assert [run.config.optim.lr for run in runs[-2:]] == [0.04, 0.02]
    for run in runs[:16]:
        assert 0 <= run.config.budget.flops - run.work.flops < run.work.flops_per_step
    assert len({run.row("f")["digest"] for run in runs}) == 20


def test_settings_reach_runs_and_grids_win(tmp_path: Path) -> None:
    path = write(
        tmp_path, settings={"batch": 4, "model": {"depth": 3}}, grids=[GRID | {"settings": {"batch": 2}}, GRID]
    )
    runs = expand(load_sweep(path), "bf16")
    assert [(r.config.batch, r.config.model.depth, r.config.precision) for r in runs] == [
        (2, 3, "bf16"),
        (4, 3, "bf16"),
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grid": []}, "unknown key 'grid'; did you mean 'grids'"),
        ({"grids": []}, "grids"),
        ({"grids": [GRID | {"archs": "x"}]}, "did you mean 'arch'"),
        ({"grids": [GRID | {"arch": "moderm"}]}, "grid 1|did you mean 'modern'"),
        ({"grids": [GRID | {"flops": 0}]}, "greater than 0"),
        ({"grids": [GRID | {"tokens": 5}]}, "exactly one of flops"),
        ({"grids": [GRID | {"flops": 5}]}, "below one step"),
        ({"grids": [GRID | {"lr": 0.1, "lr_law": {"coefficient": 1, "exponent": 0}}]}, "not both"),
        ({"grids": [GRID | {"settings": {"model": {"heads": 3}}}]}, "grid 1: model: width 16 is not divisible"),
        ({"grids": [GRID | {"settings": {"modle": {}}}]}, "did you mean 'model'"),
        ({"compare": [["lstm", "modern"]]}, "compare: unknown architecture 'lstm'"),
        ({"data": {"tokenizer": "bpe-70000000000"}}, "token type"),
    ],
)
def test_bad_sweeps(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        expand(load_sweep(write(tmp_path, **changes)), "fp32", "s.yaml")
    assert "\n" not in str(caught.value)


def test_missing_files_and_shipped_names(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_sweep(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="did you mean 'quickstart'"):
        load_sweep("quickstrat")


SHIPPED = [
    (path, size)
    for path in sorted((CONFIGS / "sweep").glob("*.yaml"))
    for size in yaml.safe_load(path.read_text()).get("sizes", {"": {}})
]


@pytest.mark.parametrize(("path", "size"), SHIPPED, ids=lambda part: getattr(part, "stem", part))
def test_shipped_sweeps_expand(path: Path, size: str) -> None:
    sweep = load_sweep(path.stem, size or None)
    runs = expand(sweep, "fp32")
    check_data(runs, sweep.data)
    assert runs and sweep.name == "-".join(filter(None, (path.stem, size)))


def test_one_sweep_one_dataset(tmp_path: Path) -> None:
    sweep = load_sweep(write(tmp_path, grids=[GRID | {"settings": {"data": {"seed": 5}}}]))
    with pytest.raises(InputError, match="other data than its sweep"):
        check_data(expand(sweep, "fp32"), sweep.data)


def test_plan_times_every_shape_and_writes_nothing(sweep_file: Path, tokens: TokenStore) -> None:
    before = sorted(sweep_file.parent.iterdir())
    estimate = plan(str(sweep_file), "fp32", workers=2, threads=1)
    assert sorted(sweep_file.parent.iterdir()) == before
    assert len(estimate["runs"]) == 12 and estimate["data"] == tokens.fingerprint
    assert estimate["total_flops"] == sum(run["flops"] for run in estimate["runs"])
    for run in estimate["runs"]:
        assert run["seconds"] > 0 and run["memory_bytes"] > 1e7 and run["epochs"] == run["tokens"] / len(tokens.train)
    assert 0 < estimate["wall_seconds"] <= estimate["worker_seconds"]
