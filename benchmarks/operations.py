"""The package's operations against eager PyTorch, torch.compile and peers, forward and with the backward pass.

Parts: ``plain`` has every way but ``compiled``, which is a part of its own, since compiling takes minutes; ``adamw`` is the
optimiser's step. On a CPU (``--device cpu --tiny``) the reference runs against eager: it shows that the suite works, and that
the reference costs no more than what it replaces; the seconds of a CPU are no claim.
"""

from __future__ import annotations

import hashlib
import itertools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import operation_variants as variants  # first: it finds the harness in gpu/
import torch  # isort: split

from accuracy import Accuracy, against_plain, relative_error, within
from bench import Bench
from drive import Case, Measurement, Unsupported, main
from operation_variants import ROOT, Plain, Problem
from timing import Timing
from torch import Tensor

CAP = {torch.float32: 1e-5, torch.bfloat16: 0.02}
FLOOR = {torch.float32: 2.0**-23, torch.bfloat16: 4e-4}  # one unit in the last place; a tenth of one rounding
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
Step = Callable[[], object]


def kernel_source() -> str:
    """16 hex digits over every file of ``kernels/`` and the problems: part of a row's identity."""
    digest = hashlib.sha256()
    for path in [*sorted((ROOT / "kernels").rglob("*.py")), Path(variants.__file__)]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _arguments(problem: Problem, dtype: torch.dtype | None, both: bool) -> tuple[tuple[Any, ...], list[Tensor]]:
    """Fresh copies of the inputs, floating ones in ``dtype`` if given, and those that get gradients."""
    made: list[Any] = []
    for x in problem.inputs:
        if isinstance(x, Tensor):
            x = x.detach().to(dtype or x.dtype, copy=True).requires_grad_(both)
        made.append(x.value.clone() if isinstance(x, Plain) else x)
    return tuple(made), [x for x in made if isinstance(x, Tensor) and x.requires_grad]


def _call(
    function: Callable[..., Any], arguments: tuple[Any, ...], leaves: list[Tensor], upstream: list[Tensor]
) -> list[Tensor]:
    """Outputs, and with leaves their gradients."""
    found = function(*arguments)
    outputs = list(found) if isinstance(found, tuple) else [found]
    if not leaves:
        return outputs
    for i, out in enumerate(outputs[len(upstream) :], len(upstream)):
        generator = torch.Generator(out.device).manual_seed(i)
        upstream.append(torch.randn(out.shape, device=out.device, generator=generator))
    given = [u.to(out.dtype) for u, out in zip(upstream, outputs, strict=True)]
    return [*(out.detach() for out in outputs), *torch.autograd.grad(outputs, leaves, given)]


def _errors(got: list[Tensor], want: list[Tensor]) -> dict[str, float]:
    return {str(i): relative_error(a, b) for i, (a, b) in enumerate(zip(got, want, strict=True))}


@dataclass(frozen=True)
class Prepared:
    """Calls that do the same work on clones of the inputs of ``size`` bytes, and how right the first of them is."""

    accuracy: Accuracy
    steps: list[Step]
    size: int
    work: dict[str, float]


def prepare(bench: Bench, op: str, way: str, rows: int, width: int, kind: str, both: bool) -> Prepared:
    """Inputs, accuracy against float64, and calls to time."""
    dtype = TYPES[kind]
    problem = variants.PROBLEMS[op](bench, rows, width, dtype)
    function, eager = (problem.ways[name](bench, dtype) for name in (way, "eager"))
    upstream: list[Tensor] = []
    _call(eager, *_arguments(problem, None, both), upstream)
    upstream[:] = [u.to(dtype) for u in upstream]  # rounded, so that every way and the exact one get the same
    exact = _call(eager, *_arguments(problem, torch.float64, both), upstream)
    plain = _errors(_call(eager, *_arguments(problem, None, both), upstream), exact)
    if way == "eager":
        accuracy = within(plain, CAP[dtype], "cap on the plain version")
    else:
        mine = _errors(_call(function, *_arguments(problem, None, both), upstream), exact)
        accuracy = against_plain(mine, plain, CAP[dtype], FLOOR[dtype])
    del exact
    size = sum(x.numel() * x.element_size() for x in problem.inputs if isinstance(x, Tensor))
    copies = [_arguments(problem, None, both) for _ in range(bench.clones(size))]
    work = {name: amounts[both] for name, amounts in problem.work.items()}
    return Prepared(accuracy, [partial(_call, function, *copy, upstream) for copy in copies], size, work)


def timed(bench: Bench, steps: list[Step], size: int) -> Timing:
    """Seconds per call, with every kernel compiled before: a compilation inside the timed region is a fault of the harness."""
    variants.kernels.warm_up(*steps)
    with variants.kernels.compilations() as late:
        timing = bench.time(steps, size)
    if late:
        raise RuntimeError(f"compiled while timed: {', '.join(late)}")
    return timing


