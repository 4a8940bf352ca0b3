"""Everything a run is between two steps, as named tensors and numbers: what a checkpoint holds and where a run goes on.

Tensors have names of their own, not places in a list: weights as in ``model.state_dict()``, the optimiser's as in
:mod:`algoprog.training.optimizer_state`. There is no state of a random generator, because nothing draws from one: batches,
resets and dropout masks are functions of (seed, step).
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.backends.cpu import get_cpu_capability

from algoprog.data.order import Order
from algoprog.training.recurrent import Carried

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class RunState:
    """The state after ``step`` steps.

    ``carried`` is the recurrent state of the global batch. ``rows`` are the metric rows so far, ``pending`` [n, 2] (float64)
    are loss and gradient norm of the steps since the last row. ``skipped`` counts bad steps that changed nothing,
    ``last_loss`` is that of the last good one.
    ``position`` is where the run stands in its data, its schedule and its budget (:func:`describe_position`): it follows
    from config and step, so a difference means that the code or the data changed. ``environment`` is what the bits of a
    result may depend on (:func:`describe_environment`).
    """

    step: int
    model: Tensors
    optimizer: Tensors
    carried: Carried = None
    pending: Tensor = field(default_factory=lambda: torch.zeros(0, 2, dtype=torch.float64))
    rows: Sequence[Mapping[str, Any]] = ()
    skipped: int = 0
    last_loss: float | None = None
    position: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)

    def to_host(self) -> RunState:
        """A copy in host memory that later steps do not touch."""
        carried = None if self.carried is None else [(_copy(h), _copy(c)) for h, c in self.carried]
        return RunState(
            step=self.step,
            model={name: _copy(tensor) for name, tensor in self.model.items()},
            optimizer={name: _copy(tensor) for name, tensor in self.optimizer.items()},
            carried=carried,
            pending=_copy(self.pending),
            rows=list(self.rows),
            skipped=self.skipped,
            last_loss=self.last_loss,
            position=dict(self.position),
            environment=dict(self.environment),
        )


Fits = Callable[[RunState], None]
"""Raises ValueError if a state is not one of this run."""


def check_weights(state: RunState, own: Tensors) -> None:
    """See whether the weights have the names, shapes and types of a model's ``own``, before anything is overwritten.

    Raises:
        ValueError: they have not.
    """
    expected, saved = ({name: (tuple(t.shape), t.dtype) for name, t in found.items()} for found in (own, state.model))
    for name in sorted(expected.keys() | saved.keys()):
        if expected.get(name) != saved.get(name):
            raise ValueError(f"weight {name}: {saved.get(name, 'missing')}, expected {expected.get(name, 'none')}")


def describe_position(
    order: Order, factors: Sequence[float], tokens_per_step: int, flops_per_step: int, step: int
) -> dict[str, Any]:
    """Where a run stands after ``step`` steps: tokens and FLOPs spent, passes over the data, the windows that the next
    step reads (a hash of their offsets) and its learning-rate factor."""
    windows = order.windows(step).tobytes()
    return {
        "tokens": step * tokens_per_step,
        "flops": step * flops_per_step,
        "epochs": order.epochs(step),
        "next_windows_sha256": hashlib.sha256(windows).hexdigest(),
        "next_lr_factor": factors[step] if step < len(factors) else None,
    }


def check_position(state: RunState, expected: Mapping[str, Any]) -> None:
    """See whether a state stands where this code would have led it.

    Raises:
        ValueError: data order, schedule or FLOP count have changed since it was written.
    """
    for key, value in expected.items():
        if state.position.get(key) != value:
            raise ValueError(f"position {key}: {state.position.get(key)}, expected {value}: data or code has changed")


def describe_environment(device: torch.device, world: int, engine: str, deterministic: bool) -> dict[str, Any]:
    """What the bits of a loss may depend on beside config and data."""
    on_gpu = device.type == "cuda"
    return {
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if on_gpu else platform.machine(),
        "instructions": None if on_gpu else get_cpu_capability(),
        "threads": None if on_gpu else torch.get_num_threads(),
        "world": world,
        "engine": engine,
        "deterministic": deterministic,
    }


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True)
