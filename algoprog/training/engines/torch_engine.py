"""The reference engine: eager PyTorch, with DistributedDataParallel when a launcher announces more than one rank."""

from __future__ import annotations

import os

import torch
import torch.distributed as dist
from torch import Tensor, nn

from algoprog.training.engines import Placement, StepBody


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

    def adopt(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> nn.Module:
        self._optimizer = optimizer
        return model if self.place.world == 1 else nn.parallel.DistributedDataParallel(model)

    def backward(self, loss: Tensor) -> None:
        loss.backward()  # type: ignore[no-untyped-call]

    def update(self) -> None:
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def drive(self, body: StepBody, steps: int) -> None:
        for _ in range(steps):
            if not body():
                return

    def sum_over_ranks(self, value: Tensor) -> Tensor:
        if self.place.world > 1:
            dist.all_reduce(value)
        return value

    def fence(self) -> None:
        if self.place.world > 1:
            dist.barrier()

    def close(self) -> None:
        if dist.is_initialized():
            dist.destroy_process_group()
