"""A step can be recorded and replayed: the host takes no part in it, and successive steps are the same operations.

Without a GPU nothing can be recorded, so what recording requires is shown instead: every operation of a step runs on a device
that has no values at all (a read by the host raises there, as does a tensor on another device), and two steps in a row
dispatch the same operations with the same numbers on the same storages.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from algoprog.config import BudgetConfig, RunConfig
from algoprog.data.order import make_order
from algoprog.data.store import TokenStore
from algoprog.kernels import FlatAdamW
from algoprog.models import build_model
from algoprog.recipes import resolve
from algoprog.training import device_data
from algoprog.training.clock import Clock
from algoprog.training.engines import Engine, Placement
from algoprog.training.engines.torch_engine import TorchEngine
from algoprog.training.execution import choose_execution
from algoprog.training.loop import Run
from algoprog.training.metrics import MetricBuffer
from algoprog.training.optim import build_optimizer, rate_tensor
from algoprog.training.program import Program
from algoprog.training.step import TrainingStep
from algoprog.training.warm import Programs

ARCHES = ["modern", "retro", "lstm"]
HOST_READS = {"aten._local_scalar_dense.default", "aten.nonzero.default", "aten.masked_select.default"}


def config_of(arch: str, steps: int = 60, **overrides: Any) -> RunConfig:
    model = {"context": 16, **({"bptt": 8} if arch.startswith("lstm") else {}), **overrides.pop("model", {})}
    settings = {"batch": 4, "model": model, "data": {"tokenizer": "bpe-300"}, **overrides}
    return resolve(arch, 16, BudgetConfig(tokens=steps * 64), lr=0.01, overrides=settings)


class Nowhere(TorchEngine):
    """The torch engine on PyTorch's device without values."""

    def __init__(self) -> None:
        self.place = Placement(0, 1, torch.device("meta"), "torch")
        self.grad_norm = None


def step_nowhere(config: RunConfig, store: TokenStore, monkeypatch: pytest.MonkeyPatch) -> TrainingStep:
    monkeypatch.setattr(device_data, "residence", lambda size, device: "device")
    model = build_model(config.model, 0).to("meta")
    # The optimiser that a GPU uses; its plain PyTorch twin stands in for the kernel.
    optimizer = FlatAdamW(model.parameters(), config.optim.lr, max_norm=config.optim.clip)
    step = TrainingStep(config, store, model, optimizer, Nowhere(), 50)
    step.begin(config, make_order(config.data.order, len(store.train), 16, 4, 0), 60)
    return step


