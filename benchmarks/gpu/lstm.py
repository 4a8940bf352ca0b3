"""Which kernel of the package's LSTM is fastest at which width and batch, each held to float64.

The public operation ``algoprog.kernels.lstm.lstm`` is timed forward and with the backward pass, input product included, once
per kernel that it can be asked for. ``--write-table`` turns the rows of this device into ``kernels/lstm_rows.py``, by which the
operation then chooses. Parts: one per storage type.
"""

from __future__ import annotations

import importlib
import itertools
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import rows
import torch
from accuracy import against_plain, errors, within
from bench import Bench
from drive import Case, Measurement, Unsupported, main
from lstm_problem import TYPES, Layer, Problem, outcome
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
KERNELS = ("library", "tile", "group", "cluster")
CAP = {"fp32": 3e-5, "fp16": 5e-3, "bf16": 2e-2}
FLOOR = 1e-6
NAMES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
WRITE = "--write-table"


def operation() -> Any:
    """The module ``algoprog.kernels.lstm`` of this checkout.

    Raises:
        Unsupported: it, or what it needs, is not there.
    """
    if str(ROOT) not in sys.path:
        sys.path.append(str(ROOT))
    try:
        return importlib.import_module("algoprog.kernels.lstm")  # the package has a function of that name
    except ImportError as error:
        raise Unsupported(f"the package's LSTM cannot be imported: {error}") from None


def layer_of(module: Any, p: Problem, weights: Sequence[Tensor], kernel: str) -> Layer:
    """x [T, B, H] -> y [T, B, H] by one kernel. The operation takes the batch first."""
    _, B, H = p.shape
    zero = torch.zeros(1, B, H, dtype=p.kind, device=p.x.device)
    w_ih, w_hh, b_ih, b_hh = weights

    def layer(x: Tensor) -> Tensor:
        y = module.lstm(x.transpose(0, 1), (zero, zero), (w_ih, w_hh), (b_ih, b_hh), kernel=kernel)[0]
        return y.transpose(0, 1)

    return layer


def kernel_case(kernel: str, dtype: str, H: int, B: int, T: int, both: bool) -> Case:
    """One kernel at one shape. The accuracy of all is that of the library's own rounding."""

    def measure(bench: Bench) -> Measurement:
        module = operation()
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        obstacle = module.why_not(kernel, H, TYPES[dtype], bench.device, False)
        if obstacle is not None:
            raise Unsupported(obstacle)
        p = Problem(bench, dtype, H, B, T, 1)
        weights = p.weights(p.kind)
        truth = p.truth(both)
        found = {
            name: errors(
                outcome(layer_of(module, p, weights, name), p.x, p.checked_dy(), weights, both, p.checked), truth
            )
            for name in {"library", kernel}
        }
        if kernel == "library":
            accuracy = within(found[kernel], CAP[dtype], f"cap for {dtype}")
        else:
            accuracy = against_plain(found[kernel], found["library"], CAP[dtype], FLOOR)
        amount = (4 if both else 2) * p.x.numel() * p.kind.itemsize
        inputs = [p.x.clone().requires_grad_(both) for _ in range(bench.clones(amount, 16))]
        call = partial(_call, layer_of(module, p, weights, kernel), weights, p.dy, both)
        timing = bench.time([partial(call, x) for x in inputs], amount)
        flops = p.forward_flops * (3 if both else 1)
        return Measurement(accuracy, timing, {"flops": flops, "model_flops": flops, "tokens": T * B, "steps": T})

    key = {"op": "algoprog lstm", "kernel": kernel, "dtype": dtype, "H": H, "B": B, "T": T}
    return Case(dtype, key | {"pass": "both" if both else "forward"}, measure)


def _call(layer: Layer, weights: Sequence[Tensor], dy: Tensor, both: bool, x: Tensor) -> object:
    with torch.set_grad_enabled(both):
        y = layer(x)
    return torch.autograd.grad(y, [x, *weights], dy) if both else y


def table_rows(found: Iterable[Mapping[str, Any]]) -> list[Any]:
    """Rows of the dispatch table from rows of this script: right ones of a GPU at full size, both passes; the newest of
    each case, and of several lengths the longest."""
    module = operation()
    newest: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for row in found:
        key = row["key"]
        if row["status"] != "measured" or row["tiny"] or row["device"]["name"] == "cpu" or key["pass"] != "both":
            continue
        case = (row["device"]["name"], key["dtype"], key["H"], key["B"], key["kernel"])
        before = newest.get(case)
        if before is None or (before["key"]["T"], before["utc"]) <= (key["T"], row["utc"]):
            newest[case] = row
    return [
        module.lstm_table.Row(
            device, NAMES[dtype], H, B, kernel, *(1e6 * row[name] / row["key"]["T"] for name in ("median_s", "iqr_s"))
        )
        for (device, dtype, H, B, kernel), row in newest.items()
    ]


def write_table(folder: Path, path: Path | None = None) -> int:
    """Write ``kernels/lstm_rows.py`` (or ``path``) from the rows in ``folder``; returns how many there are."""
    made = table_rows(rows.RowFile(folder / "lstm.jsonl").rows)
    operation().lstm_table.write(made, path)
    return len(made)


def cases(tiny: bool) -> list[Case]:
    """Every row of this script; the shapes that are trained most come first."""
    if tiny:
        return [kernel_case(kernel, "fp32", 32, 3, 5, both) for kernel in ("library", "tile") for both in (False, True)]
    shapes = list(itertools.product((512, 128), (64, 16, 128, 512), (32, 64, 128, 256, 512, 1024), (True, False)))
    return [
        kernel_case(kernel, dtype, H, B, T, both)
        for dtype in ("bf16", "fp32", "fp16")
        for T, B, H, both in shapes
        for kernel in KERNELS
    ]


if __name__ == "__main__":
    if WRITE in sys.argv:
        print(f"{write_table(rows.RESULTS)} rows written to the dispatch table")
        sys.exit(0)
    sys.exit(main("lstm.py", "The package's LSTM by kernel, type and shape.", cases))
