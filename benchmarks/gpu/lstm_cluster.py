"""Host side of lstm_cluster.cu: layouts, compilation, launch. Forward only, bf16, on a GPU of compute capability 9.0."""

from __future__ import annotations

import ctypes
from functools import cache

import torch
from cuda_module import Kernel, compile_cubin
from torch import Tensor

# H: (blocks per cluster, sequences per tile, warps); each compiles without spills
CONFIGURATIONS = {
    32: ((1, 8, 4),),
    64: ((1, 8, 4), (1, 8, 8)),
    128: ((1, 8, 8), (1, 8, 16), (2, 8, 8)),
    192: ((2, 16, 12),),
    256: ((4, 16, 8), (8, 16, 4)),
}


def gates_innermost(values: Tensor) -> Tensor:
    """[..., 4H] in the order of PyTorch -> [..., H, 4], flattened to [..., 4H]."""
    H = values.shape[-1] // 4
    return values.view(*values.shape[:-1], 4, H).transpose(-1, -2).flatten(-2).contiguous()


def interleaved(w: Tensor) -> Tensor:
    """W_hh [4H, H] -> [H/8, 2, 16, H]: per group of 8 units 16 rows of i and f, then 16 rows of g and o."""
    H = w.shape[1]
    return w.view(2, 2, H // 8, 8, H).permute(2, 0, 1, 3, 4).reshape(H // 8, 2, 16, H).contiguous()


@cache
def _kernel(H: int, cluster: int, tile: int, warps: int) -> Kernel:
    defines = {"UNITS": H, "CLUSTER": cluster, "TILE": tile, "WARPS": warps}
    shared = (2 * tile * (H + 8) + warps * 64) * 2
    return Kernel(compile_cubin("lstm_cluster.cu", defines), "lstm_cluster", shared, cluster)


def forward(xg: Tensor, w: Tensor, h0: Tensor, c0: Tensor, configuration: tuple[int, int, int]) -> tuple[Tensor, ...]:
    """xg [T, B, 4H] with gates innermost, w as :func:`interleaved`, h0 [B, H] bf16, c0 [B, H] fp32 -> y, h_n, c_n."""
    T, B, H = xg.shape[0], xg.shape[1], xg.shape[2] // 4
    cluster, tile, warps = configuration
    hs = torch.empty((T + 1, B, H), dtype=torch.bfloat16, device=xg.device)
    cs = torch.empty((T + 1, B, H), dtype=torch.float32, device=xg.device)
    hs[0], cs[0] = h0, c0
    pointers = [ctypes.c_void_p(tensor.data_ptr()) for tensor in (xg, w, hs, cs)]
    _kernel(H, cluster, tile, warps).launch(
        -(-B // tile) * cluster,
        warps * 32,
        (*pointers, ctypes.c_int(T), ctypes.c_int(B)),
        torch.cuda.current_stream().cuda_stream,
    )
    return hs[1:], hs[T], cs[T]
