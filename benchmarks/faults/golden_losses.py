"""The golden losses of `tests/golden`: computed, compared, and written anew.

Vector units of different width add in a different order. Here PyTorch, MKL, oneDNN and the C library are told, before they are
loaded, to do without them; then a loss is the same on every x86-64 processor::

    python benchmarks/faults/golden_losses.py            # compare
    python benchmarks/faults/golden_losses.py --write    # after a change that means to alter numbers
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
STEPS = 20
PLAIN = {
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_CBWR": "COMPATIBLE",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-AVX512F",
    "OMP_NUM_THREADS": "1",
}


def compute() -> dict[str, dict[str, Any]]:
    """The content of every golden file, computed in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--here"], capture_output=True, text=True, env={**os.environ, **PLAIN}, timeout=500
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    found: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def compute_here() -> dict[str, dict[str, Any]]:
    """Train the three architectures in this process."""
    sys.path.insert(0, str(ROOT))
    import torch

    from algoprog.training.determinism import determinism
    from algoprog.training.engines import open_engine
    from benchmarks.faults.small_runs import ARCHES, follow, small, tokens

    torch.set_num_threads(1)
    found = {}
    for arch in ARCHES:
        with determinism(True):
            trace = follow(small(arch, STEPS), tokens(), open_engine("torch"))
        assert trace.outcome.loss is not None
        found[arch] = {
            "torch": torch.__version__,
            "machine": platform.machine(),
            "training": [row["loss"].hex() for row in trace.rows],
            "gradient_norms": [row["grad_norm"].hex() for row in trace.rows],
            "validation": trace.outcome.loss.hex(),
        }
    return found


def stored(arch: str) -> dict[str, Any]:
    """The golden file of an architecture."""
    content: dict[str, Any] = json.loads((GOLDEN / f"{arch}.json").read_text())
    return content


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        print(json.dumps(compute_here()))
        return
    for arch, content in compute().items():
        if options.write:
            (GOLDEN / f"{arch}.json").write_text(json.dumps(content, indent=1) + "\n")
        print(f"{arch}: {'written' if options.write else 'same' if content == stored(arch) else 'DIFFERENT'}")


if __name__ == "__main__":
    main()
