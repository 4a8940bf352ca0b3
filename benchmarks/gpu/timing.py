"""Seconds per call: graph replays between CUDA events, over rotating inputs.

On a GPU the calls are captured into one CUDA graph of at least 20 calls (fewer only where a single call is long), and the
replays of that graph are timed with events, so that launch gaps of the host do not count. The calls of a graph go round
clones of their inputs; where the clones exceed three times the L2 cache, every call finds its inputs cold. What cannot be
captured is timed call by call with events and the row says so. On a CPU a host clock is used, to try the scripts out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

Call = Callable[[], object]
CALLS, SAMPLES, FEWEST = 20, 20, 5
LONG_GRAPH_S = 0.02  # a graph this long needs no further calls: the events cost microseconds
CASE_S = 2.0  # time for the samples of one case, as far as FEWEST allows


@dataclass(frozen=True)
class Timing:
    """Seconds per call in each of n samples, and how they were taken."""

    samples_s: tuple[float, ...]
    calls_per_sample: int
    method: str
    clones: int
    cold: bool
    first_call_s: float
    note: str | None = None

    @property
    def n(self) -> int:
        return len(self.samples_s)

    def quantile(self, q: float) -> float:
        """Linear interpolation between order statistics, as ``numpy.quantile`` does."""
        ordered = sorted(self.samples_s)
        at = q * (len(ordered) - 1)
        low = int(at)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (at - low) * (ordered[high] - ordered[low])

    @property
    def median_s(self) -> float:
        return self.quantile(0.5)

    @property
    def iqr_s(self) -> float:
        return self.quantile(0.75) - self.quantile(0.25)


def clones_for(bytes_of_one: int, device: torch.device, at_most: int = 64) -> int:
    """How many sets of inputs to go round so that they exceed three times L2, if ``at_most`` sets suffice for that."""
    if device.type != "cuda":
        return 2
    return max(1, min(_three_caches(device) // max(1, bytes_of_one) + 1, at_most))


def _three_caches(device: torch.device) -> int:
    return 3 * int(torch.cuda.get_device_properties(device).L2_cache_size)


def measure(calls: Sequence[Call], device: torch.device, bytes_of_one: int = 0, graph: bool = True) -> Timing:
    """Times ``calls`` in turn; each does the same work on its own clone of inputs and outputs of ``bytes_of_one``."""
    started = time.perf_counter()
    calls[0]()
    _wait(device)
    first = time.perf_counter() - started
    if device.type != "cuda":
        return _host(calls, first)
    each = _estimate(calls, device)
    used = list(calls[: max(1, int(2 * LONG_GRAPH_S / each))])
    rounds = max(1, min(-(-CALLS // len(used)), int(LONG_GRAPH_S / (each * len(used)))))
    cold = len(used) * bytes_of_one > _three_caches(device)
    note = None
    if graph:
        try:
            return _timing(_captured(used * rounds), each, used, rounds, cold, first, "graph replay, CUDA events", None)
        except RuntimeError as error:
            torch.cuda.synchronize()  # raises if the device itself is lost; a refused capture leaves it usable
            note = f"no graph: {str(error).splitlines()[0][:160]}"
    return _timing(_in_turn(used * rounds), each, used, rounds, cold, first, "eager calls, CUDA events", note)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _estimate(calls: Sequence[Call], device: torch.device) -> float:
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # also the warm-up that capture asks for, on a side stream
        for call in calls[:3]:
            call()
        start, end = _event_pair()
        start.record()
        for _ in range(3):
            calls[0]()
        end.record()
        end.synchronize()
    torch.cuda.current_stream().wait_stream(side)
    return max(1e-7, float(start.elapsed_time(end)) * 1e-3 / 3)


def _event_pair() -> tuple[Any, Any]:
    return tuple(torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[return-value, no-untyped-call]


def _sample_count(sample_s: float) -> int:
    return max(FEWEST, min(SAMPLES, int(CASE_S / max(sample_s, 1e-9))))


def _captured(calls: Sequence[Call]) -> Call:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    for _ in range(3):
        graph.replay()
    torch.cuda.synchronize()
    return graph.replay


def _in_turn(calls: Sequence[Call]) -> Call:
    def run() -> None:
        for call in calls:
            call()

    return run


def _timing(
    sample: Call,
    each: float,
    used: Sequence[Call],
    rounds: int,
    cold: bool,
    first: float,
    method: str,
    note: str | None,
) -> Timing:
    count, samples = rounds * len(used), []
    for _ in range(_sample_count(each * count)):
        start, end = _event_pair()
        start.record()
        sample()
        end.record()
        end.synchronize()
        samples.append(float(start.elapsed_time(end)) * 1e-3 / count)
    return Timing(tuple(samples), count, method, len(used), cold, first, note)


def _host(calls: Sequence[Call], first: float) -> Timing:
    samples = []
    for i in range(FEWEST):
        started = time.perf_counter()
        calls[i % len(calls)]()
        samples.append(time.perf_counter() - started)
    return Timing(tuple(samples), 1, "eager calls, host clock", len(calls), False, first)
