"""Compiles a CUDA C++ file of ``csrc/`` into machine code for compute capability 9.0 (sm_90a), on first use, and keeps it.

One tool, nvcc, for the build, for the check of budgets and for warnings; no host compiler's ABI, no Python headers and no
PyTorch headers are involved, because the result is a cubin that :mod:`algoprog.kernels.cuda_driver` loads as it is. Results
are kept in ``$ALGOPROG_CACHE`` (else ``$XDG_CACHE_HOME/algoprog``, else ``~/.cache/algoprog``) under the hash of everything
that they are made from, so a machine without nvcc can run what another one built there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

CAPABILITY = (9, 0)
FLAGS = (
    "-cubin", "-O3", "-std=c++17", "-gencode=arch=compute_90a,code=sm_90a", "-Werror", "all-warnings", "-Xptxas", "-v",
)  # fmt: skip
LIMIT_S = 300


class BuildError(RuntimeError):
    """nvcc is missing or refused the source; the message holds its words."""


def sources() -> Path:
    """The folder ``csrc``: beside ``kernels`` in an installed package as in a checkout."""
    here = Path(__file__)
    candidates = (here.parent.parent / "csrc", here.resolve().parent.parent / "csrc")
    found = next((folder for folder in candidates if folder.is_dir()), None)
    if found is None:
        raise BuildError(f"csrc: expected the CUDA sources in {candidates[0]}; this installation does not carry them")
    return found


def find_nvcc() -> str | None:
    """nvcc of ``CUDA_HOME`` or ``CUDA_PATH``, else on the path, else None."""
    homes = (os.environ.get(name) for name in ("CUDA_HOME", "CUDA_PATH"))
    ours = (Path(home) / "bin" / "nvcc" for home in homes if home)
    return next((str(path) for path in ours if path.exists()), None) or shutil.which("nvcc")


def compile_cubin(source: str, defines: Mapping[str, int], target: Path) -> str:
    """Compile ``csrc/source`` with these macros into ``target``. Returns what ptxas says: registers, spills, barriers.

    Raises:
        BuildError: no nvcc, an error or a warning; the message is the compiler's.
    """
    nvcc = find_nvcc()
    if nvcc is None:
        raise BuildError("no nvcc in CUDA_HOME or on the path")
    macros = [f"-D{name}={value}" for name, value in defines.items()]
    command = [nvcc, *FLAGS, *macros, "-o", str(target), str(sources() / source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
    if done.returncode:
        raise BuildError(f"{source} {dict(defines)}: {(done.stderr or done.stdout).strip()}")
    return done.stderr


def cubin(source: str, defines: Mapping[str, int]) -> bytes:
    """Machine code of ``csrc/source`` with these macros, from the cache or compiled now (one to five seconds).

    Raises:
        BuildError: as :func:`compile_cubin`.
    """
    path = cached_path(source, defines)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:  # several processes may build at once
            fresh = Path(folder) / path.name
            compile_cubin(source, defines, fresh)
            os.replace(fresh, path)
    return path.read_bytes()


def cached_path(source: str, defines: Mapping[str, int]) -> Path:
    """Where the machine code is kept; need not exist."""
    said = " ".join((source, *FLAGS, *(f"{name}={value}" for name, value in sorted(defines.items()))))
    key = hashlib.sha256(_source_hash() + said.encode()).hexdigest()[:32]
    return _cache() / "csrc" / f"{Path(source).stem}-{key}.cubin"


@cache
def _source_hash() -> bytes:
    digest = hashlib.sha256()
    for path in sorted(path for path in sources().iterdir() if path.suffix in (".cu", ".cuh")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.digest()


def _cache() -> Path:
    if own := os.environ.get("ALGOPROG_CACHE"):
        return Path(own)
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared) / "algoprog"
    return Path.home() / ".cache" / "algoprog"
