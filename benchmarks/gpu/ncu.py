"""Runs a command under Nsight Compute and sums its counters over kernels."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence

from bench import Unsupported

# Thread-level fp32 instructions outside the tensor cores, and the FLOPs of one
FP32 = {
    "smsp__sass_thread_inst_executed_op_ffma_pred_on": 2,
    "smsp__sass_thread_inst_executed_op_fmul_pred_on": 1,
    "smsp__sass_thread_inst_executed_op_fadd_pred_on": 1,
}
TENSOR = re.compile(r"^sm__ops_path_tensor_src_\w+$")
TIMEOUT_S = 220


def tensor_metrics(listing: str) -> list[str]:
    """Names of the counters of tensor-core operations in the text of ``ncu --query-metrics``.

    A counter that comes both plain and split by sparsity is taken once, plain.
    """
    names = {line.split()[0] for line in listing.splitlines() if line.split()}
    found = {name for name in names if TENSOR.match(name)}
    plain = {name for name in found if "sparsity" not in name}
    split = {name for name in found if "sparsity" in name and re.sub(r"_sparsity_\w+$", "", name) not in plain}
    return sorted(plain | split)


def totals(text: str) -> tuple[dict[str, float], int]:
    """Sum of every metric over all kernels in the output of ``ncu --csv``, and the number of kernels."""
    lines = [line for line in text.splitlines() if line.startswith('"')]
    sums: dict[str, float] = {}
    kernels = set()
    for row in csv.DictReader(lines):
        if not row.get("Metric Name"):
            continue
        kernels.add(row["ID"])
        value = float(row["Metric Value"].replace(",", ""))
        sums[row["Metric Name"]] = sums.get(row["Metric Name"], 0.0) + value
    return sums, len(kernels)


def flops(sums: dict[str, float], tensor: Iterable[str]) -> dict[str, float]:
    """FLOPs on the tensor cores (the counters count operations) and fp32 FLOPs elsewhere."""
    return {
        "tensor": sum(sums.get(f"{name}.sum", 0.0) for name in tensor),
        "fp32": sum(weight * sums.get(f"{name}.sum", 0.0) for name, weight in FP32.items()),
    }


def count(command: Sequence[str]) -> tuple[dict[str, float], int]:
    """FLOPs of everything that ``command`` does between cudaProfilerStart and cudaProfilerStop, and its kernels.

    Raises Unsupported where ncu is missing or the machine keeps its counters closed.
    """
    program = shutil.which("ncu")
    if program is None:
        raise Unsupported("Nsight Compute (ncu) is not on the path")
    listing = subprocess.run([program, "--query-metrics"], capture_output=True, text=True, timeout=60)
    tensor = tensor_metrics(listing.stdout)
    if not tensor:
        raise Unsupported(f"ncu lists no sm__ops_path_tensor counters: {_last(listing.stdout + listing.stderr)}")
    metrics = ",".join(f"{name}.sum" for name in [*tensor, *FP32])
    options = ["--clock-control", "none", "--profile-from-start", "off", "--target-processes", "all", "--csv"]
    options += ["--print-units", "base", "--print-fp", "--metrics", metrics]
    done = subprocess.run([program, *options, *command], capture_output=True, text=True, timeout=TIMEOUT_S)
    if done.returncode:
        raise Unsupported(f"ncu ended with {done.returncode}: {_last(done.stdout + done.stderr)}")
    sums, kernels = totals(done.stdout)
    if not kernels:
        raise Unsupported(f"ncu counted no kernel: {_last(done.stdout + done.stderr)}")
    return flops(sums, tensor), kernels


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " | ".join(lines[-2:])[:300]
