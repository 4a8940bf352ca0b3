"""Build every kernel of table.csv into the cache, so that no first call has to. Needs nvcc, no GPU; `make csrc` runs this."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product

from algoprog.kernels import cuda_build
from algoprog.kernels.lstm_cluster import DTYPES, SOURCE, table

WORKERS = 2


def main() -> int:
    """0: all are there, or nothing to compile with."""
    if cuda_build.find_nvcc() is None:
        print("csrc: skipped: no nvcc in CUDA_HOME or on the path")
        return 0
    wanted = [row.defines(dtype) for row, dtype in product(table(), DTYPES)]
    with ThreadPoolExecutor(WORKERS) as pool:
        sizes = [len(code) for code in pool.map(lambda defines: cuda_build.cubin(SOURCE, defines), wanted)]
    folder = cuda_build.cached_path(SOURCE, wanted[0]).parent
    print(f"csrc: {len(sizes)} kernels, {sum(sizes):,} bytes, in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
