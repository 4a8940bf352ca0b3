"""What a case gets to measure with, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from accuracy import Accuracy, relative_error
from device import Nvml, bf16_peak, environment
from timing import Call, Timing, clones_for, measure


@dataclass(frozen=True)
class Measurement:
    """The result of one case.

    ``amounts``: work per call by name (``bytes``, ``flops``, ``tokens``, ...), from which the speeds follow. ``facts``: what is
    not a speed (kernel names, sizes, an answer). Without a timing the row is an answer and not a speed.
    """

    accuracy: Accuracy
    timing: Timing | None = None
    amounts: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


class Unsupported(Exception):
    """This case cannot run here, and why: it becomes a row, not a fault."""


@dataclass(frozen=True)
class Case:
    """One row to be. ``key`` is JSON and names the case; ``part`` groups cases that take one start together."""

    part: str
    key: Mapping[str, Any]
    measure: Callable[[Bench], Measurement]


class Bench:
    """The device of this process, with ceilings measured in this process."""

    def __init__(self, device: str, tiny: bool) -> None:
        self.device = torch.device(device)
        if self.device.type == "cuda" and not torch.cuda.is_available():
            raise Unsupported("torch sees no CUDA device; try the scripts out with --device cpu --tiny --out FOLDER")
        self.tiny = tiny
        self.nvml = Nvml(self.device)
        self.environment = environment(self.device, self.nvml)
        self.generator = torch.Generator(self.device).manual_seed(20240607)

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32, scale: float = 1.0) -> torch.Tensor:
        """Fresh normal values on the device, rounded to ``dtype``. Never zeros: those can run faster than real data."""
        values = torch.randn(*shape, device=self.device, generator=self.generator)
        return (values * scale).to(dtype)

    def integers(self, high: int, *shape: int) -> torch.Tensor:
        """Uniform int64 values in [0, high)."""
        return torch.randint(high, shape, device=self.device, generator=self.generator)

    def warm_up(self) -> None:
        """About a second of products, so that the clock has risen before the first row."""
        if self.device.type != "cuda":
            return
        a = self.normal(8192, 8192, dtype=torch.bfloat16)
        for _ in range(600):
            a @ a
        torch.cuda.synchronize()

    @cached_property
    def ceilings(self) -> dict[str, float | None]:
        """Copy bandwidth (read + write), bf16 product rate and the gap between two nodes of a graph, in this process."""
        size = 1 << (30 if self.device.type == "cuda" else 20)
        source = torch.randint(255, (size,), dtype=torch.uint8, device=self.device)
        target = torch.empty_like(source)
        copy = measure([lambda: target.copy_(source)], self.device)
        assert torch.equal(source, target), "a copy differs from its source"
        side = 8192 if self.device.type == "cuda" else 128
        a, b = (self.normal(side, side, dtype=torch.bfloat16) for _ in range(2))
        product = measure([lambda: a @ b], self.device)
        error = relative_error(a[:64] @ b, a[:64].double() @ b.double())
        assert error < 0.01, f"a product in bf16 is off by {error:.1e}"
        one = torch.zeros(1, device=self.device)
        gap = measure([lambda: one.add_(1)] * 64, self.device)
        return {
            "copy_bytes_per_s": 2 * size / copy.median_s,
            "matmul_flops_per_s": 2 * side**3 / product.median_s,
            "launch_s": gap.median_s,
            "bf16_peak_flops_per_s": bf16_peak(self.environment["device"]["name"]),
        }

    def time(self, calls: Sequence[Call], bytes_of_one: int = 0, graph: bool = True) -> Timing:
        """See :func:`timing.measure`."""
        return measure(calls, self.device, bytes_of_one, graph)

    def clones(self, bytes_of_one: int, at_most: int = 64) -> int:
        """See :func:`timing.clones_for`."""
        return clones_for(bytes_of_one, self.device, at_most)


def row_fields(result: Measurement, ceilings: Mapping[str, float | None]) -> dict[str, Any]:
    """The part of a row that comes from a measurement. Without verified accuracy every speed is null and the reason given."""
    timing, verified = result.timing, result.accuracy.verified
    fast = verified and timing is not None
    status = "measured" if fast else "answered" if verified else "inaccurate"
    fields: dict[str, Any] = {
        "status": status,
        "reason": None if verified else result.accuracy.complaint(),
        "median_s": None,
        "iqr_s": None,
        "n": None,
        "speed": None,
        "timing": None,
        "accuracy": {"verified": verified, "checks": [check.as_dict() for check in result.accuracy.checks]},
        "facts": dict(result.facts),
    }
    if fast and timing is not None:
        fields |= {"median_s": timing.median_s, "iqr_s": timing.iqr_s, "n": timing.n}
        fields["speed"] = _speeds(result.amounts, timing.median_s, ceilings)
        fields["timing"] = {
            "method": timing.method,
            "calls_per_sample": timing.calls_per_sample,
            "input_clones": timing.clones,
            "cold_l2": timing.cold,
            "first_call_s": timing.first_call_s,
            "note": timing.note,
        }
    return fields


def _speeds(
    amounts: Mapping[str, float], seconds: float, ceilings: Mapping[str, float | None]
) -> dict[str, float | None]:
    speeds: dict[str, float | None] = {f"{name}_per_s": amount / seconds for name, amount in amounts.items()}
    for name, singular in (("steps", "step"), ("tokens", "token")):
        if name in amounts:
            speeds[f"seconds_per_{singular}"] = seconds / amounts[name]
    speeds["above_launch_s"] = seconds - (ceilings["launch_s"] or 0.0)
    shares = (
        ("copy_share", "bytes_per_s", "copy_bytes_per_s"),
        ("matmul_share", "flops_per_s", "matmul_flops_per_s"),
        ("mfu", "model_flops_per_s", "bf16_peak_flops_per_s"),
    )
    for name, speed, ceiling in shares:
        rate, top = speeds.get(speed), ceilings[ceiling]
        if rate is not None:
            speeds[name] = rate / top if top else None
    return speeds
