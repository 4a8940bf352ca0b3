"""Trains the three architectures for a few steps under the engine named on the command line; rank 0 prints the losses."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch

from algoprog.config import BudgetConfig
from algoprog.data.store import TokenStore
from algoprog.recipes import resolve
from algoprog.training.engines import open_engine
from algoprog.training.loop import train

STEPS, BATCH, CONTEXT = 40, 4, 16


def store() -> TokenStore:
    ids = (np.arange(20_000) * 7 % 53).astype(np.uint16)
    return TokenStore(Path("probe"), ids, ids[:600], 300, 299, "probe", 40_000, 1_200, {})


def main(engine_name: str) -> None:
    torch.set_num_threads(1)
    engine = open_engine(engine_name)
    results = {}
    for arch in ("modern", "retro", "lstm"):
        model = {"context": CONTEXT, **({"bptt": 8} if arch == "lstm" else {})}
        overrides = {"batch": BATCH, "model": model, "data": {"tokenizer": "bpe-300"}}
        config = resolve(arch, 16, BudgetConfig(tokens=STEPS * BATCH * CONTEXT), lr=0.01, overrides=overrides)
        rows: list[dict[str, float]] = []
        outcome = train(config, store(), engine, on_metrics=rows.append)
        results[arch] = {
            "losses": [row["loss"] for row in rows],
            "norms": [row["grad_norm"] for row in rows],
            "final": outcome.loss,
        }
    if engine.place.rank == 0:
        print(json.dumps({"world": engine.place.world, "engine": engine.place.engine, "results": results}))
    engine.close()


if __name__ == "__main__":
    main(sys.argv[1])
