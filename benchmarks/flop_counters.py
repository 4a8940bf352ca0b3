"""The tables of docs/flops.md: every architecture and width, in every convention and under every FLOP counter.

    python benchmarks/flop_counters.py            # prints the tables
    python benchmarks/flop_counters.py --write    # puts them into docs/flops.md

A real training step of one sequence runs on the CPU. Models above 200 million parameters run on fake tensors, which choose the
same kernels and compute nothing; only counters of dispatched operations can read those (others see the shape inference behind
them too). Presets of equal FLOPs share a row. Counters that are not installed leave their column empty.
"""

from __future__ import annotations

import argparse
import functools
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from algoprog.config import RunConfig
from algoprog.flops.compare import Row, side_by_side
from algoprog.flops.conventions import CONVENTIONS, DEFAULT
from algoprog.flops.peers import Step, calflops, count_apart, deepspeed, flop_counter_mode, fvcore, profiler, silenced
from algoprog.models import build_skeleton
from algoprog.recipes import preset_names
from algoprog.training.counting import Counted, count, make_step, watch

PAGE = Path(__file__).parents[1] / "docs" / "flops.md"
BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"
WIDTHS = (32, 64, 128, 256, 512, 1024)
LARGEST_REAL_MODEL = 200_000_000  # parameters
VOCABULARY = 50257
COUNTERS = ("dispatch", "FlopCounterMode", "torch.profiler", "deepspeed", "fvcore", "calflops")


def distinct(width: int) -> dict[str, Counted]:
    """Presets by name, those of equal FLOP facts joined."""
    found: dict[str, Counted] = {}
    for arch in preset_names():
        counted = count(arch, width, None, VOCABULARY, [])
        twin = next((name for name, other in found.items() if other.facts == counted.facts), None)
        if twin is None:
            found[arch] = counted
        else:
            found[f"{twin}, {arch}"] = found.pop(twin)
    return dict(sorted(found.items()))


def fake_step(config: RunConfig) -> Step:
    """A step of one sequence without values."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        tokens = torch.zeros(1, config.model.context, dtype=torch.int64)
        return Step(build_skeleton(config.model), tokens, tokens)


def is_real(counted: Counted) -> bool:
    """Whether a step is run on real tensors."""
    return counted.facts.params <= LARGEST_REAL_MODEL


def measure(cases: Sequence[Counted]) -> list[list[Row]]:
    """All counters on one step of every case: ours and PyTorch's here, each other one in a process of its own."""
    watched, peers = [], []
    for case in cases:
        step = (make_step if is_real(case) else fake_step)(case.config)
        watched.append(watch(step))
        able = (flop_counter_mode, profiler) if is_real(case) else (flop_counter_mode,)
        peers.append([silenced(counter, step) for counter in able])
        print(f"{case.config.arch} at width {case.config.model.width}", file=sys.stderr, flush=True)
    real = [number for number, case in enumerate(cases) if is_real(case)]
    for peer in (deepspeed, fvcore, calflops):
        makers = [functools.partial(make_step, cases[number].config) for number in real]
        for number, found in zip(real, count_apart(peer, makers), strict=True):
            peers[number].append(found)
        print(f"{peer.__name__} is done", file=sys.stderr, flush=True)
    return [
        side_by_side(case.facts.count, seen, found) for case, seen, found in zip(cases, watched, peers, strict=True)
    ]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, numbers to the right."""
    rule = ["---", *("---:" for _ in header[1:])]
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, rule, *rows))


def tables() -> str:
    """Both tables and a line that says where they were made."""
    conventions, counters, versions, unexplained = [], [], {}, 0
    cases = [(name, counted) for width in WIDTHS for name, counted in distinct(width).items()]
    for (name, counted), found in zip(cases, measure([counted for _, counted in cases]), strict=True):
        values, model = counted.conventions, counted.config.model
        shape = [name, f"{model.width}", f"{model.depth}"]
        exact = values[DEFAULT]
        ratios = [f"{values[other] / exact:.3f}" for other in CONVENTIONS if other != DEFAULT]
        conventions.append([*shape, f"{counted.facts.params:,}", f"{exact:,}", *ratios])
        rows = {row.counter: row for row in found}
        versions |= {row.counter: row.version for row in found if row.version}
        unexplained += sum(abs(row.unexplained) for row in found)
        cells = [rows.get(counter) for counter in COUNTERS]
        counters.append([*shape, *("" if row is None or row.ratio is None else f"{row.ratio:.4f}" for row in cells)])
    made = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    context = f"vocabulary {VOCABULARY:,}, sequences of 128 tokens"
    others = [name for name in CONVENTIONS if name != DEFAULT]
    return "\n\n".join(
        [
            f"Exact FLOPs per token and ratios of the other conventions to them ({context}):",
            table(["presets", "width", "depth", "parameters", DEFAULT, *others], conventions),
            "What counters report for one training step, as a ratio to the exact count:",
            table(["presets", "width", "depth", *COUNTERS], counters),
            f"FLOPs that no reason explains, summed over all rows and counters: {unexplained}. "
            f"Counted on {platform.machine()} with {made}; models above {LARGEST_REAL_MODEL // 10**6} million parameters "
            "on fake tensors, which the other counters cannot read.",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"replace the tables in {PAGE.name}")
    arguments = parser.parse_args()
    text = tables()
    if not arguments.write:
        print(text)
        return
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
