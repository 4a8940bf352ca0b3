"""The LSTM: one operation over several kernels, the choice between them, and a module with PyTorch's parameters.

| kernel | what it is | serves |
| --- | --- | --- |
| library | PyTorch's own operator: cuDNN on a GPU, window by window with ``bptt`` | everything but resets and lengths |
| steps | the reference in elementary operations, step by step | everything, slowly |
| tile | Triton, weights on chip, whole sequence in one launch | GPU, H <= 128 (fp32: 64) |
| group | Triton, weights streamed from L2, whole sequence in one launch | GPU, H <= 1024 |
| cluster | CUDA C++, weights spread over a thread-block cluster | Hopper, H <= 768, bf16 and fp16, where it is built |

"auto" takes the library where it can serve, but a kernel of ours where a row of :mod:`algoprog.kernels.lstm_table` says that
it is faster on this very device. No such row exists yet: cuDNN is what is known to work, and that tile and group beat it for
bf16 at H <= 128 and lose from H = 512 on is a prediction. What the library cannot serve goes to "steps" on a CPU and to tile
or group on a GPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from algoprog.kernels import lstm_table, reference

Kernel = Literal["library", "steps", "tile", "group", "cluster"]
FUSED = ("tile", "group", "cluster")
KERNELS = ("library", "steps", *FUSED)


@dataclass(frozen=True)
class Chosen:
    """A kernel and why."""

    kernel: Kernel
    reason: str


def choose(
    hidden: int, batch: int, dtype: torch.dtype, device: torch.device, masked: bool = False, wanted: str = "auto"
) -> Chosen:
    """The kernel for a layer of this width, batch and type; ``masked`` says that there are resets or lengths.

    Raises:
        ValueError: ``wanted`` is unknown, or names a kernel that cannot serve.
    """
    if wanted == "auto":
        return _auto(hidden, batch, dtype, device, masked)
    if wanted not in KERNELS:
        raise ValueError(f"lstm: kernel: expected auto, {', '.join(KERNELS)}, got {wanted!r}")
    obstacle = why_not(wanted, hidden, dtype, device, masked)
    if obstacle is not None:
        raise ValueError(f"lstm: kernel: expected one that can serve, got {wanted!r}: {obstacle}")
    return Chosen(wanted, "requested")  # type: ignore[arg-type]


# A compiled model keeps its choice. This is all that torch.compiler.assume_constant_result does, but calling that imports the
# compiler, seconds of work, into every process; tests compile the whole model and would notice another mark.
choose._dynamo_marked_constant = True  # type: ignore[attr-defined]


def why_not(kernel: str, hidden: int, dtype: torch.dtype, device: torch.device, masked: bool) -> str | None:
    """What keeps a kernel from serving; None if nothing does."""
    if kernel == "steps":
        return None
    if kernel == "library":
        return "PyTorch's operator knows neither resets nor lengths" if masked else None
    from algoprog.kernels import dispatch

    obstacle = dispatch.why_not_fused(device, dtype)
    if obstacle is not None:
        return obstacle
    from algoprog.kernels.fused import lstm as fused

    return fused.why_not(kernel, hidden, dtype)


def _auto(hidden: int, batch: int, dtype: torch.dtype, device: torch.device, masked: bool) -> Chosen:
    if device.type != "cuda":
        if masked:
            return Chosen("steps", f"{device.type}: PyTorch's operator knows neither resets nor lengths")
        return Chosen("library", f"{device.type}: PyTorch's own operator")
    kind, name = str(dtype).removeprefix("torch."), torch.cuda.get_device_name(device)
    row = lstm_table.fastest(lstm_table.rows(), name, kind, hidden, batch)
    if row is not None and why_not(row.kernel, hidden, dtype, device, masked) is None:
        said = f"{row.us_per_step:.2f} us per step measured at batch {row.batch} on {name}"
        return Chosen(row.kernel, said)  # type: ignore[arg-type]
    if not masked:
        return Chosen("library", f"no measurement for width {hidden}, batch {batch} on {name}")
    for kernel in ("tile", "group"):
        if why_not(kernel, hidden, dtype, device, masked) is None:
            return Chosen(kernel, "cuDNN knows neither resets nor lengths")
    return Chosen("steps", f"neither cuDNN nor a fused kernel serves {kind} at width {hidden} with resets or lengths")


def lstm(
    x: Tensor,
    state: tuple[Tensor, Tensor],
    weights: tuple[Tensor, Tensor],
    biases: tuple[Tensor, Tensor] | None,
    *,
    keep: Tensor | None = None,
    lengths: Tensor | None = None,
    bptt: int | None = None,
    kernel: str = "auto",
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """As :func:`algoprog.kernels.reference.lstm`, by the kernel that :func:`choose` picks.

    A kernel of ours keeps the cell state in fp32 throughout and returns it so.

    Raises:
        ValueError: a bad argument, or a kernel that cannot serve.
    """
    masked = keep is not None or lengths is not None
    chosen = choose(weights[1].shape[1], x.shape[0], x.dtype, x.device, masked, kernel).kernel
    if chosen in FUSED:
        from algoprog.kernels.fused import lstm as fused

        return fused.lstm(x, state, weights, biases, keep=keep, lengths=lengths, bptt=bptt, kernel=chosen)
    if chosen == "steps":
        return reference.lstm_steps(x, state, weights, biases, keep=keep, lengths=lengths, bptt=bptt)
    return reference.lstm(x, state, weights, biases, bptt=bptt)


class LSTM(nn.Module):
    """A stack of LSTM layers; its state dict is that of ``torch.nn.LSTM(input_size, hidden_size, num_layers, bias)``.

    ``batch_first`` and the initial weights (uniform within H^-1/2) are PyTorch's. What :class:`torch.nn.LSTM` cannot: resets
    within a sequence, truncated gradients, fp32 state over bf16, and tracing without graph breaks with a kernel of ours.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        *,
        kernel: str = "auto",
        bptt: int | None = None,
    ) -> None:
        """``kernel``: see the table above; ``bptt``: steps that gradients flow through the state, None for all.

        Raises:
            ValueError: a size below 1, or an unknown kernel.
        """
        super().__init__()
        for name, value in (("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers)):
            if value < 1:
                raise ValueError(f"LSTM: {name}: expected at least 1, got {value}")
        if kernel not in ("auto", *KERNELS):
            raise ValueError(f"LSTM: kernel: expected auto, {', '.join(KERNELS)}, got {kernel!r}")
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.kernel, self.bptt = bias, batch_first, kernel, bptt
        for layer in range(num_layers):
            width = input_size if layer == 0 else hidden_size
            self.register_parameter(f"weight_ih_l{layer}", nn.Parameter(torch.empty(4 * hidden_size, width)))
            self.register_parameter(f"weight_hh_l{layer}", nn.Parameter(torch.empty(4 * hidden_size, hidden_size)))
            for name in ("bias_ih", "bias_hh") if bias else ():
                self.register_parameter(f"{name}_l{layer}", nn.Parameter(torch.empty(4 * hidden_size)))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Every parameter uniform within ``hidden_size ** -0.5``, as in :class:`torch.nn.LSTM`."""
        for parameter in self.parameters():
            parameter.uniform_(-1 / math.sqrt(self.hidden_size), 1 / math.sqrt(self.hidden_size))

    def forward(
        self,
        x: Tensor,
        state: tuple[Tensor, Tensor] | None = None,
        *,
        keep: Tensor | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Outputs of the last layer, and (h, c) of all, each [layers, B, H].

        x: [T, B, I], or [B, T, I] with ``batch_first``; state as returned, None for zeros. keep, lengths: as for
        :func:`algoprog.kernels.reference.lstm`, [B, T] and [B] whatever ``batch_first``; they hold for every layer.
        """
        x = x if self.batch_first else x.transpose(0, 1)
        if state is None:
            zeros = x.new_zeros(self.num_layers, x.shape[0], self.hidden_size)
            state = (zeros, zeros)
        after = []
        for layer in range(self.num_layers):
            weights = (self.get_parameter(f"weight_ih_l{layer}"), self.get_parameter(f"weight_hh_l{layer}"))
            biases = None
            if self.bias:
                biases = (self.get_parameter(f"bias_ih_l{layer}"), self.get_parameter(f"bias_hh_l{layer}"))
            before = (state[0][layer : layer + 1], state[1][layer : layer + 1])
            x, last = lstm(x, before, weights, biases, keep=keep, lengths=lengths, bptt=self.bptt, kernel=self.kernel)
            after.append(last)
        h, c = (torch.cat(parts) for parts in zip(*after, strict=True))
        return x if self.batch_first else x.transpose(0, 1), (h, c)
