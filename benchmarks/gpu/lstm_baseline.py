"""How fast ``torch.nn.LSTM`` is by type and shape, which cuDNN kernels it ran, and two sketches beside it.

Parts: ``nn-1`` and ``nn-2`` are nn.LSTM with one and two layers; ``tile`` is the Triton sketch lstm_triton.py and ``cluster``
the CUDA sketch lstm_cluster.cu (forward only), both with one layer. All read x [T, B, H] and zero initial states. nn.LSTM
includes the product with W_ih; the sketches are timed with it (``input_product`` true) and without.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from functools import partial

import torch
from accuracy import Accuracy, against_plain, errors, within
from bench import Bench
from drive import Case, Measurement, Unsupported, main, need_triton
from lstm_problem import TYPES, Layer, Problem, kernels_of, outcome
from torch import Tensor

CAP = {"fp32": 3e-5, "tf32": 5e-3, "fp16": 5e-3, "bf16": 2e-2}  # about five times what a CPU shows in that type
FLOOR = 1e-6


def timed(bench: Bench, problem: Problem, layer: Layer, weights: Sequence[Tensor], both: bool) -> Measurement:
    """Times ``layer`` over clones of the input; accuracy is filled in by the caller."""
    T, B, H = problem.shape
    amount = (4 if both else 2) * problem.x.numel() * problem.kind.itemsize
    inputs = [problem.x.clone().requires_grad_(both) for _ in range(bench.clones(amount, 16))]

    def call(x: Tensor) -> object:
        with torch.set_grad_enabled(both):
            y = layer(x)
        return torch.autograd.grad(y, [x, *weights], problem.dy) if both else y

    timing = bench.time([partial(call, x) for x in inputs], amount)
    flops = problem.forward_flops * (3 if both else 1)
    amounts = {"flops": flops, "model_flops": flops, "tokens": T * B, "steps": T}
    return Measurement(Accuracy(), timing, amounts)


def nn_case(dtype: str, H: int, B: int, T: int, layers: int, both: bool) -> Case:
    """torch.nn.LSTM: cuDNN on a GPU."""

    def measure(bench: Bench) -> Measurement:
        _set_tf32(dtype == "tf32")
        p = Problem(bench, dtype, H, B, T, layers)
        weights = tuple(p.module.parameters())
        got = outcome(lambda x: p.module(x)[0], p.x, p.checked_dy(), weights[:4], both, p.checked)
        accuracy = within(errors(got, p.truth(both)), CAP[dtype], f"cap for {dtype}")
        result = timed(bench, p, lambda x: p.module(x)[0], weights, both)
        x = p.x.clone().requires_grad_(both)
        facts = kernels_of(lambda: _once(p.module, x, p.dy, both), bench.device)
        facts["cudnn_allow_tf32"] = torch.backends.cudnn.allow_tf32
        return Measurement(accuracy, result.timing, result.amounts, facts)

    key = {"op": "nn.LSTM", "dtype": dtype, "H": H, "B": B, "T": T, "layers": layers, "pass": _pass(both)}
    return Case(f"nn-{layers}", key, measure)


def _once(module: torch.nn.LSTM, x: Tensor, dy: Tensor, both: bool) -> None:
    with torch.set_grad_enabled(both):
        y = module(x)[0]
    if both:
        torch.autograd.grad(y, [x, *module.parameters()], dy)


def _pass(both: bool) -> str:
    return "both" if both else "forward"


def _set_tf32(on: bool) -> None:
    torch.backends.cudnn.allow_tf32 = on
    torch.backends.cuda.matmul.allow_tf32 = on


def sketch_accuracy(bench: Bench, p: Problem, layer: Layer, weights: Sequence[Tensor], both: bool) -> Accuracy:
    """A sketch on this problem against float64 and against nn.LSTM of the same type on the same device."""
    truth = p.truth(both)
    mine = outcome(layer, p.x, p.checked_dy(), weights, both, p.checked)
    plain = outcome(lambda x: p.module(x)[0], p.x, p.checked_dy(), tuple(p.module.parameters()), both, p.checked)
    return against_plain(errors(mine, truth), errors(plain, truth), CAP[p.dtype], FLOOR)


def tile_case(dtype: str, H: int, B: int, T: int, both: bool, save: bool, warps: int, input_product: bool) -> Case:
    """The batch-tile sketch in Triton."""

    def measure(bench: Bench) -> Measurement:
        need_triton()
        import lstm_triton

        _set_tf32(False)
        p = Problem(bench, dtype, H, B, T, 1)
        weights = p.weights(p.kind)
        zero = torch.zeros(B, H, dtype=p.kind, device=bench.device)
        c0 = zero.float()

        def layer(x: Tensor) -> Tensor:
            return lstm_triton.tile_lstm(x, weights, zero, c0, save, warps)[0]

        def recurrence(xg: Tensor) -> Tensor:
            return lstm_triton.TileLstm.apply(xg, weights[1], zero, c0, None, save, warps)[0]  # type: ignore[no-untyped-call]

        accuracy = sketch_accuracy(bench, p, layer, weights, both)
        if input_product:
            result = timed(bench, p, layer, weights, both)
        else:
            result = _recurrence(bench, p, recurrence, weights[1], both)
        return Measurement(accuracy, result.timing, result.amounts)

    key = {"op": "triton tile", "dtype": dtype, "H": H, "B": B, "T": T, "layers": 1, "pass": _pass(both)}
    key |= {"save_gates": save, "warps": warps, "input_product": input_product}
    return Case("tile", key, measure)


def _recurrence(bench: Bench, p: Problem, layer: Layer, w_hh: Tensor, both: bool) -> Measurement:
    """Without the product with W_ih: pre-gates are the input. Half of the FLOPs remain."""
    T, B, H = p.shape
    amount = (2 if both else 1) * 4 * p.x.numel() * p.kind.itemsize
    inputs = [bench.normal(T, B, 4 * H, dtype=p.kind).requires_grad_(both) for _ in range(bench.clones(amount, 8))]

    def call(xg: Tensor) -> object:
        with torch.set_grad_enabled(both):
            y = layer(xg)
        return torch.autograd.grad(y, [xg, w_hh], p.dy) if both else y

    timing = bench.time([partial(call, xg) for xg in inputs], amount)
    flops = p.forward_flops // 2 * (3 if both else 1)
    return Measurement(Accuracy(), timing, {"flops": flops, "model_flops": flops, "tokens": T * B, "steps": T})


def cluster_case(H: int, B: int, T: int, configuration: tuple[int, int, int], input_product: bool) -> Case:
    """The cluster sketch in CUDA C++, forward, bf16."""

    def measure(bench: Bench) -> Measurement:
        if bench.device.type != "cuda":
            raise Unsupported("clusters exist on a GPU only; the emulation checks this kernel on a CPU")
        import lstm_cluster

        p = Problem(bench, "bf16", H, B, T, 1)
        w_ih, w_hh, b_ih, b_hh = (w.detach() for w in p.weights(p.kind))
        rows = torch.arange(4 * H, device=bench.device).view(4, H).T.flatten()  # gates innermost
        w_in, bias, w = w_ih[rows].contiguous(), (b_ih + b_hh)[rows].contiguous(), lstm_cluster.interleaved(w_hh)
        h0 = torch.zeros(B, H, dtype=p.kind, device=bench.device)
        c0 = h0.float()

        def recurrence(xg: Tensor) -> Tensor:
            return lstm_cluster.forward(xg, w, h0, c0, configuration)[0]

        def layer(x: Tensor) -> Tensor:
            return recurrence(torch.nn.functional.linear(x, w_in, bias))

        accuracy = sketch_accuracy(bench, p, layer, (w_ih, w_hh, b_ih, b_hh), False)
        timer = timed(bench, p, layer, (), False) if input_product else _recurrence(bench, p, recurrence, w_hh, False)
        return Measurement(accuracy, timer.timing, timer.amounts)

    key = {"op": "cuda cluster", "dtype": "bf16", "H": H, "B": B, "T": T, "layers": 1, "pass": "forward"}
    key |= dict(zip(("cluster", "tile", "warps"), configuration, strict=True)) | {"input_product": input_product}
    return Case("cluster", key, measure)


def cases(tiny: bool) -> list[Case]:
    """Every row of this script; the shapes that decide most come first."""
    if tiny:
        return [
            nn_case("fp32", 32, 3, 5, 1, True),
            nn_case("bf16", 32, 3, 5, 2, False),
            *(tile_case("fp32", 32, 3, 3, True, save, 4, True) for save in (True, False)),
            tile_case("fp32", 32, 3, 3, False, True, 4, False),
            cluster_case(64, 4, 4, (1, 8, 4), True),
        ]
    found = []
    for layers, T, B, H in itertools.product((1, 2), (512, 128), (64, 16, 128, 512), (32, 64, 128, 256, 512, 1024)):
        for dtype, both in itertools.product(("bf16", "fp16", "tf32", "fp32"), (False, True)):
            found.append(nn_case(dtype, H, B, T, layers, both))
    found += [nn_case(dtype, H, 64, 512, 1, both) for H in (192, 768) for dtype in TYPES for both in (False, True)]
    for T, B, H, both in itertools.product((512, 128), (64, 16, 128, 512), (32, 64, 128), (False, True)):
        for save, warps in itertools.product((False, True), (4, 8)):
            found.append(tile_case("bf16", H, B, T, both, save, warps, True))
    found += [tile_case("bf16", H, 64, 512, both, False, 4, False) for H in (32, 64, 128) for both in (False, True)]
    found += [tile_case("fp16", H, 64, 512, both, False, 4, True) for H in (32, 64, 128) for both in (False, True)]
    from lstm_cluster import CONFIGURATIONS

    for H, configurations in CONFIGURATIONS.items():
        for T, B, configuration in itertools.product((512, 128), (64, 16, 128, 512), configurations):
            found.append(cluster_case(H, B, T, configuration, True))
        found += [cluster_case(H, 64, 512, configuration, False) for configuration in configurations]
    return found


if __name__ == "__main__":
    sys.exit(main("lstm_baseline.py", "torch.nn.LSTM by type and shape, and two sketches beside it.", cases))
