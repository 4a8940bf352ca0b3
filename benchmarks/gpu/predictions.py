"""What the cost model expects of an H100, as closed forms. Nothing here was measured; consequences.py sets rows against it.

Assumed: copy 3.0 TB/s, L2 6 TB/s, bf16 products 790 TFLOP/s (620 inside the flash kernels), 132 multiprocessors at 1.7 GHz with
16 special-function results per clock. N tokens, d width, V vocabulary, P = V stored as a multiple of 64, H hidden units.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

COPY, L2, PRODUCT, FLASH = 3.0e12, 6.0e12, 790e12, 620e12
CLOCK, MULTIPROCESSORS, SPECIAL = 1.7e9, 132, 16
SPECIAL_RATE = SPECIAL * MULTIPROCESSORS * CLOCK

# Bytes per logit that pass through memory, and those that products cannot hide where the products take longer
TRAFFIC = {
    "eager": (34, 6, COPY),
    "compiled": (12, 6, COPY),
    "fused in place": (10, 4, COPY),
    "chunks of 256": (10, 2, L2),
}
ISSUE_NS = {
    32: 21,
    64: 23,
    128: 27,
    256: 38,
}  # ns per token to issue the flash kernels' instructions, from their machine code
TILE_US = {32: 0.52, 64: 0.70, 128: 1.3}  # forward step of the batch-tile sketch, Triton, from instruction counts
CLUSTER_US = {32: 0.24, 64: 0.36, 128: 0.7, 192: 1.4, 256: 1.3}  # the same for the CUDA sketch
NN_US = (7.0, 10.5)  # per step of designs with two launches per step: FlashRNN's README, H100
BACKWARD = (1.4, 1.7)  # backward over forward


@dataclass(frozen=True)
class Prediction:
    """Seconds (or ``unit``) between low and high; ``high`` None means that low is a floor."""

    low: float
    high: float | None
    formula: str
    unit: str = "s"


def _copy(key: Mapping[str, Any]) -> Prediction | None:
    if key["bytes"] < 1 << 28:
        return None
    seconds = 2 * key["bytes"] / COPY
    return Prediction(seconds / 1.1, seconds * 1.1, "2 bytes / 3.0 TB/s, +-10 %")


def _matmul(key: Mapping[str, Any]) -> Prediction | None:
    if key["dtype"] != "bf16":
        return None
    m, n, k = key["m"], key["n"], key["k"]
    floor = max(2 * m * n * k / PRODUCT, 2 * (m * n + m * k + n * k) / COPY)
    return Prediction(floor, None, "max(2mnk / 790 TFLOP/s, bytes / 3.0 TB/s)")


def _launch(key: Mapping[str, Any]) -> Prediction:
    if key["graph"]:
        return Prediction(1.5e-6, 2.5e-6, "planning value per kernel in a graph")
    return Prediction(5e-6, 10e-6, "planning value per eager operator")


def _special(key: Mapping[str, Any]) -> Prediction:
    seconds = key["elements"] * key["repeats"] / SPECIAL_RATE
    return Prediction(seconds, 1.2 * seconds, "results / (16 x 132 x 1.7 GHz)")


def _barrier(key: Mapping[str, Any]) -> Prediction | None:
    clocks = 1900 if key["what"] == "group barrier" else 480
    if key["what"] == "cluster barrier" and key["method"] != "mbarrier":
        return None
    seconds = key["steps"] * clocks / CLOCK
    return Prediction(seconds / 1.4, seconds * 1.4, f"steps x {clocks} clocks, +-40 %")


def _nn(key: Mapping[str, Any]) -> Prediction | None:
    if key["dtype"] != "bf16" or key["layers"] != 1:
        return None
    if key["pass"] == "forward":
        return Prediction(key["T"] * NN_US[0] * 1e-6, key["T"] * NN_US[1] * 1e-6, "T x 7 to 10.5 us (published proxy)")
    low, high = (key["T"] * us * 1e-6 * (1 + f) for us, f in zip(NN_US, BACKWARD, strict=True))
    return Prediction(low, high, "T x 7 to 10.5 us x (1 + 1.4 to 1.7)")


def _sketch(table: Mapping[int, float]) -> Callable[[Mapping[str, Any]], Prediction | None]:
    def predict(key: Mapping[str, Any]) -> Prediction | None:
        if key["H"] not in table or key["dtype"] != "bf16":
            return None
        step = key["T"] * table[key["H"]] * 1e-6
        low, high = (step * (1 + f) for f in BACKWARD) if key["pass"] == "both" else (step, step)
        return Prediction(
            low / 1.4, high * 1.4 + 5e-6, "T x model of instructions, +-40 %, + launch; without the products"
        )

    return predict


def _head(key: Mapping[str, Any]) -> Prediction | None:
    if key["pass"] != "both":
        return None
    N, d, stored = key["N"], key["d"], -(-key["V"] // 64) * 64
    products = 6 * d * stored / PRODUCT
    if key["variant"] in TRAFFIC:
        bytes_all, exposed, rate = TRAFFIC[key["variant"]]
        traffic = bytes_all * stored / rate
        seconds = N * max(traffic, products + exposed * stored / COPY)
        text = f"max({bytes_all} B/logit, 6dV + {exposed} B/logit), +-40 %"
        return Prediction(seconds / 1.4, seconds * 1.4, text)
    if key["variant"] == "flash" and d in ISSUE_NS:
        least = max(10 * d * key["V"] / FLASH, 3 * key["V"] / SPECIAL_RATE)
        issue = ISSUE_NS[d] * 1e-9 * key["V"] / 50257
        return Prediction(N * least, N * (least + issue), "max(10dV / 620 TFLOP/s, 3 exp2 per logit), + issue")
    return None


def _step(key: Mapping[str, Any]) -> Prediction | None:
    per_logit = {"eager": 34, "graph": 34, "compiled": 12, "compiled graph": 12}.get(key["mode"])
    if per_logit is None:
        return None
    tokens = key["sequences"] * key["context"]
    floor = tokens * key["vocab"] * per_logit / COPY
    if key["arch"] == "lstm":
        floor += key["context"] * NN_US[0] * 1e-6 * (1 + BACKWARD[0])
    return Prediction(
        floor, None, f"{per_logit} B/logit of the head" + (" + recurrence" if key["arch"] == "lstm" else "")
    )


def predict(script: str, key: Mapping[str, Any]) -> Prediction | None:
    """The prediction for the median seconds of a row, or None where none was made."""
    if script == "head":
        return _head(key)
    if script == "step":
        return _step(key)
    if script == "lstm_baseline":
        sketches = {"triton tile": _sketch(TILE_US), "cuda cluster": _sketch(CLUSTER_US), "nn.LSTM": _nn}
        return sketches[key["op"]](key)
    by_what: dict[str, Callable[[Mapping[str, Any]], Prediction | None]] = {
        "copy": _copy, "matmul": _matmul, "launch": _launch, "exp2": _special, "tanh": _special,
        "group barrier": _barrier, "cluster barrier": _barrier,
    }  # fmt: skip
    made = by_what.get(str(key.get("what")))
    return made(key) if script == "ceilings" and made is not None else None
