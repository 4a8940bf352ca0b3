"""Compile every kernel of table.csv for sm_90a and hold what the compiler reports to its budgets. Needs nvcc, no GPU.

Budgets: registers per thread as the table says, no spills, no stack, shared memory as the table says (the source asserts it),
no warning. Where Triton is installed its disassembler also counts device-wide fences: two for a cluster (its barrier before the
first and after the last step), one more for kernels with a single exchange buffer, none for one block. `make csrc-check` runs
this; the last line sums up.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch

from algoprog.kernels import cuda_build
from algoprog.kernels.lstm_cluster import DTYPES, SOURCE, Configuration, table

SHARED_LIMIT = 232_448  # bytes of shared memory that one block may have on this architecture
WORKERS = 2


@dataclass(frozen=True)
class Report:
    """What the compiler made of one kernel. ``fences``: device-wide memory barriers, None if nothing could count them."""

    row: Configuration
    dtype: torch.dtype
    registers: int
    stack_bytes: int
    spill_bytes: int
    fences: int | None

    @property
    def allowed_fences(self) -> int:
        if self.row.cluster == 1:
            return 0
        return 2 if self.row.buffers == 2 else 3

    def broken(self) -> list[str]:
        """The budgets that do not hold, in words."""
        found = []
        if self.registers > self.row.registers:
            found.append(f"{self.registers} registers, budget {self.row.registers}")
        if self.stack_bytes or self.spill_bytes:
            found.append(f"{self.spill_bytes} bytes spilled, {self.stack_bytes} bytes of stack, budget 0")
        if self.fences is not None and self.fences > self.allowed_fences:
            found.append(f"{self.fences} device-wide fences, budget {self.allowed_fences}")
        if self.row.shared > SHARED_LIMIT:
            found.append(f"{self.row.shared} bytes of shared memory, limit {SHARED_LIMIT}")
        return found

    def __str__(self) -> str:
        row = self.row
        name = f"{row.direction:8} H {row.hidden:3} tile {row.tile:2} cluster {row.cluster:2} {str(self.dtype)[6:]:8}"
        fences = "not counted" if self.fences is None else str(self.fences)
        return (
            f"{name}  registers {self.registers:3} of {row.registers:3}  spills {self.spill_bytes}"
            f"  shared {row.shared:6}  fences {fences}"
        )


def compile_row(row: Configuration, dtype: torch.dtype) -> Report:
    """Compile one kernel. Raises BuildError with the compiler's words."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "kernel.cubin"
        said = cuda_build.compile_cubin(SOURCE, row.defines(dtype), target)
        fences = count_fences(target)
    used = re.search(r"Used (\d+) registers", said)
    stack = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", said)
    if used is None or stack is None:
        raise cuda_build.BuildError(f"ptxas said nothing about registers or spills: {said}")
    return Report(row, dtype, int(used[1]), int(stack[1]), int(stack[2]) + int(stack[3]), fences)


def count_fences(cubin: Path) -> int | None:
    """Device-wide memory barriers in the machine code; None without a disassembler."""
    triton = importlib.util.find_spec("triton")
    tool = Path(triton.origin).parent / "backends/nvidia/bin/nvdisasm" if triton and triton.origin else None
    if tool is None or not tool.exists():
        return None
    code = subprocess.run([str(tool), "-c", str(cubin)], capture_output=True, text=True, check=True).stdout
    return len(re.findall(r"MEMBAR\.\S*\.GPU", code))


def compile_rows(rows: Iterable[Configuration]) -> list[Report]:
    """Compile these in both storage types, two at a time."""
    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(lambda case: compile_row(*case), product(rows, DTYPES)))


def summary(reports: list[Report]) -> str:
    """One line over all kernels."""
    broken = sum(bool(report.broken()) for report in reports)
    state = (
        f"{broken} of {len(reports)} kernels break a budget" if broken else f"all {len(reports)} kernels within budget"
    )
    counted = [report.fences for report in reports if report.fences is not None]
    fences = f"at most {max(counted)} device-wide fences" if counted else "fences not counted (no disassembler)"
    return (
        f"csrc-check: {state}: at most {max(r.registers for r in reports)} registers, "
        f"{sum(r.spill_bytes for r in reports)} bytes spilled, "
        f"at most {max(r.row.shared for r in reports):,} of {SHARED_LIMIT:,} bytes of shared memory, {fences}"
    )


def main() -> int:
    """0: within budget, or nothing to compile with; 1: a budget is broken."""
    if cuda_build.find_nvcc() is None:
        print("csrc-check: skipped: no nvcc in CUDA_HOME or on the path")
        return 0
    reports = compile_rows(table())
    for report in reports:
        print(report, *report.broken(), sep="  ")
    print(summary(reports))
    return int(any(report.broken() for report in reports))


if __name__ == "__main__":
    sys.exit(main())
