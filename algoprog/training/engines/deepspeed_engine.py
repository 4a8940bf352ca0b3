"""The DeepSpeed engine: ZeRO stage 0 around our own optimiser, clip and schedule; equals DistributedDataParallel.

DeepSpeed is imported here and nowhere else, when the engine is opened. Three of its habits are switched off: it compiles
a shared-memory op for CPU ranks (a minute of compiler time; gloo takes over), it needs mpi4py unless the environment
names a rank, and its own gradient clip differs from PyTorch's.
"""

from __future__ import annotations

import os
import socket
from typing import Any

import torch
from torch import Tensor, nn

from algoprog.config import InputError
from algoprog.training.engines.torch_engine import TorchEngine


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
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


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

    def __init__(self) -> None:
        self._deepspeed = _import_deepspeed()
        _announce_single_rank()
        super().__init__()

    def _join(self, backend: str) -> None:
        self._deepspeed.init_distributed(dist_backend=backend, verbose=False)

    def adopt(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> nn.Module:
        # The batch size only feeds DeepSpeed's own throughput arithmetic; accumulation stays 1, so no loss is rescaled.
        settings = {
            "train_micro_batch_size_per_gpu": 1,
            "gradient_accumulation_steps": 1,
            "gradient_clipping": 0.0,
            "zero_optimization": {"stage": 0},
            "zero_allow_untested_optimizer": True,
            "steps_per_print": 2**31,
            "wall_clock_breakdown": False,
        }
        self._engine, *_ = self._deepspeed.initialize(model=model, optimizer=optimizer, config=settings)
        return self._engine  # type: ignore[no-any-return]

    def backward(self, loss: Tensor) -> None:
        self._engine.backward(loss)

    def update(self) -> None:
        self._engine.step()
