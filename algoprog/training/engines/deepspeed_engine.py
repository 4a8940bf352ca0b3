"""The DeepSpeed engine: our own optimiser, schedule and batches through ``deepspeed.initialize``.

ZeRO stage 0, the default, equals DistributedDataParallel (bit for bit up to two ranks), our clip included. From stage 1 on
gradients and optimiser state are shared out between ranks (Rajbhandari et al. 2020), so no rank can clip by itself: DeepSpeed
clips, rounds otherwise than PyTorch does, and the run is marked as one that another engine does not repeat bit for bit.

DeepSpeed is imported here and nowhere else, when the engine is opened. Two of its habits are switched off: it compiles a
shared-memory op for CPU ranks (a minute of compiler time; gloo takes over), and it needs mpi4py unless the environment
names a rank.
"""

from __future__ import annotations

import os
import re
import socket
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from algoprog.config import InputError
from algoprog.training.engines.deepspeed_settings import DeepSpeedSettings
from algoprog.training.engines.torch_engine import TorchEngine
from algoprog.training.engines.zero import Partitioned

OLDEST = (0, 18, 9)
"""Before it, gradients of bf16 models could be left as they were between steps at stage 0."""


def _import_deepspeed() -> Any:
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    try:
        import deepspeed
    except ModuleNotFoundError:
        raise InputError(
            "the deepspeed engine needs DeepSpeed, which is not installed",
            where="--engine",
            remedy='pip install "algoprog[deepspeed]", or use --engine torch',
        ) from None
    check_version(deepspeed.__version__)
    # It calls functions that PyTorch is about to rename, some of them in every step.
    warnings.filterwarnings("ignore", message=r"`torch\.distributed\.\w+` is deprecated", category=FutureWarning)
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


def check_version(version: str) -> None:
    """Refuse a DeepSpeed that is too old.

    Raises:
        InputError: ``version`` is before :data:`OLDEST`.
    """
    if tuple(int(part) for part in re.findall(r"\d+", version)[:3]) < OLDEST:
        raise InputError(
            "this DeepSpeed is too old",
            where="--engine",
            got=version,
            expected=f"at least {'.'.join(map(str, OLDEST))}",
            remedy='pip install --upgrade "algoprog[deepspeed]", or use --engine torch',
        )


def _announce_single_rank() -> None:
    """Without a launcher DeepSpeed asks MPI for its rank; say that this is the only one."""
    if "RANK" in os.environ:
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))


class DeepSpeedEngine(TorchEngine):
    """Steps through ``deepspeed.initialize``; the optimiser object is ours, handed over."""

    name = "deepspeed"

    def __init__(self, settings: DeepSpeedSettings | None = None) -> None:
        self._deepspeed = _import_deepspeed()
        self.settings = settings or DeepSpeedSettings()
        _announce_single_rank()
        super().__init__()

    def _join(self, backend: str) -> None:
        self._deepspeed.init_distributed(dist_backend=backend, verbose=False)

    def adopt(self, model: nn.Module, optimizer: torch.optim.Optimizer, max_norm: float | None) -> nn.Module:
        self._optimizer = optimizer
        config = self.settings.config(max_norm)
        self._engine, *_ = self._deepspeed.initialize(model=model, optimizer=optimizer, config=config)
        self._zero: Partitioned | None = None
        if self.settings.delegates_clip:
            self._zero = Partitioned(self.settings.stage, self._engine.optimizer, model, optimizer)
            self.grad_norm = torch.zeros((), device=self.place.device)
        return self._engine  # type: ignore[no-any-return]

    def capture_obstacle(self) -> str | None:
        return "DeepSpeed has no training step that can be recorded"

    def accumulating(self, last: bool) -> AbstractContextManager[None]:
        self._engine.set_gradient_accumulation_boundary(last)
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        self._engine.backward(loss)

    def update(self) -> None:
        self._engine.step()
        if (
            self.grad_norm is not None
        ):  # DeepSpeed leaves out a step whose gradient is not finite, and says so only here
            self.grad_norm.fill_(self._engine.get_global_grad_norm() if self._engine.was_step_applied() else torch.inf)

    def weights(self, model: nn.Module) -> dict[str, Tensor]:
        return super().weights(model) if self._zero is None else self._zero.weights()

    def optimizer_state(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
        return super().optimizer_state(model, optimizer) if self._zero is None else self._zero.optimizer_state()

    def load(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        weights: Mapping[str, Tensor],
        state: Mapping[str, Tensor],
    ) -> None:
        if self._zero is None:
            super().load(model, optimizer, weights, state)
        else:
            self._zero.load(weights, state)

    def restart(self, model: nn.Module, optimizer: torch.optim.Optimizer, weights: Mapping[str, Tensor]) -> None:
        if self._zero is None:
            super().restart(model, optimizer, weights)
        else:
            self._zero.restart(weights)

    def whole_model(self, model: nn.Module, build: Callable[[], nn.Module]) -> nn.Module:
        if self.settings.stage < 3:
            return model
        whole = build().to(self.place.device)
        whole.load_state_dict(self.weights(model))
        return whole

    def record(self) -> Mapping[str, Any]:
        return {
            "deterministic_across_engines": self.place.world <= 2 and not self.settings.delegates_clip,
            "deepspeed": {"version": self._deepspeed.__version__, "zero_stage": self.settings.stage},
        }
