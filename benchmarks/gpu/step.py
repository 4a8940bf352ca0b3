"""Tokens per second of whole training steps: three architectures, plain PyTorch, four ways to execute, several runs at once.

Parts: ``eager`` (operators one by one), ``graph`` (the whole step as one CUDA graph, with and without deterministic
algorithms), ``compiled`` (torch.compile, alone and captured; compiling takes minutes) and ``streams`` (1, 2, 4, 8 captured runs
on streams of their own, each of which must equal its solo run bit for bit). MFU counts causal scores by visible pairs.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Sequence

import torch
from accuracy import Accuracy, Check, against_plain, errors, within
from bench import Bench
from drive import Case, Measurement, main
from step_models import ARCHITECTURES
from step_run import Run

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is repeatable only with a fixed workspace

CAP, FLOOR = 0.05, 1e-6  # the gradient of a bf16 step of up to 16 layers against float64
Shape = tuple[int, int, int]
STEPS = 3
ROUND = 10  # replays of every run between two events


def _deterministic(on: bool) -> None:
    torch.use_deterministic_algorithms(on, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _differing(left: list[torch.Tensor], right: list[torch.Tensor]) -> int:
    return sum(not torch.equal(a, b) for a, b in zip(left, right, strict=True))


def step_case(arch: str, width: int, shape: Shape, mode: str, deterministic: bool) -> Case:
    """One way to execute one architecture's step."""

    def measure(bench: Bench) -> Measurement:
        _deterministic(deterministic)
        run = Run(bench, arch, width, shape, seed=1)
        truth, plain = run.truth(), run.results(run.step)
        eager, again = run.after(run.step, STEPS), run.after(run.step, STEPS)
        facts: dict[str, object] = {"eager_repeats_bitwise": _differing(eager, again) == 0, "graph_breaks": None}
        if mode.startswith("compiled"):
            run.compile()
            run.step()
            facts["graph_breaks"] = sum(torch._dynamo.utils.counters["graph_break"].values())
        step = run.capture() if mode.endswith("graph") else run.step
        if mode == "eager":
            accuracy = within(errors(plain, truth), CAP, "cap on the plain version")
        else:
            accuracy = against_plain(errors(run.results(step), truth), errors(plain, truth), CAP, FLOOR)
        facts["equals_eager_bitwise"] = _differing(run.after(step, STEPS), eager) == 0
        sequences, context, _ = shape
        amounts = {"tokens": sequences * context, "steps": 1}
        amounts["flops"] = amounts["model_flops"] = run.model.training_flops(sequences, context)
        return Measurement(accuracy, bench.time([step], graph=False), amounts, facts)

    key = {"arch": arch, "width": width, "mode": mode, "deterministic": deterministic, **_named(shape)}
    return Case("compiled" if mode.startswith("compiled") else mode, key, measure)


def _named(shape: Shape) -> dict[str, int]:
    return dict(zip(("sequences", "context", "vocab"), shape, strict=True))


def streams_case(arch: str, width: int, shape: Shape, runs: int) -> Case:
    """``runs`` captured runs with seeds of their own, replayed on streams of their own."""

    def measure(bench: Bench) -> Measurement:
        _deterministic(True)
        members = [Run(bench, arch, width, shape, seed) for seed in range(runs)]
        truth, plain = members[0].truth(), members[0].results(members[0].step)
        replays = [member.capture() for member in members]
        mine = errors(members[0].results(replays[0]), truth)
        solo = [member.after(replay, ROUND) for member, replay in zip(members, replays, strict=True)]
        for member in members:
            member.rewind()
        _together(members, replays)
        _wait(bench)
        different = sum(
            _differing([p.detach() for p in m.parameters], s) > 0 for m, s in zip(members, solo, strict=True)
        )
        identical = Check("runs that differ from their solo run", float(different), 0.0, "must be exact")
        accuracy = Accuracy((identical, *against_plain(mine, errors(plain, truth), CAP, FLOOR).checks))
        timing = bench.time([lambda: _together(members, replays)], graph=False)
        sequences, context, _ = shape
        flops = runs * ROUND * members[0].model.training_flops(sequences, context)
        amounts = {"tokens": runs * ROUND * sequences * context, "flops": flops, "model_flops": flops}
        return Measurement(accuracy, timing, amounts | {"steps": runs * ROUND})

    key = {"arch": arch, "width": width, "mode": "streams", "runs": runs, "deterministic": True, **_named(shape)}
    return Case("streams", key, measure)


def _together(members: list[Run], replays: Sequence[Callable[[], object]]) -> None:
    """``ROUND`` replays of every run, in turn from one host thread; the current stream waits for all of them."""
    for member in members:
        if member.stream is not None:
            member.stream.wait_stream(torch.cuda.current_stream())
    for _ in range(ROUND):
        for member, replay in zip(members, replays, strict=True):
            if member.stream is None:
                replay()
            else:
                with torch.cuda.stream(member.stream):
                    replay()
    for member in members:
        if member.stream is not None:
            torch.cuda.current_stream().wait_stream(member.stream)


def _wait(bench: Bench) -> None:
    if bench.device.type == "cuda":
        torch.cuda.synchronize()


def cases(tiny: bool) -> list[Case]:
    """Every row of this script."""
    if tiny:
        small = (2, 32, 96)
        found = [step_case(arch, 32, small, mode, False) for arch in ARCHITECTURES for mode in ("eager", "graph")]
        return [*found, streams_case("lstm", 32, small, 2), step_case("modern", 32, small, "compiled", False)]
    first, second = (64, 128, 50257), (256, 128, 50257)
    grid = list(itertools.product((first, second), (32, 64, 128, 256), ARCHITECTURES))
    found = [step_case(arch, width, shape, "eager", False) for shape, width, arch in grid]
    found += [step_case(a, width, shape, "graph", on) for on in (False, True) for shape, width, a in grid]
    found += [
        streams_case(arch, width, first, runs)
        for width, arch, runs in itertools.product((32, 64, 128, 256), ARCHITECTURES, (1, 2, 4, 8))
    ]
    modes = ("compiled", "compiled graph")
    return found + [step_case(a, width, shape, mode, False) for shape, width, a in grid for mode in modes]


if __name__ == "__main__":
    sys.exit(main("step.py", "Whole training steps in plain PyTorch.", cases))
