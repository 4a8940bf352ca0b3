"""The CUDA C++ LSTM on a CPU: its own source over an emulated cluster, against float64, in many orders and with faults."""

from __future__ import annotations

import ctypes
import itertools
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from algoprog.kernels import cuda_build, lstm_cluster
from algoprog.kernels.lstm_cluster import Configuration

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")

CAP = {
    torch.bfloat16: 0.02,
    torch.float16: 0.004,
}  # of the plain loop in the same type, else a broken one allows anything
FLOOR = 2e-6  # fp32 sums of up to 3,072 products in another order
AT_ONCE, LATE, ANY_TIME = range(3)  # when messages between blocks land
NONE, EXCHANGE, PAIR, FREE_BUFFER, SENDS = range(5)  # which waits are left out, or all messages
GUARD = 64


def small(cluster: int, tile: int = 8, buffers: int = 2) -> dict[str, Configuration]:
    """64 units in a way that is not built for a GPU, part of the weights in shared memory."""
    row = Configuration("forward", 64, tile, cluster, 4, 2, 0, 0)
    return {"forward": row, "backward": Configuration("backward", 64, tile, cluster, 4, buffers, 0, 0)}


def built(hidden: int, tile: int) -> dict[str, Configuration]:
    """The rows of the table for this width; the backward may have a smaller tile only."""
    rows = {}
    for direction in ("forward", "backward"):
        rows[direction] = [r for r in lstm_cluster.configurations(direction, hidden) if r.tile <= tile][-1]
    return rows


