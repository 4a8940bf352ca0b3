"""Bring a store of an older schema up to date. Losses, FLOPs and names of runs stay as they are."""

from __future__ import annotations

import json
import sqlite3


def add_conventions(connection: sqlite3.Connection) -> None:
    """Schema 1 to 2: finished runs also keep their FLOPs in every convention. Within the caller's transaction."""
    from algoprog.config import RunConfig
    from algoprog.training.budget import plan_work

    finished = connection.execute("SELECT digest, config, result FROM runs WHERE result IS NOT NULL").fetchall()
    for digest, config, text in finished:
        result, run = json.loads(text), RunConfig.model_validate_json(config)
        sequences = result["steps"] * run.batch
        per_sequence = plan_work(run).sequence_flops
        result["flops_by_convention"] = {name: flops * sequences for name, flops in per_sequence.items()}
        connection.execute("UPDATE runs SET result = ? WHERE digest = ?", (json.dumps(result), digest))
