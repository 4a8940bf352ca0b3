"""Where a result came from: versions, device and source."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

PACKAGES = ("algoprog", "torch", "numpy", "scipy", "tokenizers", "deepspeed", "triton")


@cache
def software() -> dict[str, Any]:
    """Versions of what computes, the commit of the source and a hash over it (both None where unknown)."""
    versions: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return {"python": platform.python_version(), **versions, "commit": _commit(), "source_sha256": _source_hash()}


def device_name() -> str:
    """The GPU's name, else the processor's."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    for line in _lines(Path("/proc/cpuinfo")):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def hardware() -> dict[str, Any]:
    """The device that computes and how many of its threads this process uses."""
    import torch

    return {"device": device_name(), "threads": torch.get_num_threads(), "cores": os.cpu_count()}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _commit() -> str | None:
    here = Path(__file__).resolve().parent
    try:
        # Installed into somebody else's repository, the commit would be theirs.
        tracked = subprocess.run(
            ["git", "ls-files", "--error-unmatch", __file__], cwd=here, capture_output=True, timeout=10
        )
        if tracked.returncode != 0:
            return None
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _source_hash() -> str:
    """sha256 over the package's Python files: equal sources, equal hash, in a checkout or installed."""
    package = Path(__file__).parent.parent
    digest = hashlib.sha256()
    for path in sorted({*package.rglob("*.py"), *(package / "kernels").rglob("*.py")}):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
