"""Gradients with fused kernels under the engine named on the command line, against plain PyTorch; rank 0 prints a line.

Each rank has its own batch. The truth is the mean over ranks of what each computes alone with the reference, so that neither
DistributedDataParallel nor DeepSpeed has a part in it. With "train" as the second argument a short run follows.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from algoprog import kernels
from algoprog.config import BudgetConfig, RunConfig
from algoprog.data.store import TokenStore
from algoprog.models import build_model
from algoprog.recipes import resolve
from algoprog.training.engines import Engine, open_engine
from algoprog.training.loop import train

CONTEXT, VOCAB = 8, 300
CASES = {
    "modern": ("modern", torch.float32, {"depth": 1, "heads": 2}),
    "retro": ("retro", torch.float32, {"depth": 1, "heads": 2, "tied": False}),
    "modern bf16": ("modern", torch.bfloat16, {"depth": 1, "heads": 2}),
}


def settings(arch: str, model: dict[str, Any], batch: int, steps: int) -> RunConfig:
    overrides = {"batch": batch, "model": {"context": CONTEXT, **model}, "data": {"tokenizer": "bpe-300"}}
    return resolve(arch, 16, BudgetConfig(tokens=steps * batch * CONTEXT), lr=0.01, overrides=overrides)


def gradient_error(engine: Engine, arch: str, dtype: torch.dtype, model: dict[str, Any]) -> dict[str, float]:
    """Largest relative error of a gradient, and how far the gradients of this rank alone are from the mean."""
    config = settings(arch, model, 2, 1).model
    generator = torch.Generator().manual_seed(engine.place.rank)
    tokens = torch.randint(0, VOCAB, (2, CONTEXT + 1), generator=generator)

    def loss_of(net: torch.nn.Module) -> Tensor:
        loss: Tensor = net(tokens[:, :-1], tokens[:, 1:])[0] / tokens[:, 1:].numel()
        return loss

    plain = build_model(config, 0, dtype)
    loss_of(plain).backward()
    alone = {name: p.grad.clone() for name, p in plain.named_parameters() if p.grad is not None}
    truth = {name: engine.sum_over_ranks(g.clone()) / engine.place.world for name, g in alone.items()}
    fused = build_model(config, 0, dtype, kernels.select("fused", torch.device("cpu"), dtype))
    net = engine.adopt(fused, torch.optim.AdamW(fused.parameters(), fused=True), None)
    with engine.accumulating(True):
        engine.backward(loss_of(net))
    got = {name: p.grad for name, p in fused.named_parameters()}
    return {
        "error": max(relative(got[name], truth[name]) for name in truth),
        "alone": max(relative(alone[name], truth[name]) for name in truth),
    }


def relative(got: Tensor | None, truth: Tensor) -> float:
    assert got is not None
    return float((got - truth).norm() / truth.norm())


def short_run(engine: Engine) -> dict[str, Any]:
    """What ran, and the losses of two steps with fused and with reference kernels."""
    ids = (np.arange(2000) * 7 % 53).astype(np.uint16)
    store = TokenStore(Path("probe"), ids, ids[:100], VOCAB, 299, "probe", 4000, 200, {})
    config, losses = settings("modern", {"depth": 1, "heads": 2}, 4, 2), {}
    for request in ("reference", "fused"):
        rows: list[dict[str, Any]] = []
        outcome = train(config, store, engine, kernels=request, on_metrics=rows.append)
        losses[request] = [row["loss"] for row in rows] + [outcome.loss]
    return {"kernels": outcome.kernels, "losses": losses}


def main(name: str, *also: str) -> None:
    torch.set_num_threads(1)
    engine = open_engine(name)
    found: dict[str, Any] = {"world": engine.place.world, "launched": dist.get_world_size()}
    found["gradients"] = {case: gradient_error(engine, *given) for case, given in CASES.items()}
    if "train" in also:
        found["run"] = short_run(engine)
    if engine.place.rank == 0:
        print(json.dumps(found))
    engine.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
