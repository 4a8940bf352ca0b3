"""A process that runs ways on request: JSON orders on stdin, JSON answers on stdout, everything else on stderr.

Allocator and thread settings are read by libraries when they load, so ways that differ in them need processes of their own.

    {"kind": "open", "name", "way", "config", "kernels", "execution"}   -> {"device"}
    {"kind": "run", "name", "steps"}                                    -> a sample
    {"kind": "losses", "name", "steps"}                                 -> {"losses"}
    {"kind": "parts", "name", "rounds"}                                 -> {"parts", "overhead"}, see parts.py
    {"kind": "close", "name"}                                           -> {}

An order that fails is answered by {"error"}.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from dataclasses import asdict
from typing import Any

Json = dict[str, Any]
TRAIN_WINDOWS = 2_000


class Server:
    """Serves orders; ways are kept by name until closed."""

    def __init__(self, engine_name: str) -> None:
        from algoprog.training.engines import open_engine

        self.engine = open_engine(engine_name)
        self.ways: dict[str, Any] = {}
        self.orders: dict[str, Json] = {}

    def answer(self, order: Json) -> Json:
        """Execute one order."""
        return dict(getattr(self, f"_{order['kind']}")(order))

    def _open(self, order: Json) -> Json:
        from algoprog.bench.ways import make_way
        from algoprog.training.throughput import device_name

        config, store = self._problem(order)
        way = make_way(order["way"], config, store, self.engine, order["kernels"], order["execution"])
        self.ways[order["name"]], self.orders[order["name"]] = way, order
        way.run(2)  # compiles, fills caches, starts threads
        return {"device": device_name(self.engine.place.device)}

    def _problem(self, order: Json) -> tuple[Any, Any]:
        from algoprog.config import RunConfig
        from algoprog.training.calibrate import random_store

        config = RunConfig.model_validate(order["config"])
        windows = max(TRAIN_WINDOWS, 4 * config.batch)
        return config, random_store(config.model.vocab, windows * (config.model.context + 1), config.model.context)

    def _run(self, order: Json) -> Json:
        sample: Json = self.ways[order["name"]].run(order["steps"]).as_json()
        return sample

    def _losses(self, order: Json) -> Json:
        return {"losses": self.ways[order["name"]].first_losses(order["steps"])}

    def _parts(self, order: Json) -> Json:
        from algoprog.bench.parts import BareStep, loop_overhead, time_parts

        opened, way = self.orders[order["name"]], self.ways[order["name"]]
        step = BareStep(*self._problem(opened), self.engine, opened["kernels"])
        parts = time_parts(step, way, order["rounds"])
        return {"parts": parts, "overhead": asdict(loop_overhead(way, order["rounds"]))}

    def _close(self, order: Json) -> Json:
        del self.ways[order["name"]], self.orders[order["name"]]
        return {}


def main() -> None:
    """Serve until stdin closes. The first line says ``{"threads", "engine"}``; threads null leaves PyTorch's default."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    hello = json.loads(sys.stdin.readline())

    import torch

    if hello["threads"] is not None:
        torch.set_num_threads(hello["threads"])
    server: Server | None = None
    for line in sys.stdin:
        try:
            server = server or Server(hello["engine"])
            answer = server.answer(json.loads(line))
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            answer = {"error": f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