@pytest.mark.parametrize("arch", ARCHES)
def test_every_operation_of_a_step_stays_on_the_device(
    arch: str, periodic: TokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = step_nowhere(config_of(arch), periodic, monkeypatch)
    for _ in range(2):
        step()
    assert step.done == 2 and all(p.device.type == "meta" for p in step.model.parameters())


def test_that_device_notices_a_host_read_and_a_tensor_elsewhere(
    periodic: TokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = step_nowhere(config_of("modern"), periodic, monkeypatch)
    inner = step.call
    monkeypatch.setattr(step, "call", lambda *a: (lambda loss, state: (loss * float(loss.detach()), state))(*inner(*a)))
    with pytest.raises(RuntimeError, match="meta"):
        step()
    monkeypatch.setattr(
        step, "call", lambda *a: (lambda loss, state: (loss + torch.ones(2).sum()[None], state))(*inner(*a))
    )
    with pytest.raises(RuntimeError, match="meta"):
        step()


class Dispatched(TorchDispatchMode):
    """Every operation with its numbers and tensors: storages made inside by order of making, others by identity."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, ...]] = []
        self._made: dict[int, int] = {}
        self._alive: list[torch.UntypedStorage] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        described = [self._describe(leaf) for leaf in tree_leaves((args, kwargs or {}))]
        result = func(*args, **(kwargs or {}))
        read = {self._identity(leaf) for leaf in tree_leaves((args, kwargs or {})) if isinstance(leaf, torch.Tensor)}
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and self._identity(leaf) not in read:
                self._made.setdefault(self._identity(leaf), len(self._made))
        if func.namespace != "profiler":  # marks around an optimiser's step, which run nothing
            self.operations.append((str(func), *described))
        return result

    def _identity(self, tensor: torch.Tensor) -> int:
        storage = tensor.untyped_storage()
        self._alive.append(storage)  # else an address could be used twice
        return int(storage._cdata)

    def _describe(self, leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return repr(leaf)
        number = self._identity(leaf)
        origin = ("made", self._made[number]) if number in self._made else ("kept", number)
        return (*origin, tuple(leaf.shape), leaf.stride(), leaf.storage_offset(), leaf.dtype)


def two_steps(program: Program) -> list[list[tuple[Any, ...]]]:
    program.step.load(4)
    program.step()
    program.step()
    found = []
    for _ in range(2):
        with Dispatched() as dispatched:
            program.step()
        found.append(dispatched.operations)
    return found


def program_of(config: RunConfig, store: TokenStore, engine: Engine) -> Program:
    order = make_order(config.data.order, len(store.train), 16, 4, 0)
    program = Programs(store, engine, execution="eager").take(config, order, Clock())
    program.begin(config, order, 60)
    return program


@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_successive_steps_are_the_same_operations_on_the_same_storages(
    arch: str, name: str, periodic: TokenStore, engine: Engine
) -> None:
    program = program_of(config_of(arch, optim={"name": name}), periodic, engine)
    assert program.step.obstacle() is None
    first, second = two_steps(program)
    assert len(first) > 50 and first == second
    assert not HOST_READS & {operation[0] for operation in first}


@pytest.mark.parametrize(
    ("overrides", "obstacle"),
    [({"optim": {"name": "rmsprop"}}, "learning rate of RMSprop"), ({"model": {"dropout": 0.1}}, "dropout masks")],
)
def test_what_the_host_decides_is_named(
    overrides: dict[str, Any], obstacle: str, periodic: TokenStore, engine: Engine
) -> None:
    arch = "lstm" if "model" in overrides else "modern"
    program = program_of(config_of(arch, **overrides), periodic, engine)
    assert obstacle in str(program.step.obstacle())
    if arch == "modern":  # the rate is a number in the list of operations, so the comparison above can fail
        first, second = two_steps(program)
        assert first != second


@pytest.mark.parametrize("arch", ARCHES)
def test_the_host_reads_nothing_between_drains(
    arch: str, periodic: TokenStore, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reads are counted where they are dispatched. PyTorch's fused optimisers read a rate below that, on a CPU only."""
    reads = {"drain": 0, "elsewhere": 0}
    where = ["elsewhere"]

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            reads[where[0]] += str(func) in HOST_READS
            return func(*args, **(kwargs or {}))

    drain: Callable[..., Any] = MetricBuffer.drain

    def counted(*args: Any) -> Any:
        where[0], before = "drain", reads["drain"]
        try:
            return drain(*args)
        finally:
            where[0] = "elsewhere"
            drains.append(reads["drain"] - before)

    drains: list[int] = []
    monkeypatch.setattr(MetricBuffer, "drain", counted)
    run = Run(config_of(arch, steps=400), Programs(periodic, engine))
    with Count():
        for _ in range(20):
            assert run.launch()
            run.collect()
    assert len(drains) == 20 and reads["elsewhere"] == 0 and run.step.done >= 40


def test_rates_on_the_device_have_every_bit(engine: Engine) -> None:
    config = config_of("modern")
    model = build_model(config.model, 0)
    table = torch.zeros((), dtype=torch.float64)
    assert rate_tensor(build_optimizer(config.optim, model), engine, table) is table
    rmsprop = config.optim.model_copy(update={"name": "rmsprop"})
    assert rate_tensor(build_optimizer(rmsprop, model), engine, table) is None
    elsewhere = rate_tensor(build_optimizer(config.optim, model), engine, table.to("meta"))  # stands for a GPU
    assert elsewhere is not None and elsewhere.dtype == torch.float32
    distributed = Nowhere()
    distributed.place = dataclasses.replace(distributed.place, world=2)
    assert rate_tensor(build_optimizer(config.optim, model), distributed, table) is None


def test_a_ring_of_metrics_is_indexed_on_the_device(engine: Engine) -> None:
    buffer, at = MetricBuffer(3, engine), torch.zeros(1, dtype=torch.int64)
    for value in (1.0, 2.0, math.nan):
        buffer.record(torch.tensor(value), torch.tensor(10 * value), at)
        at.add_(1)
    rows = buffer.drain(3, []).rows
    assert rows[:2] == [(1.0, 10.0), (2.0, 20.0)] and math.isnan(rows[2][0])


@pytest.mark.parametrize("request_", ["auto", "eager", "capture"])
def test_the_choice_of_execution_is_recorded(request_: str) -> None:
    cpu, gpu = (Placement(0, 1, torch.device(name), "torch") for name in ("cpu", "cuda"))
    on_cpu, on_gpu = choose_execution(request_, cpu, None), choose_execution(request_, gpu, None)
    refused = choose_execution(request_, gpu, "because")
    assert on_cpu.mode == refused.mode == "eager" and on_gpu.mode == ("capture" if request_ == "capture" else "eager")
    if request_ == "capture":
        assert "CUDA device, not cpu" in on_cpu.reason and refused.reason == "because"
