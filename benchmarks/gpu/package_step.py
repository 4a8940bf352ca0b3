"""Training steps of the package itself beside plain PyTorch, eager, captured and compiled: tokens per second, MFU, parts.

One row per architecture and width, from ``algoprog bench step``; the row is right if all ways compute the same losses. Needs
the package's dependencies. Parts: ``widths``, and ``gpt2``, a model of that size beside published figures.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from accuracy import Accuracy, Check
from bench import Bench
from drive import Case, Measurement, Unsupported, main

ROOT = Path(__file__).resolve().parents[2]
STUDY = {"tokenizer": "gpt2", "batch": 64, "context": 128, "precision": "bf16"}


def step_case(part: str, **settings: Any) -> Case:
    """One problem in every way."""

    def measure(bench: Bench) -> Measurement:
        if str(ROOT) not in sys.path:
            sys.path.append(str(ROOT))
        try:
            from algoprog.bench.step import LOSS_TOLERANCE, Settings, step
        except ImportError as error:
            raise Unsupported(f"the package cannot be imported: {error}") from None
        listed = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
        found = step(Settings(**listed))
        checks = [
            Check(
                f"losses of {row['way']}", row["loss_difference"], LOSS_TOLERANCE[row["precision"]], "relative to ours"
            )
            for row in found["rows"]
            if row["reason"] is None
        ]
        facts = {name: found[name] for name in ("rows", "parts")}
        return Measurement(Accuracy(tuple(checks)), facts=facts)

    return Case(part, settings, measure)


def cases(tiny: bool) -> list[Case]:
    """Every row of this script."""
    if tiny:
        small = {"tokenizer": "bpe-300", "batch": 2, "context": 32, "rounds": 2, "compiled": False}
        return [step_case("widths", archs=[arch], widths=[16], **small) for arch in ("modern", "lstm")]
    found = [
        step_case("widths", archs=[arch], widths=[width], compiled=True, **STUDY)
        for width in (64, 128, 256, 32, 512, 1024)
        for arch in ("modern", "lstm", "retro")
    ]
    return [*found, step_case("gpt2", archs=[], widths=[32], compiled=True, gpt2=True, precision="bf16")]


if __name__ == "__main__":
    sys.exit(main("package_step.py", "Whole training steps of the package beside plain PyTorch.", cases))
