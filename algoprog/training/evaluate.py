"""Validation loss over the whole split: every target is scored, the last one included."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from algoprog.config import LstmConfig, ModelConfig
from algoprog.training.engines import Engine

STREAMS = 16
"""Streaming scores cut the split into this many contiguous streams; each starts from the zero state."""

LOGITS_AT_ONCE = {"cpu": 2**20, "cuda": 2**26}
"""Bounds the rows of an evaluation batch: on a CPU the logits should stay in its cache, a GPU wants large products."""

IGNORE = -100

Look = Callable[[], None]


@dataclass(frozen=True)
class Score:
    """Loss in nats per scored token, and how many tokens were scored."""

    loss: float
    tokens: int


def evaluate(
    model: nn.Module, config: ModelConfig, tokens: np.ndarray, engine: Engine, look: Look = lambda: None
) -> dict[str, Score]:
    """Scores of the split ``tokens`` [n] by name: ``windowed`` for every model, ``streaming`` too for recurrent ones.

    Windows of ``config.context`` tokens start from nothing; the last, shorter one is padded and its padding not scored.
    All ``n - 1`` targets count in both. Ranks share the windows and agree on the result. ``look`` is called before every
    batch; what it raises ends the evaluation.
    """
    model.eval()
    try:
        with torch.no_grad():
            scores = {"windowed": _windowed(model, config, tokens, engine, look)}
            if isinstance(config, LstmConfig):
                scores["streaming"] = _streaming(model, config, tokens, engine, look)
    finally:
        model.train()
    return scores


def padded_rows(tokens: np.ndarray, rows: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets [rows, length] that cover all ``n - 1`` next-token targets in order; padding has target -100."""
    inputs = np.zeros(rows * length, dtype=np.int64)
    targets = np.full(rows * length, IGNORE, dtype=np.int64)
    inputs[: len(tokens) - 1] = tokens[:-1]
    targets[: len(tokens) - 1] = tokens[1:]
    return inputs.reshape(rows, length), targets.reshape(rows, length)


def _windowed(model: nn.Module, config: ModelConfig, tokens: np.ndarray, engine: Engine, look: Look) -> Score:
    count = math.ceil((len(tokens) - 1) / config.context)
    inputs, targets = padded_rows(tokens, count, config.context)
    mine = slice(engine.place.rank, None, engine.place.world)
    rows = max(1, LOGITS_AT_ONCE[engine.place.device.type] // (config.context * config.vocab))
    return _score(model, inputs[mine], targets[mine], rows, engine, look)


def _score(model: nn.Module, inputs: np.ndarray, targets: np.ndarray, rows: int, engine: Engine, look: Look) -> Score:
    total = _accumulator(engine)
    for start in range(0, len(inputs), rows):
        look()
        x, y = _to_device(engine, inputs[start : start + rows], targets[start : start + rows])
        total += _add(model(x, y)[0], y)
    return _finish(total, engine)


def _streaming(model: nn.Module, config: ModelConfig, tokens: np.ndarray, engine: Engine, look: Look) -> Score:
    """Every rank scores the same streams: a carried state cannot be cut, and the split is small."""
    streams = min(STREAMS, len(tokens) - 1)
    inputs, targets = padded_rows(tokens, streams, math.ceil((len(tokens) - 1) / streams))
    length = max(1, LOGITS_AT_ONCE[engine.place.device.type] // (streams * config.vocab))
    total, state = _accumulator(engine), None
    for start in range(0, inputs.shape[1], length):
        look()
        x, y = _to_device(engine, inputs[:, start : start + length], targets[:, start : start + length])
        loss, state = model(x, y, state)
        total += _add(loss, y)
    return _finish(total / engine.place.world, engine)


def _accumulator(engine: Engine) -> Tensor:
    return torch.zeros(2, dtype=torch.float64, device=engine.place.device)


def _to_device(engine: Engine, *arrays: np.ndarray) -> list[Tensor]:
    return [torch.from_numpy(np.ascontiguousarray(array)).to(engine.place.device) for array in arrays]


def _add(loss: Tensor, targets: Tensor) -> Tensor:
    return torch.stack((loss.double(), (targets != IGNORE).sum().double()))


def _finish(total: Tensor, engine: Engine) -> Score:
    nats, count = engine.sum_over_ranks(total).tolist()
    return Score(nats / count, round(count))
