"""FLOPs of one training step from hardware counters, beside the analytic count.

Nsight Compute counts the operations of the tensor cores and the fp32 instructions elsewhere, kernel by kernel. What a counter
means is checked first on a product whose FLOPs are known; only then are counts of steps reported. Independent of hardware,
the operators of the same step are counted on the meta device and must agree with the formula to the last FLOP.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import ncu
import torch
from accuracy import Accuracy, Check
from bench import Bench
from drive import Case, Measurement, Unsupported, main
from step_models import ARCHITECTURES, BPTT, Model

SIDE = 4096
TOLERANCE = 0.02  # tiles that overhang the edge of a product are counted by the hardware
SHAPE = (64, 128, 50304)  # sequences, context, vocabulary; a multiple of 64, so that the head has no overhang


def operator_flops(arch: str, width: int, shape: tuple[int, int, int]) -> int:
    """Training FLOPs by PyTorch's operator counter, on the meta device with unfused attention."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    sequences, context, vocab = shape
    with torch.device("meta"):
        model = Model(arch, width, vocab, context, torch.float32)
        tokens = torch.zeros(sequences, context, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        torch.autograd.grad(model(tokens, tokens), list(model.parameters()))
    return int(counter.get_total_flops())


def expected_operator_flops(arch: str, width: int, shape: tuple[int, int, int], analytic: int) -> int:
    """The analytic count in the counter's terms: T x T scores; no gradient into the first state of a window."""
    sequences, context, _ = shape
    if arch == "lstm":
        return analytic - (context // BPTT) * 2 * sequences * 4 * width * width
    hidden_pairs = context * context - context * (context + 1) // 2
    return analytic + 3 * (width // 16) * 4 * width * hidden_pairs * sequences


@cache
def calibration(dtype: str) -> Check:
    """Counted over known FLOPs of one product of this type, less one."""
    counted, _ = ncu.count(_payload("product", dtype, SIDE))
    found = counted["tensor" if dtype == "bf16" else "fp32"] / (2 * SIDE**3)
    return Check(f"counter on a {dtype} product", abs(found - 1), TOLERANCE, f"2 x {SIDE}^3 FLOPs are known")


def _payload(*arguments: object) -> list[str]:
    return [sys.executable, str(Path(__file__).resolve()), "--payload", *map(str, arguments)]


def product_case(dtype: str) -> Case:
    """What the counters say about a product of known FLOPs."""

    def measure(bench: Bench) -> Measurement:
        if bench.device.type != "cuda":
            raise Unsupported("hardware counters need a GPU")
        check = calibration(dtype)
        return Measurement(Accuracy((check,)), facts={"known_flops": 2 * SIDE**3, "relative_error": check.error})

    return Case("counters", {"what": "product", "dtype": dtype, "side": SIDE}, measure)


def step_case(arch: str, width: int, shape: tuple[int, int, int]) -> Case:
    """Counted FLOPs of one eager bf16 step beside the analytic ones."""

    def measure(bench: Bench) -> Measurement:
        sequences, context, vocab = shape
        analytic = Model(arch, width, vocab, context, torch.float32).training_flops(sequences, context)
        operators = operator_flops(arch, width, shape)
        expected = expected_operator_flops(arch, width, shape, analytic)
        checks = [Check("operators minus formula, FLOPs", float(abs(operators - expected)), 0.0, "must be exact")]
        facts: dict[str, object] = {
            "analytic_flops": analytic,
            "operator_flops": operators,
            "counted": None,
            "why": None,
        }
        if bench.device.type == "cuda":
            checks.append(calibration("bf16"))
            counted, kernels = ncu.count(_payload("step", arch, width, *shape))
            if checks[-1].passed:
                facts["counted"] = counted | {"kernels": kernels, "tensor_over_analytic": counted["tensor"] / analytic}
        else:
            facts["why"] = "hardware counters need a GPU"
        return Measurement(Accuracy(tuple(checks)), facts=facts)

    key = {"what": "step", "arch": arch, "width": width}
    key |= dict(zip(("sequences", "context", "vocab"), shape, strict=True))
    return Case("counters", key, measure)


def cases(tiny: bool) -> list[Case]:
    """Products first: they say whether the counters can be believed."""
    shape = (2, 64, 96) if tiny else SHAPE
    widths = (32,) if tiny else (64, 128)
    found = [product_case(dtype) for dtype in ("bf16", "fp32")]
    return found + [step_case(arch, width, shape) for width in widths for arch in ARCHITECTURES]


def payload(what: str, *arguments: str) -> None:
    """Runs in the process that ncu watches: the work once to warm up, then once between the profiler's marks."""
    if what == "product":
        kind = torch.bfloat16 if arguments[0] == "bf16" else torch.float32
        a, b = (torch.randn(SIDE, SIDE, device="cuda").to(kind) for _ in range(2))

        def work() -> object:
            return a @ b
    else:
        from step_run import Run

        arch, width, *shape = arguments
        sequences, context, vocab = map(int, shape)
        run = Run(Bench("cuda", False), arch, int(width), (sequences, context, vocab), seed=1)
        work = run.step
    work()
    torch.cuda.synchronize()
    torch.cuda.profiler.start()  # type: ignore[no-untyped-call]
    work()
    torch.cuda.synchronize()
    torch.cuda.profiler.stop()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--payload"]:
        payload(*sys.argv[2:])
        sys.exit(0)
    sys.exit(main("counters.py", "FLOPs of one step from hardware counters.", cases))
