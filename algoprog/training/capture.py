"""A training step as one CUDA graph: recorded once, replayed for every step after."""

from __future__ import annotations

from collections.abc import Callable

import torch

from algoprog.training.step import TrainingStep

WARM_UP_STEPS = 3
"""Steps before recording: kernels are loaded, optimiser state and library workspaces get their memory."""


def capture(step: TrainingStep, stream: torch.cuda.Stream) -> Callable[[], None]:
    """Record ``step`` on ``stream`` and return its replay. The graph has a memory pool of its own.

    Warm-up and recording happen on the stream that will replay, so that the workspace of cuBLAS, of which there is one per
    stream, is this graph's alone: graphs that share one may not run at the same time. The steps taken here train:
    whoever calls this begins the run anew. Operations of other threads may go on meanwhile; this thread must not have any
    other work under way.

    Raises:
        RuntimeError: an operation of the step waits for the device, or allocates outside of the pool.
    """
    step.load(WARM_UP_STEPS)
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP_STEPS):
            step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        step()

    def replay() -> None:
        graph.replay()
        step.done += 1

    return replay
