"""What this machine has, and what keeps the rest from working: every part is looked at on its own, none can stop the others.

Nothing heavy is loaded for the answer but torch: versions of other packages come from their metadata. flash-attn and one
fused kernel are tried, not only looked up, where there is a GPU to use them on.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

State = Literal["usable", "missing", "broken"]

CPU_FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16")
"""Flags of /proc/cpuinfo that decide how fast fp32 and bf16 products are."""
HEAD_DIMS = (16, 32, 64, 128)
NVCC_LIMIT_S = 10.0


@dataclass(frozen=True)
class Part:
    """One part of the machine. ``found`` is a version or a name, ``note`` what else matters, or why it cannot be used."""

    name: str
    state: State
    found: str | None = None
    note: str = ""


@dataclass(frozen=True)
class Checkup:
    """``kernels``: operation, implementation, reason. ``attention``: head_dim, backend, reason; empty without a GPU, where
    attention is a plain operation like the others."""

    parts: tuple[Part, ...]
    kernels: tuple[dict[str, str], ...]
    attention: tuple[dict[str, Any], ...]

    def as_json(self) -> dict[str, Any]:
        """Parts by name, and the two tables."""
        return {
            "parts": {part.name: {k: v for k, v in asdict(part).items() if k != "name"} for part in self.parts},
            "kernels": list(self.kernels),
            "attention": list(self.attention),
        }


def examine() -> Checkup:
    """Look at everything. Never raises for what it finds."""
    parts = [
        _part(
            "python",
            lambda: Part("python", "usable", platform.python_version(), f"{platform.system()} {platform.machine()}"),
        ),
        _part("cpu", _cpu),
        _part("torch", _torch),
        _part("gpu", _gpu),
        _part("cuda toolkit", _toolkit),
        _part("triton", _triton),
        _part("flash-attn", _flash_attn),
        _part("deepspeed", lambda: _package("deepspeed", "deepspeed")),
        _part("fused kernels", _fused),
    ]
    return Checkup(tuple(parts), _table(_kernels), _table(_attention))


def _part(name: str, look: Callable[[], Part]) -> Part:
    """What ``look`` finds; what it raises is a finding too."""
    try:
        return look()
    except Exception as error:  # whatever a half-installed library throws is what the user wants to know
        return Part(name, "broken", note=_one_line(error))


def _table(rows: Callable[[], list[dict[str, Any]]]) -> tuple[dict[str, Any], ...]:
    try:
        return tuple(rows())
    except Exception as error:
        return ({"op": "all", "implementation": "none", "reason": _one_line(error)},)


def _one_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else ''}"[:200]


def _python() -> Part:
    return Part("python", "usable", platform.python_version(), f"{platform.system()} {platform.machine()}")


def _cpu() -> Part:
    found = platform.processor() or platform.machine()
    flags: set[str] = set()
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                found = value.strip()
            elif key.strip() in ("flags", "Features"):
                flags = set(value.split())
                break
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    known = [flag for flag in CPU_FEATURES if flag in flags]
    return Part("cpu", "usable", found, f"{cores} cores; {', '.join(known) or 'no vector extensions known'}")


def _torch() -> Part:
    if not _installed("torch"):
        return Part("torch", "missing", note="pip install torch")
    import torch

    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    capability = torch.backends.cpu.get_cpu_capability()
    return Part("torch", "usable", torch.__version__, f"{built}; CPU kernels for {capability}")


def _gpu() -> Part:
    import torch

    if not torch.cuda.is_available():
        why = "torch was built without CUDA" if torch.version.cuda is None else "torch finds no device or no driver"
        return Part("gpu", "missing", note=why)
    about = torch.cuda.get_device_properties(0)
    count = torch.cuda.device_count()
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    note = (
        f"{count} of them; capability {about.major}.{about.minor}, {about.multi_processor_count} multiprocessors, "
        f"{about.total_memory / 2**30:.0f} GiB; cuDNN {cudnn}"
    )
    return Part("gpu", "usable", about.name, note)


def _toolkit() -> Part:
    homes = [Path(os.environ[name]) / "bin" / "nvcc" for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    found = next((str(path) for path in homes if path.exists()), None) or shutil.which("nvcc")
    if found is None:
        return Part(
            "cuda toolkit", "missing", note="no nvcc in CUDA_HOME or on the path; only the CUDA C++ sources need it"
        )
    said = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=NVCC_LIMIT_S)
    release = next(
        (line.split("release ")[1].split(",")[0] for line in said.stdout.splitlines() if "release " in line), ""
    )
    return Part("cuda toolkit", "usable" if release else "broken", release or None, found)


def _triton() -> Part:
    part = _package("triton", "triton")
    if part.state != "usable":
        return part
    import torch

    if torch.cuda.is_available():
        return part
    return Part(
        "triton", "usable", part.found, "compiles and interprets kernels here; without a GPU it cannot run them"
    )


def _flash_attn() -> Part:
    part = _package("flash-attn", "flash")
    if part.state != "usable":
        return part
    import torch

    if not torch.cuda.is_available():
        return Part("flash-attn", "broken", part.found, "needs a GPU; not tried")
    from algoprog.kernels.fused import attention

    module, about = attention.flash_attn()
    return part if module is not None else Part("flash-attn", "broken", part.found, about)


def _package(name: str, extra: str) -> Part:
    if not _installed(name):
        return Part(name, "missing", note=f'pip install "algoprog[{extra}]"')
    return Part(name, "usable", importlib.metadata.version(name))


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _fused() -> Part:
    """Whether fused kernels run: on a GPU one is compiled, launched and compared."""
    import torch

    from algoprog import kernels
    from algoprog.kernels import dispatch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    obstacle = dispatch.why_not_fused(device, torch.bfloat16)
    if obstacle is not None:
        return Part("fused kernels", "missing", note=f"{obstacle}; plain PyTorch runs instead")
    x, weight = torch.randn(8, 64, device=device), torch.rand(64, device=device) + 0.5
    got = kernels.select("fused", device, torch.float32).rms_norm(x, weight, 1e-6)
    error = float((got - kernels.rms_norm(x, weight, 1e-6)).abs().max())
    if not error < 1e-5:
        return Part("fused kernels", "broken", note=f"rms_norm differs from its reference by {error:.1e}")
    return Part("fused kernels", "usable", note=f"rms_norm ran and differs from its reference by {error:.1e}")


def _kernels() -> list[dict[str, str]]:
    from algoprog import kernels

    return kernels.describe()


def _attention() -> list[dict[str, Any]]:
    import torch

    from algoprog.kernels import dispatch

    if not torch.cuda.is_available() or dispatch.why_not_fused(torch.device("cuda"), torch.bfloat16) is not None:
        return []
    from algoprog.kernels.fused import attention

    rows = []
    for head_dim in HEAD_DIMS:
        choice = attention.choose(torch.device("cuda"), torch.bfloat16, head_dim)
        rows.append({"head_dim": head_dim, "backend": choice.backend, "reason": choice.reason})
    return rows
