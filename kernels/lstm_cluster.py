"""The recurrence of an LSTM in one launch of CUDA C++: a thread-block cluster owns a few sequences and all of W_hh on chip.

For H from 8 to 768 in steps of 8, padded to the next width of ``csrc/table.csv``, with bf16 or fp16 storage and fp32 state.
``csrc/README.md`` has the design; kernels are built on first use (:mod:`algoprog.kernels.cuda_build`), never at import.
**No GPU has run them yet**: their source has run on a CPU, in an emulation, against float64.

A cluster is scheduled as a whole or not at all and waits for nobody outside it, so any number of launches may share a GPU,
captured or not, without deadlock. A launch needs one cluster to fit, which is checked when the kernel is loaded.

Tensors, time major, gate order i, f, g, o as in torch.nn.LSTM; "kind" is bf16 or fp16. Whatever is not contiguous or does not
start at a multiple of 16 bytes is copied once:
    gates  [T, B, 4H] kind   x W_ih^T + b_ih + b_hh, one product made before
    weight [4H, H]    kind   W_hh
    h0 [B, H] kind, c0 [B, H] fp32   state before the first step
    keep   [T, B]     uint8 or bool  0 clears h and c of a sequence before step t; or None
    hidden [T, B, H]  kind, cell [T, B, H] fp32, saved [T, B, 4H] kind (i, f, g, o after their nonlinearity)   results
Launches go to the current stream of the tensors' device and wait for nothing. Inside graph capture a kernel must have been
loaded by an earlier call with the same H, kind and size of batch.
"""

from __future__ import annotations

import csv
import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from algoprog.kernels import cuda_build
from algoprog.kernels.cuda_driver import LIBRARY, Kernel

OP = "lstm_cluster"
SOURCE = "lstm_cluster.cu"
DTYPES = (torch.bfloat16, torch.float16)
WIDEST = 768


@dataclass(frozen=True)
class Configuration:
    """One row of ``csrc/table.csv``: a kernel's sizes, fixed at compile time, and its budgets.

    Attributes:
        direction: "forward" or "backward".
        hidden: units, padded.
        tile: sequences of a cluster, 8 or 16.
        cluster: blocks of a cluster; more than 8 is beyond what every device of this capability promises.
        held: 16 x 16 fragments of W_hh that a warp keeps in registers; the others lie in shared memory.
        buffers: exchange buffers, 1 or 2.
        shared: bytes of dynamic shared memory per block, exactly.
        registers: per thread, at most, for either storage type.
    """

    direction: str
    hidden: int
    tile: int
    cluster: int
    held: int
    buffers: int
    shared: int
    registers: int

    @property
    def threads(self) -> int:
        """Threads of a block: a warp for 8 units."""
        return self.hidden // self.cluster * 4

    def defines(self, dtype: torch.dtype) -> dict[str, int]:
        """Macros of ``csrc/shape.cuh``."""
        return {
            "LSTM_HIDDEN": self.hidden,
            "LSTM_CLUSTER": self.cluster,
            "LSTM_TILE": self.tile,
            "LSTM_HELD": self.held,
            "LSTM_BUFFERS": self.buffers,
            "LSTM_SHARED": self.shared,
            "LSTM_FP16": int(dtype == torch.float16),
            "LSTM_BACKWARD": int(self.direction == "backward"),
        }


@cache
def table() -> tuple[Configuration, ...]:
    """Every kernel that is built, by direction, padded width and tile."""
    with open(cuda_build.sources() / "table.csv", newline="") as file:
        return tuple(
            Configuration(row["direction"], *(int(row[name]) for name in list(row)[1:])) for row in csv.DictReader(file)
        )


def configurations(direction: str, hidden: int) -> tuple[Configuration, ...]:
    """The rows that serve ``hidden`` units with the least padding, smallest tile first; none above :data:`WIDEST`."""
    wide = [row for row in table() if row.direction == direction and row.hidden >= hidden]
    narrowest = min((row.hidden for row in wide), default=0)
    return tuple(sorted((row for row in wide if row.hidden == narrowest), key=lambda row: row.tile))


