"""What other FLOP counters say about one training step, each converted to FLOPs of forward and backward.

Every counter runs the step itself. Those that count multiply-adds are doubled, those that see the forward pass only are
tripled, as their own documentation assumes; ``note`` says so. A counter that is not installed is reported as absent.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import logging
import multiprocessing
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class PeerCount:
    """One counter's figure. ``flops`` None: not installed or refused, see ``note``. ``elementwise`` is the part of
    ``flops`` that the counter itself attributes to operations other than matrix products."""

    name: str
    version: str | None
    flops: int | None
    elementwise: int
    note: str


@dataclass(frozen=True)
class Step:
    """A model and one batch: inputs and targets [B, T] int64. Running it leaves no gradients behind."""

    model: nn.Module
    inputs: Tensor
    targets: Tensor

    def forward(self) -> Tensor:
        loss: Tensor = self.model(self.inputs, self.targets)[0]
        return loss

    def train(self) -> None:
        self.forward().backward()  # type: ignore[no-untyped-call]
        self.model.zero_grad(set_to_none=True)


Peer = Callable[[Step], PeerCount]


def count_by_peers(make_step: Callable[[], Step]) -> list[PeerCount]:
    """All counters. ``make_step`` must survive pickling: counters that patch PyTorch run in a process of their own."""
    step = make_step()
    shipped = [silenced(peer, step) for peer in (flop_counter_mode, profiler)]
    return shipped + [count_apart(peer, [make_step])[0] for peer in (deepspeed, fvcore, calflops)]


def silenced(peer: Peer, step: Step) -> PeerCount:
    """Whatever a counter prints goes to stderr."""
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return peer(step)


def _make_and_count(peer: Peer, make_step: Callable[[], Step]) -> PeerCount:
    return silenced(peer, make_step())


def count_apart(peer: Peer, makers: Sequence[Callable[[], Step]]) -> list[PeerCount]:
    """One counter's figures from a fresh process, so that neither patches nor crashes reach anything else."""
    name = peer.__name__
    if importlib.util.find_spec(name) is None:
        return [PeerCount(name, None, None, 0, "not installed")] * len(makers)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        counts = [pool.submit(_make_and_count, peer, make_step) for make_step in makers]
        return [_result(count, name) for count in counts]


def _result(count: Future[PeerCount], name: str) -> PeerCount:
    try:
        return count.result()
    except BrokenProcessPool:
        return PeerCount(name, importlib.metadata.version(name), None, 0, "failed: its process crashed")


def flop_counter_mode(step: Step) -> PeerCount:
    """``torch.utils.flop_counter.FlopCounterMode`` over forward and backward."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        step.train()
    return PeerCount("FlopCounterMode", torch.__version__, int(counter.get_total_flops()), 0, "forward and backward")


def profiler(step: Step) -> PeerCount:
    """``torch.profiler`` with ``with_flops``: matrix products, convolutions, elementwise ``mul`` and ``add``."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], with_flops=True, record_shapes=True) as recorded:
        step.train()
    events = {event.key: int(event.flops) for event in recorded.key_averages() if event.flops}
    elementwise = sum(flops for key, flops in events.items() if key in ("aten::mul", "aten::add"))
    return PeerCount("torch.profiler", torch.__version__, sum(events.values()), elementwise, "forward and backward")


def fvcore(step: Step) -> PeerCount:
    """``fvcore.nn.FlopCountAnalysis`` traces the forward pass and counts multiply-adds."""
    return _installed("fvcore", lambda: _fvcore(step))


def _fvcore(step: Step) -> tuple[int, int, str]:
    analysis = importlib.import_module("fvcore.nn").FlopCountAnalysis
    with _quiet("fvcore", "torch.jit"):
        found = analysis(step.model, (step.inputs, step.targets)).by_operator()
    products = sum(int(n) for op, n in found.items() if op in ("linear", "matmul", "bmm", "addmm", "einsum", "mm"))
    total = sum(int(n) for n in found.values())
    note = "multiply-adds of the forward pass, times 2 and times 3; elementwise as it counts them, times 3"
    return 3 * (2 * products + total - products), 3 * (total - products), note


def deepspeed(step: Step) -> PeerCount:
    """DeepSpeed's flops profiler: patched functions in the forward pass; the backward pass is taken as twice that."""
    return _installed("deepspeed", lambda: _deepspeed(step))


def _deepspeed(step: Step) -> tuple[int, int, str]:
    with _quiet("DeepSpeed", "deepspeed"):
        from deepspeed.profiling.flops_profiler import profiler as source

        elementwise, handles = [0], []

        def read(*_: Any) -> None:
            calls = source.module_flop_count[-1] if source.module_flop_count else []
            elementwise[0] += sum(flops for name, flops in calls if not _multiplies(name()))

        # Our hooks are registered first, so that they read a module's list before the profiler takes it away.
        handles = [module.register_forward_hook(read) for module in step.model.modules()]
        counter = source.FlopsProfiler(step.model)
        counter.start_profile()
        try:
            step.forward()
            total = int(counter.get_total_flops())
        finally:
            counter.end_profile()
            for handle in handles:
                handle.remove()
    return 3 * total, 3 * elementwise[0], "forward pass, times 3"


def _multiplies(name: str) -> bool:
    words = ("linear", "matmul", "mm", "scaled_dot_product_attention", "einsum", "conv")
    return any(word in name for word in words)


def calflops(step: Step) -> PeerCount:
    """calflops, of DeepSpeed's family; it leaves functions patched when it fails, so it comes last."""
    return _installed("calflops", lambda: _calflops(step))


def _calflops(step: Step) -> tuple[int, int, str]:
    calculate_flops = importlib.import_module("calflops").calculate_flops
    values = {"inputs": step.inputs, "targets": step.targets}
    flops, macs, _ = calculate_flops(
        model=step.model, kwargs=values, output_as_string=False, print_results=False, print_detailed=False
    )
    return 3 * int(flops), 3 * (int(flops) - 2 * int(macs)), "forward pass, times 3"


def _installed(name: str, count: Callable[[], tuple[int, int, str]]) -> PeerCount:
    """The count, or why there is none. A counter that fails on a model is a fact about it, not an error of ours."""
    try:
        version = importlib.metadata.version(name)
        flops, elementwise, note = count()
    except ImportError as error:
        return PeerCount(name, None, None, 0, f"not installed ({error})")
    except Exception as error:
        return PeerCount(name, version, None, 0, f"failed: {type(error).__name__}: {error}")
    return PeerCount(name, version, flops, elementwise, note)


@contextlib.contextmanager
def _quiet(*names: str) -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
