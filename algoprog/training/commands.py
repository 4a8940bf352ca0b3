"""What `algoprog train` does: settings in, a record out."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from algoprog.config import BudgetConfig, InputError, RunConfig, parse, tokenizer_vocabulary
from algoprog.recipes import parse_settings, resolve

DEFAULT_BUDGET = {"tokens_per_param": 20.0}
LINE_EVERY_S = 2.0
SAME_REQUEST_S = 1.0


def resolve_precision(name: str) -> Literal["fp32", "bf16"]:
    """``auto`` is bf16 on a GPU and fp32 on a CPU.

    Raises:
        InputError: the name is none of auto, fp32, bf16.
    """
    if name == "fp32":
        return "fp32"
    if name == "bf16":
        return "bf16"
    if name != "auto":
        raise InputError("unknown precision", where="--precision", got=name, expected="auto, fp32 or bf16")
    import torch

    return "bf16" if torch.cuda.is_available() else "fp32"


def configure(
    arch: str,
    width: int,
    budget: Mapping[str, str | None],
    data: Mapping[str, str],
    lr: float | None,
    seed: int,
    precision: str,
    settings: list[str],
) -> RunConfig:
    """The run that the options of `algoprog train` describe.

    Raises:
        InputError: see :func:`algoprog.recipes.resolve`.
    """
    tokenizer_vocabulary(data["tokenizer"])
    given = {name: value for name, value in budget.items() if value is not None} or DEFAULT_BUDGET
    return resolve(
        arch,
        width,
        parse(BudgetConfig, given, "budget"),
        data=data,
        lr=lr,
        seed=seed,
        precision=resolve_precision(precision),
        overrides=parse_settings(settings),
        where="train",
    )


def train(
    config: RunConfig,
    engine: str | None,
    out: Path | None,
    kernels: str = "auto",
    deepspeed: str | None = None,
    micro_batch: int | None = None,
    recompute: str = "none",
    deterministic: bool | None = None,
    execution: str = "auto",
    halve: bool = False,
) -> dict[str, Any] | None:
    """Train in a folder; the first SIGTERM or Ctrl-C saves and stops, the second ends at once.

    Without ``engine`` it is torch, or deepspeed where there are settings for it.

    Raises:
        InputError: see :func:`algoprog.training.run.train_in_folder`.
        KeyboardInterrupt: stopped; the same command continues.
    """
    from algoprog.training.budget import plan_work
    from algoprog.training.loop import Stopped
    from algoprog.training.memory import parse_memory
    from algoprog.training.run import train_in_folder

    memory = parse_memory(micro_batch, recompute)
    engine = engine or ("torch" if deepspeed is None else "deepspeed")
    stopping = StopRequest()
    try:
        return train_in_folder(
            config, engine, out, _Lines(plan_work(config).steps), stopping, kernels, deepspeed, memory, deterministic,
            execution, halve,
        )  # fmt: skip
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        raise KeyboardInterrupt from None


class StopRequest:
    """True once a signal has asked to stop.

    A second signal ends the process at once, unless it comes within :data:`SAME_REQUEST_S` of the first: a launcher passes
    on what the terminal has already sent to every process.
    """

    def __init__(self) -> None:
        self._asked, self._since = False, 0.0
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def _ask(self, *_: object) -> None:
        if self._asked:
            if time.monotonic() - self._since > SAME_REQUEST_S:
                raise KeyboardInterrupt
            return
        self._asked, self._since = True, time.monotonic()
        print("saving the state, then stopping; ask again to stop at once", file=sys.stderr, flush=True)

    def __call__(self) -> bool:
        return self._asked


class _Lines:
    """A line on stderr every few seconds and at the last step."""

    def __init__(self, steps: int) -> None:
        self._steps, self._next = steps, 0.0

    def __call__(self, row: Mapping[str, Any]) -> None:
        now = time.monotonic()
        if now < self._next and row["step"] < self._steps:
            return
        self._next = now + LINE_EVERY_S
        text = f"step {row['step']}/{self._steps}  loss {row['loss']:.4f}  lr {row['lr']:.2e}  {row['flops']:.3e} FLOPs"
        print(text, file=sys.stderr, flush=True)
