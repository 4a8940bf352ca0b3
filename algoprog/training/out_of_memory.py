"""What a run does when its memory does not suffice: it says so in one line, or goes on with half the rows at once.

Half of the micro-batch is the same batch in more pieces (:mod:`algoprog.training.accumulate`): the recipe stays, the last
bits of a sum may change, and the record says how many pieces there were. The run goes on from its last checkpoint.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace

import torch

from algoprog.config import InputError, RunConfig
from algoprog.training.memory import Memory
from algoprog.training.outcome import Outcome


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was missing: of a GPU, or of the host, for which PyTorch has no exception of its own."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def train_within_memory(
    attempt: Callable[[Memory], Outcome], memory: Memory, config: RunConfig, world: int, halve: bool
) -> Outcome:
    """The outcome of ``attempt`` with ``memory``, or, if ``halve``, with as few rows at once as it takes.

    Ranks would have to agree on a smaller micro-batch while one of them has failed: with several it is not halved.

    Raises:
        InputError: out of memory, and nothing is left to halve.
    """
    while True:
        try:
            return attempt(memory)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            rows = memory.micro_batch or config.batch // world
            if not halve or world > 1 or rows == 1:
                raise _explain(error, rows, world) from error
            memory = replace(memory, micro_batch=(rows + 1) // 2)
            text = f"warning: out of memory with {rows} rows at once; going on with {memory.micro_batch}"
        print(text, file=sys.stderr, flush=True)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # only here, outside of the handler, are the tensors of the failed attempt gone


def _explain(error: BaseException, rows: int, world: int) -> InputError:
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    smaller = f"--micro-batch {max(1, rows // 2)}" if rows > 1 else "a smaller model, or --recompute blocks"
    return InputError(
        f"out of memory ({first})",
        where="train",
        got=f"{rows} rows at once on each of {world} ranks",
        remedy=f"try {smaller}",
    )
