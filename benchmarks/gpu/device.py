"""The device and the software that a row was measured with: names, versions, clocks."""

from __future__ import annotations

import ctypes
import importlib.util
import platform
from typing import Any

import torch

# Dense bf16 peak by exact device name, FLOP/s (NVIDIA H100 and H200 data sheets; half of the figure "with sparsity").
BF16_PEAK = {
    "NVIDIA H100 80GB HBM3": 989.4e12,
    "NVIDIA H100 PCIe": 756.0e12,
    "NVIDIA H100 NVL": 835.5e12,
    "NVIDIA H200": 989.4e12,
}
SM_CLOCK, MEMORY_CLOCK = 1, 2  # nvmlClockType_t


def bf16_peak(name: str) -> float | None:
    """Peak of exactly this device, else None: no peak is assumed for a device that is not in the table."""
    return BF16_PEAK.get(name)


class Nvml:
    """Driver version and current clocks, read through the driver's own library; every reading may be None."""

    def __init__(self, device: torch.device) -> None:
        self._library: ctypes.CDLL | None = None
        self._handle = ctypes.c_void_p()
        if device.type != "cuda":
            return
        try:
            library = ctypes.CDLL("libnvidia-ml.so.1")
            uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}".encode()
            if library.nvmlInit_v2() == 0:
                if library.nvmlDeviceGetHandleByUUID(uuid, ctypes.byref(self._handle)) == 0:
                    self._library = library
        except (OSError, AttributeError):
            self._library = None

    def driver(self) -> str | None:
        if self._library is None:
            return None
        text = ctypes.create_string_buffer(96)
        return text.value.decode() if self._library.nvmlSystemGetDriverVersion(text, 96) == 0 else None

    def clocks_mhz(self) -> dict[str, int] | None:
        """Current clocks of the multiprocessors and the memory in MHz."""
        if self._library is None:
            return None
        found = {}
        for name, kind in (("sm", SM_CLOCK), ("memory", MEMORY_CLOCK)):
            value = ctypes.c_uint()
            if self._library.nvmlDeviceGetClockInfo(self._handle, kind, ctypes.byref(value)) == 0:
                found[name] = int(value.value)
        return found or None


def triton_version() -> str | None:
    """Version of Triton, or None where it is not installed."""
    if importlib.util.find_spec("triton") is None:
        return None
    import triton

    return str(triton.__version__)


def environment(device: torch.device, nvml: Nvml) -> dict[str, Any]:
    """``device`` and ``versions`` as every row carries them."""
    if device.type == "cuda":
        found = torch.cuda.get_device_properties(device)
        about: dict[str, Any] = {
            "name": found.name,
            "capability": f"{found.major}.{found.minor}",
            "multiprocessors": found.multi_processor_count,
            "memory_bytes": found.total_memory,
            "l2_bytes": found.L2_cache_size,
        }
    else:
        about = {"name": "cpu", "capability": platform.machine()}
    versions = {
        "driver": nvml.driver(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": triton_version(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if device.type == "cuda" else None,  # type: ignore[no-untyped-call]
    }
    return {"device": about, "versions": versions}
