"""One LSTM problem: weights, inputs, upstream gradients, the float64 truth, and the kernels that a call launches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from bench import Bench
from torch import Tensor

TYPES = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
CHECKED = 64  # sequences are independent, so the float64 reference covers this many of the batch

Layer = Callable[[Tensor], Tensor]


class Problem:
    """Weights of one stack, inputs, and upstream gradients that are zero beyond the sequences of the reference."""

    def __init__(self, bench: Bench, dtype: str, H: int, B: int, T: int, layers: int) -> None:
        self.kind, self.dtype, self.shape = TYPES[dtype], dtype, (T, B, H)
        self.module = torch.nn.LSTM(H, H, layers)
        for parameter in self.module.parameters():
            parameter.data = bench.normal(*parameter.shape, dtype=self.kind, scale=0.6 * H**-0.5)
        self.module.to(bench.device, self.kind).flatten_parameters()
        self.x = bench.normal(T, B, H, dtype=self.kind)
        self.dy = bench.normal(T, B, H, dtype=self.kind)
        self.checked = min(CHECKED, B)
        # 16 B T H^2 per layer, of which half is the input product; the backward costs twice that
        self.forward_flops = 16 * layers * B * T * H * H

    def weights(self, kind: torch.dtype) -> tuple[Tensor, ...]:
        """(W_ih, W_hh, b_ih, b_hh) of the only layer, as leaves."""
        return tuple(p.detach().to(kind).clone().requires_grad_() for p in self.module.parameters())

    def truth(self, both: bool) -> dict[str, Tensor]:
        """The same module in float64 on the checked sequences."""
        exact = torch.nn.LSTM(self.shape[2], self.shape[2], self.module.num_layers).to(self.x.device, torch.float64)
        exact.load_state_dict({name: value.double() for name, value in self.module.state_dict().items()})
        x, dy = self.x[:, : self.checked].double(), self.dy[:, : self.checked].double()
        return outcome(lambda v: exact(v)[0], x, dy, tuple(exact.parameters())[:4], both, self.checked)

    def checked_dy(self) -> Tensor:
        """Upstream gradient for the accuracy run: zero outside the checked sequences."""
        dy = self.dy.clone()
        dy[:, self.checked :] = 0
        return dy


def outcome(
    layer: Layer, x: Tensor, dy: Tensor, weights: Sequence[Tensor], both: bool, checked: int
) -> dict[str, Tensor]:
    """Output, and with ``both`` the gradients of input and weights, restricted to the first ``checked`` sequences."""
    x = x.detach().clone().requires_grad_(both)
    with torch.set_grad_enabled(both):
        y = layer(x)
    found = {"y": y[:, :checked].detach()}
    if both:
        dx, dw_ih, dw_hh, db_ih, _ = torch.autograd.grad(y, [x, *weights], dy)
        found |= {"dx": dx[:, :checked], "dw_ih": dw_ih, "dw_hh": dw_hh, "db": db_ih}
    return found


def kernels_of(call: Callable[[], object], device: torch.device) -> dict[str, object]:
    """Names, launches and share of device time of the kernels that ran, longest first; how the algorithm is told."""
    if device.type != "cuda":
        return {"kernels": None, "why": "no device kernels on a CPU"}
    from torch.profiler import ProfilerActivity, profile

    call()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        call()
        torch.cuda.synchronize()
    found = [e for e in profiler.key_averages() if str(e.device_type).endswith("CUDA")]
    if not found:
        return {"kernels": None, "why": "the profiler returned no device events here"}
    total = sum(e.self_device_time_total for e in found) or 1
    found.sort(key=lambda e: -e.self_device_time_total)
    top = [
        {"name": e.key[:160], "launches": e.count, "share": round(e.self_device_time_total / total, 4)}
        for e in found[:6]
    ]
    persistent = any("persist" in e.key.lower() for e in found)
    return {"kernels": top, "launches": sum(e.count for e in found), "persistent": persistent}
