"""Which way to compute linear + cross-entropy wins at which width.

Parts: ``main`` holds eager (with the fp32 copy that scripts make), fused in place, chunks whose logits stay in L2, flash
(logits never stored) and PyTorch's own head where it exists; ``compiled`` is eager under torch.compile, apart because
compiling takes minutes. consequences.py prints the crossover table.
"""

from __future__ import annotations

import itertools
import sys
from functools import lru_cache, partial

import head_variants as variants
import torch
from accuracy import against_plain, errors, within
from bench import Bench
from drive import Case, Measurement, Unsupported, main, need_triton
from torch import Tensor

CAP, FLOOR = 0.02, 1e-6  # floor: one fp32 ulp of a log-sum-exp of about 12
NAMES = ("loss", "dx", "dw")
FLASH_WIDEST = 256
TINY = f"chunks of {variants.TINY_CHUNK}"
CHUNKED = [name for name in variants.BOTH if name.startswith("chunks")]


@lru_cache(maxsize=1)
def problem(bench: Bench, N: int, d: int, V: int) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor], dict[str, float]]:
    """x, padded w, target, the float64 results and the errors of eager. Shared by the variants of one shape."""
    x = bench.normal(N, d, dtype=torch.bfloat16)
    w = bench.normal(-(-V // 64) * 64, d, dtype=torch.bfloat16, scale=d**-0.5)
    target = bench.integers(V, N)
    truth = dict(zip(NAMES, variants.reference(x, w, target, V), strict=True))
    plain = dict(zip(NAMES, variants.BOTH["eager"](x, w, target, V), strict=True))
    return x, w, target, truth, errors(plain, truth)


def head_case(name: str, N: int, d: int, V: int, both: bool) -> Case:
    """One variant at one shape; model FLOPs are 6 N d V (2 N d V forward), whatever the variant recomputes."""

    def measure(bench: Bench) -> Measurement:
        _check(name, d)
        run = (variants.BOTH if both else variants.FORWARD)[name]
        x, w, target, truth, plain = problem(bench, N, d, V)
        found = dict(zip(NAMES, run(x, w, target, V), strict=False))
        mine = errors(found, {key: truth[key] for key in found})
        if name == "eager":
            accuracy = within(mine, CAP, "cap on the plain version")
        else:
            accuracy = against_plain(mine, plain, CAP, FLOOR)
        del found
        facts = {"peak_bytes": _peak(lambda: run(x, w, target, V), bench), "stored_rows": len(w)}
        amount = (x.numel() + w.numel()) * x.itemsize
        inputs = [(x.clone(), w.clone(), target.clone()) for _ in range(bench.clones(amount, 8))]
        timing = bench.time([partial(run, *one, V) for one in inputs], amount)
        flops = (6 if both else 2) * N * d * V
        return Measurement(accuracy, timing, {"tokens": N, "flops": flops, "model_flops": flops}, facts)

    key = {"variant": name, "N": N, "d": d, "V": V, "dtype": "bf16", "pass": "both" if both else "forward"}
    return Case("compiled" if name == "compiled" else "main", key, measure)


def _check(name: str, d: int) -> None:
    if name.startswith(("fused", "chunks", "flash")):
        need_triton()
    if name == "flash" and d > FLASH_WIDEST:
        raise Unsupported(f"the flash sketch holds a whole row of x: widths up to {FLASH_WIDEST}")
    if name.startswith("torch") and not hasattr(torch.nn.functional, "linear_cross_entropy"):
        raise Unsupported(f"torch {torch.__version__} has no linear_cross_entropy; 2.13 has")


def _peak(run: object, bench: Bench) -> int | None:
    """Most bytes allocated beyond what was there before, over one call."""
    assert callable(run)
    if bench.device.type != "cuda":
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    torch.cuda.synchronize()
    return int(torch.cuda.max_memory_allocated() - before)


def cases(tiny: bool) -> list[Case]:
    """Every row of this script, shape by shape."""
    if tiny:
        names = [name for name in variants.BOTH if name not in CHUNKED] + [TINY]
        return [head_case(name, 12, 32, 150, True) for name in names] + [head_case("flash", 12, 32, 150, False)]
    found = []
    for V, N, d in itertools.product((50257, 8192), (8192, 32768), (32, 64, 128, 256, 512, 768)):
        found += [head_case(name, N, d, V, True) for name in variants.BOTH if name != TINY]
        found += [head_case(name, N, d, V, False) for name in variants.FORWARD]
    return found


if __name__ == "__main__":
    sys.exit(main("head.py", "Linear + cross-entropy, five ways and a peer.", cases))
