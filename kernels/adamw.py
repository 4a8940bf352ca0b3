"""AdamW as an optimiser over one flat buffer: every parameter, its gradient and its averages are views of four tensors.

The step is one call of :func:`algoprog.kernels.reference.adamw_` or of its fused twin, however many parameters there are.
All that changes from step to step (learning rates, step count, clip factor) lives on the device, so a captured step is
replayed with the rates of the moment. The state dict is that of :class:`torch.optim.AdamW`: either loads the other's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from algoprog.kernels import reference
from algoprog.kernels.reference import ADAMW_TILE

ALIGNMENT = 64
"""Elements: every parameter starts on a multiple of 256 bytes in fp32, which every vector access and copy engine takes."""

SHARED = ("betas", "eps")


def _ceil(n: int, by: int) -> int:
    return -(-n // by) * by


class FlatAdamW(torch.optim.Optimizer):
    """AdamW with global-norm clipping and an optional table of schedule factors.

    The parameters move into one buffer: from then on ``p.data`` and ``p.grad`` are views, so build the optimiser after the
    model is on its device. After a step ``grad_norm`` (fp32 scalar, before clipping) and ``ok`` (int32 scalar) say what
    happened; a step whose norm or loss was not finite changed nothing and was not counted. Neither is read by the host.

    Learning rates and weight decays may be changed in ``param_groups`` at any time; a step copies what changed to the
    device. Between replays of a captured step, call :meth:`refresh` for that.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        *,
        max_norm: float | None = None,
        factors: Sequence[float] = (1.0,),
        shadow: torch.dtype | None = None,
        update: Callable[..., None] = reference.adamw_,
    ) -> None:
        """``factors[s]`` multiplies the learning rate of step s = 0, 1, ..., the last one all later steps; ``shadow`` keeps a
        copy of the weights in that type (:meth:`shadow_of`); ``update`` is ``Operations.adamw_``.

        Raises:
            ValueError: parameters of several types or devices, or none; betas or eps that differ between groups; a number
                out of range.
        """
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        self._update, self._max_norm = update, max_norm
        self.watched_loss: Tensor | None = None
        every = [p for group in self.param_groups for p in group["params"]]
        self._check(every, factors)
        device, dtype = every[0].device, every[0].dtype
        self._places, tile_group = self._lay_out()
        size = ADAMW_TILE * len(tile_group)
        self._tile_group = torch.tensor(tile_group, dtype=torch.int32, device=device)
        self._param, self._grad, self._exp_avg, self._exp_avg_sq = (
            torch.zeros(size, dtype=dtype, device=device) for _ in range(4)
        )
        self._factors = torch.tensor(list(factors), dtype=torch.float64, device=device)
        self._step = torch.zeros((), dtype=torch.int64, device=device)
        self.grad_norm = torch.zeros((), dtype=dtype, device=device)
        self.ok = torch.ones((), dtype=torch.int32, device=device)
        self._shadow = None if shadow is None else torch.zeros(size, dtype=shadow, device=device)
        groups = len(self.param_groups)
        self._rates = {key: torch.zeros(groups, dtype=torch.float64, device=device) for key in ("lr", "weight_decay")}
        self._known: dict[str, list[float | None]] = {key: [None] * groups for key in self._rates}
        self._move_in()
        self.refresh()

    def _check(self, every: list[Tensor], factors: Sequence[float]) -> None:
        first = every[0]
        for i, p in enumerate(every):
            if p.dtype not in (torch.float32, torch.float64) or (p.dtype, p.device) != (first.dtype, first.device):
                wanted = f"float32 or float64 on one device, as parameter 0 ({first.dtype}, {first.device})"
                raise ValueError(f"FlatAdamW: params: expected {wanted}, got {p.dtype}, {p.device} at {i}")
        head = self.param_groups[0]
        for key in SHARED:
            if any(group[key] != head[key] for group in self.param_groups):
                raise ValueError(f"FlatAdamW: {key}: expected the same in every group")
        for beta in head["betas"]:
            if not 0 <= beta < 1:
                raise ValueError(f"FlatAdamW: betas: expected numbers in [0, 1), got {beta}")
        if not head["eps"] > 0:
            raise ValueError(f"FlatAdamW: eps: expected a number above 0, got {head['eps']}")
        if self._max_norm is not None and not self._max_norm > 0:
            raise ValueError(f"FlatAdamW: max_norm: expected a number above 0, or None, got {self._max_norm}")
        if len(factors) == 0:
            raise ValueError("FlatAdamW: factors: expected at least one")

    def _lay_out(self) -> tuple[dict[Tensor, int], list[int]]:
        """Start of every parameter in the buffer, and the group of every tile. Groups start on a tile."""
        places: dict[Tensor, int] = {}
        tiles: list[int] = []
        for number, group in enumerate(self.param_groups):
            at = ADAMW_TILE * len(tiles)
            for p in group["params"]:
                places[p] = at
                at += _ceil(p.numel(), ALIGNMENT)
            tiles += [number] * (_ceil(at, ADAMW_TILE) // ADAMW_TILE - len(tiles))
        return places, tiles

    def _view(self, buffer: Tensor, p: Tensor) -> Tensor:
        return buffer[self._places[p] : self._places[p] + p.numel()].view(p.shape)

    @torch.no_grad()
    def _move_in(self) -> None:
        for p in self._places:
            self._view(self._param, p).copy_(p)
            if p.grad is not None:
                self._view(self._grad, p).copy_(p.grad)
            p.data, p.grad = self._view(self._param, p), self._view(self._grad, p)
            self.state[p] = {
                "step": self._step,
                "exp_avg": self._view(self._exp_avg, p),
                "exp_avg_sq": self._view(self._exp_avg_sq, p),
            }
        if self._shadow is not None:
            self._shadow.copy_(self._param)

    def shadow_of(self, p: Tensor) -> Tensor:
        """The copy of parameter ``p`` in the shadow's type: a view, rewritten by every step.

        Raises:
            ValueError: no shadow was asked for.
        """
        if self._shadow is None:
            raise ValueError("FlatAdamW: shadow: expected a type at construction, got None")
        return self._view(self._shadow, p)

    @torch.no_grad()
    def refresh(self) -> None:
        """Copy learning rates and weight decays that changed in ``param_groups`` to the device, without waiting for it."""
        for key, table in self._rates.items():
            for i, group in enumerate(self.param_groups):
                value = group[key]
                if isinstance(value, Tensor):
                    table[i].copy_(value)
                elif value != self._known[key][i]:
                    if value < 0:
                        raise ValueError(f"FlatAdamW: {key}: expected a number of at least 0, got {value}")
                    if _capturing(table):
                        raise ValueError(
                            f"FlatAdamW: {key}: expected no change of a number during capture, for the graph would keep "
                            "it; call refresh() before capturing and between replays, or make it a tensor"
                        )
                    table[i].fill_(value)
                    self._known[key][i] = value

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None, loss: Tensor | None = None) -> Any:
        """One step. A ``loss`` (default: ``watched_loss``) that is not finite stops it, like a gradient that is not.

        Raises:
            ValueError: a parameter has no gradient.
        """
        result, watched = None, self.watched_loss if loss is None else loss
        if closure is not None:
            with torch.enable_grad():
                result = closure()
        self.refresh()
        self._gather()
        self._run(None if watched is None else watched.detach())
        return result

    @torch.no_grad()
    def warm_up(self, loss: Tensor | None = None) -> None:
        """Compile the kernels of a step without taking one; give it a ``loss`` (default: ``watched_loss``) if steps get one.

        It runs on a gradient of NaN, which stops every write: weights, averages and step count keep their bits, gradients
        are put back, and ``grad_norm`` and ``ok`` are what they were.
        """
        kept = [x.clone() for x in (self._grad, self.grad_norm, self.ok)]
        self._grad.fill_(torch.nan)
        loss = self.watched_loss if loss is None else loss
        self._run(None if loss is None else torch.zeros_like(loss))
        for x, old in zip((self._grad, self.grad_norm, self.ok), kept, strict=True):
            x.copy_(old)

    def _run(self, loss: Tensor | None) -> None:
        (beta1, beta2), eps = self.param_groups[0]["betas"], self.param_groups[0]["eps"]
        self._update(
            self._param, self._grad, self._exp_avg, self._exp_avg_sq, self._tile_group, self._rates["lr"],
            self._rates["weight_decay"], self._factors, self._step, self.grad_norm, self.ok, self._shadow, loss, beta1,
            beta2, eps, self._max_norm,
        )  # fmt: skip

    def _gather(self) -> None:
        """Gradients that somebody replaced, for example by ``None`` and a backward pass, come back into the buffer."""
        for i, p in enumerate(self._places):
            home = self._view(self._grad, p)
            if p.grad is None:
                raise ValueError(f"FlatAdamW: params: expected a gradient for each, got None at {i}, {tuple(p.shape)}")
            if p.grad.data_ptr() != home.data_ptr():
                home.copy_(p.grad)
                p.grad = home

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Zero the whole buffer in one launch. Gradients stay views of it, whatever ``set_to_none`` says."""
        self._grad.zero_()
        for p in self._places:
            if p.grad is None or p.grad.data_ptr() != self._view(self._grad, p).data_ptr():
                p.grad = self._view(self._grad, p)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Only at construction.

        Raises:
            ValueError: later.
        """
        if hasattr(self, "_places"):
            raise ValueError("FlatAdamW: param_groups: expected all of them at construction")
        super().add_param_group(param_group)

    def state_dict(self) -> dict[str, Any]:
        """As :class:`torch.optim.AdamW` has it: per parameter its averages, and a step count of its own in fp32."""
        found = super().state_dict()
        found["state"] = {i: {**entry, "step": entry["step"].float()} for i, entry in found["state"].items()}
        return found

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Read a state dict of this class or of :class:`torch.optim.AdamW`. The buffers keep their place in memory.

        Raises:
            ValueError: its groups differ, parameters are at different steps, or it has entries of another optimiser.
        """
        keys = {key for entry in state_dict["state"].values() for key in entry}
        if keys and keys != {"step", "exp_avg", "exp_avg_sq"}:
            raise ValueError(f"FlatAdamW: state_dict: expected step, exp_avg and exp_avg_sq, got {sorted(keys)}")
        steps = {int(entry["step"]) for entry in state_dict["state"].values()}
        if len(steps) > 1:
            raise ValueError(f"FlatAdamW: state_dict: expected one step count, got {sorted(steps)}")
        if len(state_dict["state"]) not in (0, len(self._places)):
            raise ValueError(
                f"FlatAdamW: state_dict: expected {len(self._places)} entries, got {len(state_dict['state'])}"
            )
        own = ("lr", "weight_decay", *SHARED, "params")
        groups = [{key: group[key] for key in own if key in group} for group in state_dict["param_groups"]]
        super().load_state_dict({"state": state_dict["state"], "param_groups": groups})
        self._step.fill_(steps.pop() if steps else 0)
        for p in self._places:
            entry = self.state.get(p, {})
            for key, buffer in (("exp_avg", self._exp_avg), ("exp_avg_sq", self._exp_avg_sq)):
                view = self._view(buffer, p)
                view.copy_(entry[key]) if entry else view.zero_()
                self.state[p] = {**self.state.get(p, {}), key: view}
            self.state[p]["step"] = self._step
        if self._shadow is not None:
            self._shadow.copy_(self._param)
        self.refresh()


def _capturing(x: Tensor) -> bool:
    return x.is_cuda and torch.cuda.is_current_stream_capturing()
