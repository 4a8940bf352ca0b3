"""Peak rates of devices, by the exact name that the driver gives. A device that is not listed has none: nothing is guessed.

Rates are dense (no structured sparsity), in FLOP/s: ``bf16`` on tensor cores with fp32 accumulation, ``fp32`` on plain
cores, as training computes it here (TF32 off). Bandwidth is that of the device's main memory in bytes/s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Peak:
    """FLOP/s by precision, bytes/s, and where the figures are from."""

    flops_per_s: Mapping[str, int]
    bytes_per_s: int
    source: str


def _tera(bf16: float, fp32: float, terabytes: float, source: str) -> Peak:
    return Peak({"bf16": round(bf16 * 1e12), "fp32": round(fp32 * 1e12)}, round(terabytes * 1e12), source)


_H100 = "NVIDIA H100 Tensor Core GPU datasheet, half of the figures with sparsity"
_A100 = "NVIDIA A100 Tensor Core GPU datasheet"

PEAKS: dict[str, Peak] = {
    "NVIDIA H100 80GB HBM3": _tera(989.5, 67, 3.35, _H100),
    "NVIDIA H100 PCIe": _tera(756.5, 51, 2.0, _H100),
    "NVIDIA H100 NVL": _tera(835.5, 60, 3.9, _H100),
    "NVIDIA H200": _tera(989.5, 67, 4.8, "NVIDIA H200 Tensor Core GPU datasheet, half of the figures with sparsity"),
    "NVIDIA A100-SXM4-40GB": _tera(312, 19.5, 1.555, _A100),
    "NVIDIA A100-SXM4-80GB": _tera(312, 19.5, 2.039, _A100),
    "NVIDIA A100-PCIE-40GB": _tera(312, 19.5, 1.555, _A100),
    "NVIDIA A100 80GB PCIe": _tera(312, 19.5, 1.935, _A100),
    "NVIDIA L4": _tera(121, 30.3, 0.3, "NVIDIA L4 Tensor Core GPU datasheet, half of the figures with sparsity"),
    "NVIDIA L40S": _tera(362.05, 91.6, 0.864, "NVIDIA L40S datasheet, figures without sparsity"),
    "NVIDIA GeForce RTX 4090": _tera(165.2, 82.6, 1.008, "NVIDIA Ada GPU architecture whitepaper, appendix A"),
}


def peak_of(device: str) -> Peak | None:
    """The entry of a device's exact name, or None."""
    return PEAKS.get(device)
