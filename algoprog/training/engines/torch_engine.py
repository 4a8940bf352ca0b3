"""The reference engine: eager PyTorch, with DistributedDataParallel when a launcher announces more than one rank."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from algoprog.training.engines import Placement
from algoprog.training.optimizer_state import load_named_state, named_state, rest


def launched_rank() -> tuple[int, int, int]:
    """(rank, world size, local rank) from the launcher's environment; a world of one without a launcher."""
    return (
        int(os.environ.get("RANK", "0")),
        int(os.environ.get("WORLD_SIZE", "1")),
        int(os.environ.get("LOCAL_RANK", "0")),
    )


class TorchEngine:
    """Eager steps; gradients are averaged by DistributedDataParallel when the world is larger than one."""

    name = "torch"
    grad_norm: Tensor | None = None

    def __init__(self) -> None:
        rank, world, local_rank = launched_rank()
        device = torch.device("cuda", local_rank) if torch.cuda.is_available() else torch.device("cpu")
        if device.type == "cuda":
            torch.cuda.set_device(device)
            torch.backends.cudnn.allow_tf32 = False  # else an LSTM in "fp32" would compute in TF32, a transformer not
        elif world > 1 and "OMP_NUM_THREADS" not in os.environ:
            # Ranks on one machine share its cores; more threads than cores is ten times slower.
            torch.set_num_threads(max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", world))))
        self.place = Placement(rank, world, device, self.name)
        self._join("nccl" if device.type == "cuda" else "gloo")

    def _join(self, backend: str) -> None:
        if self.place.world > 1:
            dist.init_process_group(backend)

    def adopt(self, model: nn.Module, optimizer: torch.optim.Optimizer, max_norm: float | None) -> nn.Module:
        self._optimizer = optimizer
        self._parallel = None if self.place.world == 1 else nn.parallel.DistributedDataParallel(model)
        return self._parallel or model

    def accumulating(self, last: bool) -> AbstractContextManager[None]:
        return nullcontext() if last or self._parallel is None else self._parallel.no_sync()

    def backward(self, loss: Tensor) -> None:
        loss.backward()  # type: ignore[no-untyped-call]

    def update(self) -> None:
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def capture_obstacle(self) -> str | None:
        return None if self.place.world == 1 else "gradients are averaged by DistributedDataParallel"

    def weights(self, model: nn.Module) -> dict[str, Tensor]:
        return dict(model.state_dict())

    def optimizer_state(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
        return named_state(model, optimizer)

    def load(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        weights: Mapping[str, Tensor],
        state: Mapping[str, Tensor],
    ) -> None:
        model.load_state_dict(weights)
        load_named_state(model, optimizer, state)

    def restart(self, model: nn.Module, optimizer: torch.optim.Optimizer, weights: Mapping[str, Tensor]) -> None:
        model.load_state_dict(weights)
        rest(optimizer)

    def whole_model(self, model: nn.Module, build: Callable[[], nn.Module]) -> nn.Module:
        return model

    def record(self) -> Mapping[str, Any]:
        # Two gradients have one sum; of more than two it depends on how an engine cuts them for the network.
        return {"deterministic_across_engines": self.place.world <= 2}

    def sum_over_ranks(self, value: Tensor) -> Tensor:
        if self.place.world > 1:
            dist.all_reduce(value)
        return value

    def fence(self) -> None:
        if self.place.world > 1:
            dist.barrier()

    def close(self) -> None:
        if dist.is_initialized():
            # A wrapped model in a cycle of references holds the group, whose threads would outlive the interpreter and abort.
            gc.collect()
            dist.destroy_process_group()
