"""A run whose LSTM is fused: carried state, truncated gradients, two layers."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from algoprog.config import BudgetConfig
from algoprog.data.store import TokenStore
from algoprog.recipes import resolve
from algoprog.training.engines import Engine
from algoprog.training.loop import train

# fp32: rounding in the last bits, amplified by 3 steps. bf16: the fused LSTM keeps c in fp32, the reference rounds it.
TOLERANCE = {"fp32": 2e-5, "bf16": 5e-3}


@pytest.mark.parametrize(("precision", "depth"), [("fp32", 2), ("bf16", 1)])
def test_fused_and_reference_lstms_give_one_loss_curve(
    precision: Any, depth: int, periodic: TokenStore, engine: Engine
) -> None:
    config = resolve(
        "lstm", 16, BudgetConfig(tokens=4 * 16 * 3), data={"tokenizer": "bpe-300"}, lr=0.01, precision=precision,
        overrides={"batch": 4, "model": {"context": 16, "bptt": 8, "depth": depth}}, where="test",
    )  # fmt: skip
    torch.utils.deterministic.fill_uninitialized_memory = False
    curves = {}
    for kernels in ("reference", "fused"):
        rows: list[dict[str, Any]] = []
        outcome = train(config, periodic, engine, kernels=kernels, on_metrics=rows.append)
        curves[kernels] = torch.tensor([row["loss"] for row in rows] + [outcome.loss])
        assert ("lstm" in outcome.kernels["fused"]) == (kernels == "fused")
    assert config.model.carry_state
    assert outcome.kernels["lstm"][0].startswith("requested: tile to width")
    assert len(curves["fused"]) == 4 and curves["fused"].isfinite().all()
    assert curves["fused"][-1] < curves["fused"][0]
    torch.testing.assert_close(curves["fused"], curves["reference"], rtol=TOLERANCE[precision], atol=0)
