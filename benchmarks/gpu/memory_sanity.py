"""The sketches under compute-sanitizer: memory errors (memcheck) and races in shared memory (racecheck).

Every payload runs once plainly, where its results are compared with float64, and once in a process of its own under the tool,
with PyTorch's memory cache switched off so that each tensor is an allocation of its own and a read past its end is seen.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from accuracy import Accuracy, Check, errors
from bench import Bench
from drive import Case, Measurement, Unsupported, main, need_triton
from torch import Tensor

TOOLS = ("memcheck", "racecheck")
TIMEOUT_S = 220
SUMMARY = re.compile(r"(ERROR|RACECHECK) SUMMARY: (\d+)")
TOKENS = 37  # no multiple of any tile
LIMIT = 0.02  # these shapes are small; finer comparisons belong to the scripts that time


def lstm_tile(bench: Bench, width: int) -> dict[str, float]:
    """The Triton LSTM, forward and backward, with a batch that is no multiple of the tile."""
    need_triton()
    import lstm_triton
    from lstm_problem import Problem, outcome

    p = Problem(bench, "fp16" if bench.device.type == "cuda" else "fp32", width, 11, 5, 1)
    weights, zero = p.weights(p.kind), torch.zeros(11, width, dtype=p.kind, device=bench.device)

    def layer(x: Tensor) -> Tensor:
        return lstm_triton.tile_lstm(x, weights, zero, zero.float(), width == 32, 4)[0]

    return errors(outcome(layer, p.x, p.dy, weights, True, 11), p.truth(True))


def lstm_cluster(bench: Bench, width: int) -> dict[str, float]:
    """The CUDA LSTM: one block at 64, clusters of 2 and 4 at 128 and 256."""
    if bench.device.type != "cuda":
        raise Unsupported("clusters exist on a GPU only")
    import lstm_cluster as sketch
    from lstm_problem import Problem

    p = Problem(bench, "bf16", width, 11, 5, 1)
    w_ih, w_hh, b_ih, b_hh = (w.detach() for w in p.weights(p.kind))
    xg = sketch.gates_innermost(torch.nn.functional.linear(p.x, w_ih, b_ih + b_hh))
    h0 = torch.zeros(11, width, dtype=p.kind, device=bench.device)
    y, _, _ = sketch.forward(xg, sketch.interleaved(w_hh), h0, h0.float(), sketch.CONFIGURATIONS[width][-1])
    return errors({"y": y}, p.truth(False))


def head(bench: Bench, name: str, width: int) -> dict[str, float]:
    """A head sketch with odd numbers of tokens and classes."""
    need_triton()
    import head_variants as variants

    x = bench.normal(TOKENS, width, dtype=torch.bfloat16)
    w = bench.normal(320, width, dtype=torch.bfloat16, scale=width**-0.5)
    target, names = bench.integers(301, TOKENS), ("loss", "dx", "dw")
    truth = dict(zip(names, variants.reference(x, w, target, 301), strict=True))
    return errors(dict(zip(names, variants.BOTH[name](x, w, target, 301), strict=True)), truth)


PAYLOADS = {
    "lstm tile 32": lambda bench: lstm_tile(bench, 32),
    "lstm tile 64": lambda bench: lstm_tile(bench, 64),
    "lstm cluster 64": lambda bench: lstm_cluster(bench, 64),
    "lstm cluster 128": lambda bench: lstm_cluster(bench, 128),
    "lstm cluster 256": lambda bench: lstm_cluster(bench, 256),
    "head flash 32": lambda bench: head(bench, "flash", 32),
    "head flash 128": lambda bench: head(bench, "flash", 128),
    "head fused in place": lambda bench: head(bench, "fused in place", 64),
    "head chunks": lambda bench: head(bench, "chunks of 256", 64),
}


def sanity_case(name: str, tool: str) -> Case:
    """One payload under one tool. On a CPU only the comparison with float64 remains."""

    def measure(bench: Bench) -> Measurement:
        found = PAYLOADS[name](bench)
        checks = [Check(key, error, LIMIT, "against float64") for key, error in found.items()]
        facts: dict[str, object] = {"tool_errors": None, "why": None, "said": None}
        if bench.device.type == "cuda":
            count, facts["said"] = _under(tool, name)
            facts["tool_errors"] = count
            checks.append(Check(f"errors reported by {tool}", float(count), 0.0, "must be exact"))
        else:
            facts["why"] = "compute-sanitizer needs a GPU"
        return Measurement(Accuracy(tuple(checks)), facts=facts)

    return Case(tool, {"payload": name, "tool": tool}, measure)


def reported(text: str) -> int | None:
    """Number of errors or hazards in the tool's summary lines; None if there is no summary."""
    counts = [int(match[2]) for match in SUMMARY.finditer(text)]
    return sum(counts) if counts else None


def _under(tool: str, name: str) -> tuple[int, str]:
    program = shutil.which("compute-sanitizer")
    if program is None:
        raise Unsupported("compute-sanitizer is not on the path")
    command = [program, "--tool", tool, sys.executable, str(Path(__file__).resolve()), "--payload", name]
    environment = os.environ | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, env=environment)
    text = done.stdout + done.stderr
    count = reported(text)
    if count is None:
        raise Unsupported(f"compute-sanitizer gave no summary: {text.strip()[-250:]}")
    if done.returncode and not count:
        raise Unsupported(f"the payload ended with {done.returncode}: {text.strip()[-250:]}")
    interesting = [line for line in text.splitlines() if line.startswith("=========")]
    return count, "\n".join(interesting)[:1500]


def cases(tiny: bool) -> list[Case]:
    """Every payload under every tool."""
    names = ("lstm tile 32", "lstm cluster 64", "head flash 32", "head chunks") if tiny else tuple(PAYLOADS)
    tools = TOOLS[:1] if tiny else TOOLS
    return [sanity_case(name, tool) for tool in tools for name in names]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--payload"]:
        print(PAYLOADS[sys.argv[2]](Bench("cuda", False)))
        sys.exit(0)
    sys.exit(main("memory_sanity.py", "The sketches under compute-sanitizer.", cases))