def available(hidden: int | None = None, dtype: torch.dtype | None = None) -> str | None:
    """Why these kernels cannot run here, for this width and storage type where they are named; None if they can."""
    if dtype is not None and dtype not in DTYPES:
        return f"it stores bf16 or fp16, not {str(dtype).removeprefix('torch.')}"
    if hidden is not None and not (8 <= hidden <= WIDEST and hidden % 8 == 0):
        return f"it serves multiples of 8 from 8 to {WIDEST}, not width {hidden}"
    if not torch.cuda.is_available():
        return "there is no CUDA GPU"
    capability = torch.cuda.get_device_capability()
    if capability != cuda_build.CAPABILITY:
        return f"it is built for compute capability 9.0 (Hopper), this GPU has {capability[0]}.{capability[1]}"
    try:
        ctypes.CDLL(LIBRARY)
        rows = table() if hidden is None else (*configurations("forward", hidden), *configurations("backward", hidden))
    except (OSError, cuda_build.BuildError) as error:
        return str(error)
    kinds = DTYPES if dtype is None else (dtype,)
    built = all(cuda_build.cached_path(SOURCE, row.defines(kind)).exists() for row in rows for kind in kinds)
    if not built and cuda_build.find_nvcc() is None:
        return "there is no CUDA toolkit (nvcc in CUDA_HOME or on the path), and `make csrc` has not run where there is one"
    return None


