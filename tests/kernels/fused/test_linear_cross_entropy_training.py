"""A run whose only fused operation of weight is the head: an LSTM with a tied table or with a head of its own and a bias."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from algoprog.config import BudgetConfig
from algoprog.data.store import TokenStore
from algoprog.recipes import resolve
from algoprog.training.engines import Engine
from algoprog.training.loop import train

# fp32: rounding in the last bits, amplified by 6 steps. bf16: the fused head rounds neither its logits nor the gradient of
# its fp32 weight, the reference rounds both.
TOLERANCE = {"fp32": 2e-5, "bf16": 5e-3}


@pytest.mark.parametrize(("precision", "tied"), [("fp32", False), ("bf16", True), ("bf16", False)])
def test_fused_and_reference_heads_give_one_loss_curve(
    precision: Any, tied: bool, periodic: TokenStore, engine: Engine
) -> None:
    config = resolve(
        "lstm", 16, BudgetConfig(tokens=4 * 16 * 6), data={"tokenizer": "bpe-300"}, lr=0.01, precision=precision,
        overrides={"batch": 4, "model": {"context": 16, "bptt": 16, "depth": 1, "tied": tied, "bias": True}}, where="test",
    )  # fmt: skip
    torch.utils.deterministic.fill_uninitialized_memory = False
    curves = {}
    for kernels in ("reference", "fused"):
        rows: list[dict[str, Any]] = []
        outcome = train(config, periodic, engine, kernels=kernels, on_metrics=rows.append)
        curves[kernels] = torch.tensor([row["loss"] for row in rows] + [outcome.loss])
        assert ("linear_cross_entropy" in outcome.kernels["fused"]) == (kernels == "fused")
    assert len(curves["fused"]) == 7 and curves["fused"].isfinite().all()
    assert curves["fused"][-1] < curves["fused"][0]
    torch.testing.assert_close(curves["fused"], curves["reference"], rtol=TOLERANCE[precision], atol=0)
