"""The same run with fused and with reference kernels."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from algoprog.config import BudgetConfig
from algoprog.data.store import TokenStore
from algoprog.recipes import resolve
from algoprog.training.engines import Engine
from algoprog.training.loop import train

# fp32: rounding differs in the last bit per operation and training amplifies it; 8 steps keep it below 2e-5 of the loss.
TOLERANCE = {"fp32": 2e-5, "bf16": 5e-3}


@pytest.mark.parametrize(
    ("arch", "precision", "model"),
    [
        ("modern", "fp32", {"depth": 2, "heads": 2, "norm": "rms"}),
        ("modern", "bf16", {"depth": 1, "heads": 2}),
        pytest.param("retro", "fp32", {"depth": 1, "heads": 2, "activation": "glu"}, marks=pytest.mark.slow),
        pytest.param(
            "modern",
            "fp32",
            {"depth": 1, "heads": 1, "norm": "layernorm", "activation": "gelu", "final_norm": "rms"},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_fused_and_reference_kernels_give_one_loss_curve(
    arch: str, precision: Any, model: dict[str, Any], periodic: TokenStore, engine: Engine
) -> None:
    config = resolve(
        arch,
        16,
        BudgetConfig(tokens=4 * 16 * 8),
        data={"tokenizer": "bpe-300"},
        lr=0.01,
        precision=precision,
        overrides={"batch": 4, "model": {"context": 16, **model}},
        where="test",
    )
    torch.utils.deterministic.fill_uninitialized_memory = False
    curves = {}
    for kernels in ("reference", "fused"):
        rows: list[dict[str, Any]] = []
        outcome = train(config, periodic, engine, kernels=kernels, on_metrics=rows.append)
        curves[kernels] = torch.tensor([row["loss"] for row in rows] + [outcome.loss])
        assert ("rms_norm" in outcome.kernels["fused"]) == (kernels == "fused")
    assert len(curves["fused"]) == 9 and curves["fused"].isfinite().all()
    torch.testing.assert_close(curves["fused"], curves["reference"], rtol=TOLERANCE[precision], atol=0)