def forward(
    gates: Tensor, weight: Tensor, h0: Tensor, c0: Tensor, keep: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """(hidden, cell, saved) of every step.

    Raises:
        ValueError, TypeError: a tensor of another shape, type or device than the module says; nothing is launched then.
        BuildError, CudaError: the kernel cannot be built or loaded here.
    """
    _check_gates("gates", gates)
    (T, B, _), H = gates.shape, gates.shape[2] // 4
    _check("weight", weight, (4 * H, H), gates.dtype, gates)
    _check("h0", h0, (B, H), gates.dtype, gates)
    _check("c0", c0, (B, H), torch.float32, gates)
    flags = _flags(keep, T, B, gates)
    kernel, tile = _kernel("forward", H, gates.dtype, gates.device, B)
    hidden, cell = gates.new_empty((T, B, H)), c0.new_empty((T, B, H))
    saved = gates.new_empty(gates.shape)
    inputs = [_ready(tensor) for tensor in (gates, weight, h0, c0)]
    kernel.launch(-(-B // tile), [*inputs, flags, hidden, cell, saved], [T, B, H])
    return hidden, cell, saved


def backward(
    dhidden: Tensor, dh_n: Tensor, dc_n: Tensor, saved: Tensor, weight: Tensor, c0: Tensor, cell: Tensor,
    keep: Tensor | None, last: Tensor | None, bptt: int,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """(dgates [T, B, 4H] in the storage type, dh0 and dc0 [B, H] fp32).

    dhidden [T, B, H] in the storage type; dh_n, dc_n [B, H] in any: gradients of a sequence's last state, which is that of
    step ``last`` [B] (int64), None for T - 1. bptt: the gradient of the state stops before every step that is a multiple of
    it, 0 excepted. The gradient of ``weight`` is ``dgates^T h``, with h the hidden state that each step saw, and is left to
    one large product.

    Raises:
        ValueError, TypeError: a tensor of another shape, type or device than said; nothing is launched then.
        BuildError, CudaError: the kernel cannot be built or loaded here.
    """
    _check_gates("saved", saved)
    (T, B, _), H = saved.shape, saved.shape[2] // 4
    _check("dhidden", dhidden, (T, B, H), saved.dtype, saved)
    _check("weight", weight, (4 * H, H), saved.dtype, saved)
    _check("cell", cell, (T, B, H), torch.float32, saved)
    _check("c0", c0, (B, H), torch.float32, saved)
    for name, tensor in (("dh_n", dh_n), ("dc_n", dc_n)):
        _check(name, tensor, (B, H), tensor.dtype, saved)
    if last is not None:
        _check("last", last, (B,), torch.int64, saved)
    if bptt < 1:
        raise ValueError(f"{OP}: bptt: expected at least 1, got {bptt}")
    flags = _flags(keep, T, B, saved)
    kernel, tile = _kernel("backward", H, saved.dtype, saved.device, B)
    dgates = saved.new_empty(saved.shape)
    dh0, dc0 = (c0.new_empty((B, H)) for _ in range(2))
    inputs = [_ready(tensor) for tensor in (weight, saved, cell, c0)]
    ends = [_ready(tensor.float()) for tensor in (dh_n, dc_n)]
    stops = None if last is None else _ready(last)
    kernel.launch(
        -(-B // tile), [*inputs, flags, _ready(dhidden), *ends, stops, dgates, dh0, dc0], [T, B, H, min(bptt, T)]
    )
    return dgates, dh0, dc0


def _check_gates(name: str, gates: Tensor) -> None:
    if gates.dtype not in DTYPES:
        raise TypeError(f"{OP}: {name}: expected bfloat16 or float16, got {gates.dtype}")
    if gates.ndim != 3 or gates.numel() == 0 or gates.shape[2] % 32 or gates.shape[2] > 4 * WIDEST:
        wanted = f"shape [T, B, 4H] with T, B >= 1 and H a multiple of 8 up to {WIDEST}"
        raise ValueError(f"{OP}: {name}: expected {wanted}, got {tuple(gates.shape)}")
    if gates.device.type != "cuda":
        raise ValueError(f"{OP}: {name}: expected a CUDA tensor, got one on {gates.device}")


def _check(name: str, tensor: Tensor, shape: Sequence[int], dtype: torch.dtype, like: Tensor) -> None:
    if tuple(tensor.shape) != tuple(shape):
        raise ValueError(f"{OP}: {name}: expected shape {tuple(shape)}, got {tuple(tensor.shape)}")
    if tensor.dtype != dtype:
        raise TypeError(f"{OP}: {name}: expected {dtype}, got {tensor.dtype}")
    if tensor.device != like.device:
        raise ValueError(f"{OP}: {name}: expected a tensor on {like.device}, got one on {tensor.device}")


def _flags(keep: Tensor | None, T: int, B: int, like: Tensor) -> Tensor | None:
    if keep is None:
        return None
    if keep.dtype not in (torch.uint8, torch.bool):
        raise TypeError(f"{OP}: keep: expected uint8 or bool, got {keep.dtype}")
    _check("keep", keep, (T, B), keep.dtype, like)
    return _ready(keep)


def _ready(tensor: Tensor) -> Tensor:
    """As the kernels read it: contiguous, from a multiple of 16 bytes."""
    dense = tensor.contiguous()
    return dense if dense.data_ptr() % 16 == 0 else dense.clone()


def _kernel(direction: str, H: int, dtype: torch.dtype, device: torch.device, B: int) -> tuple[Kernel, int]:
    """The kernel with the smallest tile whose clusters all run at once, else with the largest; and that tile."""
    rows = configurations(direction, H)
    for row in rows:
        kernel = _load(row, dtype, device.index)
        if -(-B // row.tile) <= kernel.resident:
            break
    return kernel, row.tile


@cache
def _load(row: Configuration, dtype: torch.dtype, device: int) -> Kernel:
    if torch.cuda.is_current_stream_capturing():
        raise RuntimeError(
            f"{OP}: expected one call with H up to {row.hidden} and this batch before the graph is captured"
        )
    code = cuda_build.cubin(SOURCE, row.defines(dtype))
    return Kernel(code, f"lstm_{row.direction}", device, row.threads, row.shared, row.cluster)