@cache
def library(row: Configuration, dtype: torch.dtype, folder: Path) -> ctypes.CDLL:
    macros = row.defines(dtype)
    if not row.shared:
        del macros["LSTM_SHARED"]
    target = folder / ("-".join(map(str, macros.values())) + ".so")
    flags = ["-std=c++20", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-shared", "-fPIC"]
    source = cuda_build.sources() / "emulate" / "emulate.cpp"
    command = ["g++", *flags, *(f"-D{k}={v}" for k, v in macros.items()), str(source), "-o", str(target)]
    subprocess.run(command, check=True, timeout=200)
    return ctypes.CDLL(str(target))


def guarded(tensor: Tensor) -> Tensor:
    """A copy inside a larger buffer full of NaN (255 for bytes), so that what lies outside shows."""
    poison = 255 if tensor.dtype == torch.uint8 else -1 if tensor.dtype == torch.int64 else float("nan")
    buffer = torch.full((tensor.numel() + 2 * GUARD,), poison, dtype=tensor.dtype)
    inside = buffer[GUARD:-GUARD]
    inside.copy_(tensor.flatten())
    return inside.view(tensor.shape)


def untouched(tensor: Tensor) -> bool:
    """Whether what surrounds a guarded output is still NaN."""
    around = tensor.as_strided((tensor.numel() + 2 * GUARD,), (1,), tensor.storage_offset() - GUARD)
    return bool(around[:GUARD].isnan().all() and around[-GUARD:].isnan().all())


def output(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return guarded(torch.full(shape, float("nan"), dtype=dtype))


@dataclass
class Problem:
    """Inputs and upstream gradients of one layer, all guarded; float64 and plain results of the same."""

    gates: Tensor
    weight: Tensor
    h0: Tensor
    c0: Tensor
    keep: Tensor | None
    dy: Tensor
    dh_n: Tensor
    dc_n: Tensor
    last: Tensor | None = None
    bptt: int = 2**20

    @staticmethod
    def draw(T: int, B: int, H: int, dtype: torch.dtype, seed: int, resets: bool = True, scale: float = 1.0) -> Problem:
        g = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=g)

        return Problem(
            guarded((normal(T, B, 4 * H) * scale).to(dtype)), guarded((normal(4 * H, H) * H**-0.5).to(dtype)),
            guarded(normal(B, H).to(dtype)), guarded(normal(B, H)),
            guarded((torch.rand(T, B, generator=g) > 0.3).to(torch.uint8)) if resets else None,
            guarded(normal(T, B, H).to(dtype)), guarded(normal(B, H).to(dtype).float()), guarded(normal(B, H)),
        )  # fmt: skip

    def plain(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """The loop of the definition in ``dtype``, gradients by autograd."""
        gates, weight, h0, c0 = (
            v.to(dtype).detach().requires_grad_() for v in (self.gates, self.weight, self.h0, self.c0)
        )
        h, c, hidden, cell = h0, c0, [], []
        for t in range(len(gates)):
            if t and t % self.bptt == 0:
                h, c = h.detach(), c.detach()
            if self.keep is not None:
                h, c = (torch.where(self.keep[t, :, None] != 0, v, 0.0) for v in (h, c))
            i, f, g, o = (gates[t] + h @ weight.T).chunk(4, -1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            hidden.append(h)
            cell.append(c)
        H, C = torch.stack(hidden), torch.stack(cell)
        B = gates.shape[1]
        last = torch.full((B,), len(gates) - 1) if self.last is None else self.last
        rows = torch.arange(B)
        loss = (H * self.dy.to(dtype)).sum() + (H[last, rows] * self.dh_n.to(dtype)).sum()
        loss = loss + (C[last, rows] * self.dc_n.to(dtype)).sum()
        found = torch.autograd.grad(loss, (gates, h0, c0))
        return {"hidden": H.detach(), "cell": C.detach(), "dgates": found[0], "dh0": found[1], "dc0": found[2]}


class Wrong(RuntimeError):
    """The emulation stopped the kernel; the message says why."""


def call(function: Any, tensors: list[Tensor | None], numbers: list[int]) -> None:
    function.restype = ctypes.c_char_p
    pointers = [ctypes.c_void_p(None if t is None else t.data_ptr()) for t in tensors]
    if said := function(*pointers, *(ctypes.c_int(n) for n in numbers)):
        raise Wrong(said.decode())


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("emulation")


def emulate(
    p: Problem, rows: dict[str, Configuration], folder: Path, seed: int = 0, delivery: int = ANY_TIME, fault: int = NONE
) -> dict[str, Tensor]:
    (T, B, _), H, kind = p.gates.shape, p.weight.shape[1], p.gates.dtype
    hidden, cell, saved = output((T, B, H), kind), output((T, B, H), torch.float32), output((T, B, 4 * H), kind)
    how = [seed, delivery, fault]
    forward = library(rows["forward"], kind, folder).lstm_forward
    call(forward, [p.gates, p.weight, p.h0, p.c0, p.keep, hidden, cell, saved], [T, B, H, *how])
    dgates, dh0, dc0 = output((T, B, 4 * H), kind), output((B, H), torch.float32), output((B, H), torch.float32)
    found = {"hidden": hidden, "cell": cell, "dgates": dgates, "dh0": dh0, "dc0": dc0}
    tensors = [p.weight, saved, cell, p.c0, p.keep, p.dy, p.dh_n, p.dc_n, p.last, dgates, dh0, dc0]
    backward = library(rows["backward"], kind, folder).lstm_backward
    call(backward, tensors, [T, B, H, min(p.bptt, T), *how])
    for name, tensor in (*found.items(), ("saved", saved)):
        assert untouched(tensor), f"{name}: written outside"
    return found


def error(got: Tensor, want: Tensor) -> float:
    return float((got.double() - want).norm() / want.norm())


def wrong(found: dict[str, Tensor], p: Problem) -> list[str]:
    """What misses the rule: error at most twice that of the plain loop in the same type, both against float64."""
    truth, plain, kind = p.plain(torch.float64), p.plain(p.gates.dtype), p.gates.dtype
    misses = []
    for name, want in truth.items():
        allowed = error(plain[name], want)
        assert allowed < CAP[kind], f"plain {name}: {allowed}"
        mine = error(found[name], want)
        if not mine <= 2 * allowed + FLOOR:
            misses.append(f"{name}: {mine:.1e}, plain {allowed:.1e}")
    return misses


BF16, FP16 = torch.bfloat16, torch.float16
CASES = {
    "one block, H and B off the tile": (built(64, 8), BF16, 5, 11, 56),
    "two blocks, weights in shared memory": (small(2), FP16, 5, 9, 64),
    "one block, tile of 16, one step": (built(32, 16), FP16, 1, 17, 32),
    "two blocks, tile of 16": (built(192, 16), BF16, 3, 13, 152),
    "four blocks": (built(256, 8), BF16, 3, 3, 256),
    "eight blocks, one buffer": (built(512, 16), FP16, 3, 5, 504),
    "sixteen blocks, one buffer": (built(768, 8), BF16, 3, 2, 768),
}


SLOW = (
    "one block, tile of 16, one step",
    "four blocks",
    "eight blocks, one buffer",
)  # what they show, others show as well


@pytest.mark.parametrize("case", [pytest.param(c, marks=pytest.mark.slow) if c in SLOW else c for c in CASES])
def test_the_kernel_matches_float64(case: str, folder: Path) -> None:
    rows, kind, T, B, H = CASES[case]
    p = Problem.draw(T, B, H, kind, seed=len(case))
    assert wrong(emulate(p, rows, folder), p) == []


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    T=st.integers(1, 6), B=st.integers(1, 19), H=st.sampled_from(range(8, 65, 8)), cluster=st.sampled_from([1, 2]),
    resets=st.booleans(), seed=st.integers(0, 2**16), delivery=st.sampled_from([AT_ONCE, LATE, ANY_TIME]),
)  # fmt: skip
def test_any_shape_matches_float64(
    T: int, B: int, H: int, cluster: int, resets: bool, seed: int, delivery: int, folder: Path
) -> None:
    p = Problem.draw(T, B, H, FP16, seed, resets)
    assert wrong(emulate(p, small(cluster), folder, seed, delivery), p) == []


@pytest.mark.parametrize("rows", [small(1), small(2), small(2, buffers=1)])
def test_truncation_and_last_steps(rows: dict[str, Configuration], folder: Path) -> None:
    for bptt, last in itertools.product((1, 2, 3, 7), (None, guarded(torch.tensor([6, 0, 3, 5, 1])))):
        p = Problem.draw(7, 5, 48, FP16, seed=bptt)
        p.bptt, p.last = bptt, last
        assert wrong(emulate(p, rows, folder), p) == [], (bptt, last)


@pytest.mark.parametrize("kind", [BF16, FP16])
def test_saturated_gates_stay_finite(kind: torch.dtype, folder: Path) -> None:
    p = Problem.draw(6, 4, 64, kind, seed=3, scale=1e3)
    rows = built(64, 8) if kind == BF16 else small(1)
    found, truth = emulate(p, rows, folder), p.plain(torch.float64)
    for name, tensor in found.items():
        assert tensor.isfinite().all(), name
    assert error(found["hidden"], truth["hidden"]) < 4e-3 and error(found["cell"], truth["cell"]) < 4e-3


def test_no_order_of_threads_and_messages_changes_a_bit(folder: Path) -> None:
    p = Problem.draw(6, 10, 64, FP16, seed=5)
    for rows in (small(1), small(2), small(2, buffers=1)):
        first = emulate(p, rows, folder)
        for seed, delivery in itertools.product(range(1, 4), (AT_ONCE, LATE, ANY_TIME)):
            again = emulate(p, rows, folder, seed, delivery)
            assert all(torch.equal(first[name], again[name]) for name in first)


def test_windows_with_carried_state_repeat_the_whole_sequence(folder: Path) -> None:
    p, rows = Problem.draw(7, 6, 64, FP16, seed=6), small(2)
    whole, H, B = emulate(p, rows, folder), 64, 6
    h, c, parts = p.h0, p.c0, []
    for start, stop in ((0, 3), (3, 7)):
        assert p.keep is not None
        hidden, cell = output((stop - start, B, H), FP16), output((stop - start, B, H), torch.float32)
        inputs = [guarded(p.gates[start:stop]), p.weight, h, c, guarded(p.keep[start:stop])]
        forward = library(rows["forward"], FP16, folder).lstm_forward
        call(forward, [*inputs, hidden, cell, None], [stop - start, B, H, 1, ANY_TIME, NONE])
        h, c = guarded(hidden[-1]), guarded(cell[-1])
        parts.append((hidden, cell))
    for name, pieces in zip(("hidden", "cell"), zip(*parts, strict=True), strict=True):
        assert torch.equal(torch.cat(pieces), whole[name])


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        (small(1), EXCHANGE),
        (small(2), EXCHANGE),
        (small(1), PAIR),
        (small(2), PAIR),
        (small(2, buffers=1), FREE_BUFFER),
    ],
)
def test_a_missing_wait_is_noticed(rows: dict[str, Configuration], fault: int, folder: Path) -> None:
    """Of eight orders at least one shows it: a stop, NaN, or a result that breaks the rule. With the wait, none does."""
    p = Problem.draw(8, 8, 64, FP16, seed=7)

    def noticed(seed: int, fault: int) -> bool:
        try:
            return bool(wrong(emulate(p, rows, folder, seed, AT_ONCE if seed % 4 < 2 else ANY_TIME, fault), p))
        except Wrong:
            return True

    assert any(noticed(seed, fault) for seed in range(8))
    assert not any(noticed(seed, NONE) for seed in range(8))


def test_a_wait_for_what_never_comes_is_a_deadlock(folder: Path) -> None:
    p = Problem.draw(3, 4, 64, FP16, seed=8)
    with pytest.raises(Wrong, match="deadlock"):
        emulate(p, small(2), folder, fault=SENDS)
