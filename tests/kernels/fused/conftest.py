"""Fused kernels against the reference: on a GPU where there is one, else in Triton's interpreter.

The interpreter has to be chosen before triton is imported (TRITON_INTERPRET=1), so ``test_interpreted.py`` runs these files
in processes of their own; without interpreter and GPU they are not collected.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from scipy.stats import f
from torch import Tensor

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
if not (INTERPRETED or torch.cuda.is_available()):
    collect_ignore_glob = ["test_*.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not INTERPRETED and "kernels/fused" in item.path.as_posix():
            item.add_marker(pytest.mark.gpu)


@pytest.fixture
def device() -> torch.device:
    return torch.device("cpu" if INTERPRETED else "cuda")


@pytest.fixture(autouse=True)
def poisoned_memory() -> Iterator[None]:
    """Whatever comes from ``empty`` starts as NaN, so that an element that no program wrote shows."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(autouse=True, scope="session")
def rounded_bf16() -> Iterator[None]:
    """The interpreter cuts off bits when it casts fp32 to bf16; a GPU rounds to nearest even, and so does this."""
    if not INTERPRETED:
        yield
        return
    import numpy as np
    import triton.language as tl
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    stock = InterpreterBuilder.create_fp_trunc

    def create_fp_trunc(self: Any, source: Any, kind: Any) -> Any:
        if source.dtype.scalar != tl.float32 or kind.scalar != tl.bfloat16:
            return stock(self, source, kind)
        bits = np.ascontiguousarray(source.data).view(np.uint32).astype(np.uint64)
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        return TensorHandle(np.where(np.isnan(source.data), 0x7FC0, rounded).astype(np.uint16), tl.bfloat16)

    InterpreterBuilder.create_fp_trunc = create_fp_trunc
    yield
    InterpreterBuilder.create_fp_trunc = stock


def seed() -> int:
    """A fresh seed, or that of ``ALGOPROG_TEST_SEED``; printed when a test fails."""
    chosen = int(os.environ.get("ALGOPROG_TEST_SEED", random.SystemRandom().randrange(2**31)))
    print(f"ALGOPROG_TEST_SEED={chosen}")
    return chosen


@pytest.fixture
def any_width() -> int:
    """A width of 8 to 8,192, another one in every run, small ones as likely as large ones."""
    return int(8 * 1024 ** random.Random(seed()).random())


@pytest.fixture
def draw(device: torch.device) -> Callable[..., Tensor]:
    """``draw(*shape, dtype=, scale=, mean=, layout=)``: a fresh random leaf; its seed is printed when a test fails.

    Layouts: "plain"; "misaligned" starts one element after a 16-byte boundary and has padded rows; "transposed" has its
    last two dimensions swapped; "expanded" repeats one row. All lie inside a larger buffer of NaN.
    """
    generator = torch.Generator().manual_seed(seed())

    def make(
        *shape: int, dtype: torch.dtype = torch.float32, scale: float = 1.0, mean: float = 0.0, layout: str = "plain"
    ) -> Tensor:
        values = (mean + scale * torch.randn(shape, generator=generator)).to(dtype)
        if layout == "expanded":
            values = values[:1].expand(shape)
        strides = _strides(values, layout)
        start = 65 if layout == "misaligned" else 64
        length = start + sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) + 65
        buffer = torch.full((max(length, 130),), float("nan"), dtype=dtype, device=device)
        view = buffer.as_strided(shape, strides, start)
        if layout == "expanded":
            view[:1].copy_(values[:1])
        else:
            view.copy_(values)
        return view.detach().requires_grad_()

    return make


def _strides(values: Tensor, layout: str) -> tuple[int, ...]:
    shape = values.shape
    if layout == "transposed":
        return torch.empty(*shape[:-2], shape[-1], shape[-2], device="meta").transpose(-1, -2).stride()
    if layout == "misaligned":
        return torch.empty(*shape[:-1], shape[-1] + 3, device="meta")[..., : shape[-1]].stride()
    if layout == "expanded":
        return (0, *torch.empty(shape[1:], device="meta").stride())
    return torch.empty(shape, device="meta").stride()


EAGER_CAP = {torch.float32: 1e-5, torch.bfloat16: 0.02, torch.float16: 0.005}
# fp32: one unit in the last place, the rounding of the statistics and of special functions, which is the same for all
# elements of a row and so does not average out. Else: a tenth of one rounding of the output.
FLOOR = {torch.float32: 2.0**-23, torch.bfloat16: 4e-4, torch.float16: 5e-5}