def operation_case(op: str, way: str, rows: int, width: int, kind: str, both: bool, source: str) -> Case:
    """One way to compute one operation at one shape."""

    def measure(bench: Bench) -> Measurement:
        made = prepare(bench, op, way, rows, width, kind, both)
        facts = {"backend": _backend(op, way, bench, TYPES[kind])}
        return Measurement(made.accuracy, timed(bench, made.steps, made.size), {"tokens": rows, **made.work}, facts)

    key = {"op": op, "variant": way, "rows": rows, "width": width, "dtype": kind,
           "pass": "both" if both else "forward", "kernels": source}  # fmt: skip
    return Case("compiled" if way == "compiled" else "plain", key, measure)


def _backend(op: str, way: str, bench: Bench, dtype: torch.dtype) -> str | None:
    """Why this implementation was chosen, as the package itself says it."""
    if way != "fused":
        return None
    choices = variants.kernels.select("fused", bench.device, dtype).choices
    return next(choice.reason for choice in choices if choice.op == op)


def adamw_case(way: str, elements: int, source: str) -> Case:
    """One step over ``elements`` weights in twelve parameters, clipping included."""

    def measure(bench: Bench) -> Measurement:
        update = variants.kernels.REFERENCE.adamw_
        if way == "fused":
            if bench.device.type != "cuda":
                raise Unsupported("fused kernels need a GPU; the interpreter's speed says nothing")
            update = variants.kernels.select("fused", bench.device, torch.float32).adamw_
        weights = [bench.normal(elements // 12, scale=0.02) for _ in range(12)]
        gradients = [bench.normal(elements // 12, scale=0.01) for _ in range(12)]
        how: dict[str, Any] = {"lr": 1e-3, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}

        def build(kind: str, dtype: torch.dtype) -> tuple[list[Tensor], Step]:
            params = [w.to(dtype, copy=True).requires_grad_() for w in weights]
            for p, g in zip(params, gradients, strict=True):
                p.grad = g.to(dtype, copy=True)
            if kind in ("reference", "fused"):
                flat = variants.kernels.FlatAdamW(params, **how, max_norm=1.0, update=update)
                return params, flat.step
            own = torch.optim.AdamW(params, **how, capturable=bench.device.type == "cuda", fused=kind == "torch fused")

            def step() -> None:
                torch.nn.utils.clip_grad_norm_(params, 1.0)
                own.step()

            return params, step

        results = {}
        for name, kind in (("exact", "eager"), ("plain", "eager"), ("own", way)):
            dtype = torch.float64 if name == "exact" else torch.float32
            params, step = build(kind, dtype)
            for _ in range(10):
                step()
            results[name] = torch.cat([p.detach() for p in params])
        plain, mine = (relative_error(results[name], results["exact"]) for name in ("plain", "own"))
        cap, floor = CAP[torch.float32], 2.0**-24
        accuracy: Accuracy = (
            within({"weights": plain}, cap, "cap on the plain version")
            if way == "eager"
            else against_plain({"weights": mine}, {"weights": plain}, cap, floor)
        )
        size = 16 * elements
        timing = timed(bench, [build(way, torch.float32)[1] for _ in range(bench.clones(size, 16))], size)
        return Measurement(accuracy, timing, {"bytes": 32.0 * elements})

    return Case("adamw", {"op": "adamw_", "variant": way, "elements": elements, "kernels": source}, measure)


def cases(tiny: bool) -> list[Case]:
    """Every row of this script."""
    source = kernel_source()
    if tiny:
        found = [
            operation_case(op, way, 64, 32, kind, both, source)
            for op, kind, both in itertools.product(variants.PROBLEMS, TYPES, (False, True))
            for way in ("eager", "reference")
        ]
        return found + [adamw_case(way, 12 * 300, source) for way in ("eager", "torch fused", "reference")]
    found = []
    for rows, width in itertools.product((8192, 65536), (64, 128, 256, 512, 1024)):
        for op, both in itertools.product(variants.PROBLEMS, (False, True)):
            if op != "linear_cross_entropy" or rows == 8192:  # eager alone stores 13 GB of logits at 65,536 rows
                found += [operation_case(op, way, rows, width, "bf16", both, source) for way in variants.WAYS[op]]
    sizes = [12 * n for n in (2**14, 2**18, 2**20, 2**22)]
    return found + [adamw_case(way, n, source) for n in sizes for way in ("eager", "torch fused", "reference", "fused")]


if __name__ == "__main__":
    sys.exit(main("../operations.py", "The package's operations, eager, compiled, fused and peers.", cases))