def results(function: Callable[..., Any], arguments: tuple[Any, ...], upstream: list[Tensor]) -> list[Tensor]:
    """Outputs and the gradients of all tensors that require one, for fixed upstream gradients (as many as are given)."""
    leaves = [a for a in arguments if isinstance(a, Tensor) and a.requires_grad]
    for leaf in leaves:
        leaf.grad = None
    outputs = function(*arguments)
    outputs = list(outputs) if isinstance(outputs, tuple) else [outputs]
    for output in outputs[len(upstream) :]:
        upstream.append(torch.randn(output.shape, generator=torch.Generator().manual_seed(len(upstream))))
    torch.autograd.backward(outputs, [u.to(o) for u, o in zip(upstream, outputs, strict=True)])
    found = [*outputs, *(leaf.grad for leaf in leaves)]
    return [x.detach().double().cpu() for x in found]


def chance(elements: int) -> float:
    """By what factor an error may exceed the reference's: 2, or more where so few roundings differ that much by chance.

    The quotient of two mean squares of as many roundings is F-distributed; one in 100,000 lies beyond.
    """
    return min(max(2.0, float(f.ppf(1 - 1e-5, elements, elements)) ** 0.5), 25.0)


@pytest.fixture
def agree() -> Callable[..., None]:
    """``agree(fused, reference, *arguments)``: at most :func:`chance` times the error of the reference in the same type,
    plus the floor."""

    def check(fused: Callable[..., Any], reference: Callable[..., Any], *arguments: Any) -> None:
        dtype = max((a.dtype for a in arguments if isinstance(a, Tensor)), key=lambda kind: torch.finfo(kind).eps)
        upstream: list[Tensor] = []
        exact_arguments = tuple(
            a.detach().double().requires_grad_() if isinstance(a, Tensor) and a.requires_grad else a for a in arguments
        )
        exact = results(reference, exact_arguments, upstream)
        upstream = [u.to(dtype).double() for u in upstream]
        exact = results(reference, exact_arguments, upstream)
        eager = results(reference, arguments, upstream)
        got = results(fused, arguments, upstream)
        assert len(got) == len(eager) == len(exact)
        for i, (ours, plain, truth) in enumerate(zip(got, eager, exact, strict=True)):
            assert ours.shape == truth.shape
            assert not ours.isnan().any(), f"result {i} has NaN"
            size = truth.norm().clamp_min(1e-30)
            error, allowed = (ours - truth).norm() / size, (plain - truth).norm() / size
            cap = EAGER_CAP[dtype] * chance(truth.numel()) / 2
            assert allowed <= cap, f"result {i}: the eager reference is off by {allowed:.1e}"
            # A sum of n terms that is added one by one, as the interpreter does, loses the square root of n roundings.
            rows = exact[0].shape[:-1].numel() if truth.ndim == 1 < exact[0].ndim else 0
            floor = FLOOR[dtype] + 2.0**-24 * max(rows, getattr(fused, "summed_terms", 0)) ** 0.5
            assert error <= chance(truth.numel()) * allowed + floor, (
                f"result {i}: error {error:.2e}, eager {allowed:.2e}"
            )

    return check


@pytest.fixture
def only_program(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """``only_program(n)``: of every grid the interpreter runs program n of axis 0 alone, so that one tile stands for a
    grid too large to run. Memory is not poisoned: pages that nobody touches cost nothing."""
    if not INTERPRETED:
        pytest.skip("for the interpreter; tests/gpu has tensors of that size")
    from triton.runtime.interpreter import GridExecutor, InterpreterBuilder, TensorHandle

    program_id, launch = InterpreterBuilder.create_get_program_id, GridExecutor.__call__

    torch.utils.deterministic.fill_uninitialized_memory = False

    def choose(n: int) -> None:
        def create_get_program_id(self: Any, axis: int) -> Any:
            handle = program_id(self, axis)
            return TensorHandle(handle.data + n, handle.dtype) if axis == 0 else handle

        def launch_one(self: Any, *args: Any, **kwargs: Any) -> Any:
            assert self.grid[0] > n, "the grid does not have this program"
            self.grid = (1, *self.grid[1:])
            return launch(self, *args, **kwargs)

        monkeypatch.setattr(InterpreterBuilder, "create_get_program_id", create_get_program_id)
        monkeypatch.setattr(GridExecutor, "__call__", launch_one)

    return choose
