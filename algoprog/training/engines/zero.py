"""Weights and optimiser state that ZeRO (Rajbhandari et al. 2020) has cut up, as whole tensors per parameter, and back.

DeepSpeed hands our optimiser flat pieces instead of parameters. They are read and written through DeepSpeed's own functions
for single parameters; numbers that are the same for a whole piece, such as the count of steps, go directly to the optimiser,
which is ours. All functions here are collective: every rank calls them, with and for whole tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from algoprog.training.optimizer_state import join_name, rest, split_name


class Partitioned:
    """A model and our optimiser inside DeepSpeed's, at ``stage`` 1, 2 or 3. ``inner`` is DeepSpeed's optimiser."""

    def __init__(self, stage: int, inner: Any, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self._stage, self._inner, self._model, self._optimizer = stage, inner, model, optimizer

    def weights(self) -> dict[str, Tensor]:
        """Whole weights by the names of the model's state dict, in tensors of their own."""
        from deepspeed.utils import safe_get_full_fp32_param

        return {name: safe_get_full_fp32_param(parameter) for name, parameter in self._model.named_parameters()}

    def optimizer_state(self) -> dict[str, Tensor]:
        """Whole state by the names of :func:`algoprog.training.optimizer_state.named_state`; empty before the first step."""
        from deepspeed.utils import safe_get_full_optimizer_state

        if not self._optimizer.state:
            return {}
        self._link()
        entry = {key: value for key, value in self._optimizer.state[self._pieces()[0]].items() if value is not None}
        found: dict[str, Tensor] = {}
        for name, parameter in self._model.named_parameters():
            for key, value in entry.items():
                single = not isinstance(value, Tensor) or value.ndim == 0
                whole = torch.as_tensor(value).clone() if single else safe_get_full_optimizer_state(parameter, key)
                found[join_name(name, key)] = whole
        return found

    def load(self, weights: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
        """Give every rank its part of whole weights and of whole optimiser state."""
        parameters = dict(self._model.named_parameters())
        self._load_weights({name: tensor.to(parameters[name].device) for name, tensor in weights.items()})
        self._optimizer.state.clear()
        if not state:
            return
        keys = {split_name(name)[1]: tensor for name, tensor in state.items()}
        for piece in self._pieces():
            self._optimizer.state[piece] = {
                key: torch.zeros_like(piece) if like.ndim else like.clone() for key, like in keys.items()
            }
        self._link()
        for name, parameter in parameters.items():
            for key in (key for key, like in keys.items() if like.ndim):
                self._set(parameter, state[join_name(name, key)].to(parameter.device), key)

    def restart(self, weights: Mapping[str, Tensor]) -> None:
        """Give every rank its part of whole weights, and rest the optimiser: its state is that of the pieces."""
        parameters = dict(self._model.named_parameters())
        self._load_weights({name: tensor.to(parameters[name].device) for name, tensor in weights.items()})
        rest(self._optimizer)

    @torch.no_grad()
    def _load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Both copies that DeepSpeed keeps: the one that the model computes with, and the one that is updated."""
        if self._stage == 3:
            import deepspeed

            with deepspeed.zero.GatheredParameters(list(self._model.parameters()), modifier_rank=0):
                for name, parameter in self._model.named_parameters():
                    parameter.copy_(weights[name])
        else:
            self._model.load_state_dict(weights)
        for name, parameter in self._model.named_parameters():
            self._set(parameter, weights[name], None)

    def _set(self, parameter: Any, value: Tensor, key: str | None) -> None:
        """Write this rank's part of a parameter's state ``key``, or of its fp32 weight."""
        from deepspeed import utils as ds

        if self._stage == 3:
            part = _share(parameter, value)
            if key is None:
                ds.safe_set_local_fp32_param(parameter, part)
            else:
                ds.safe_set_local_optimizer_state(parameter, part, key)
        elif key is None:
            ds.safe_set_full_fp32_param(parameter, value)
        else:
            ds.safe_set_full_optimizer_state(parameter, value, key)

    def _pieces(self) -> list[Tensor]:
        """The flat pieces of this rank that our optimiser updates."""
        inner = self._inner
        return list(inner.fp32_partitioned_groups_flat if self._stage == 3 else inner.single_partition_of_fp32_groups)

    def _link(self) -> None:
        """Tell DeepSpeed where the state of each parameter lies in the state of its piece. At stages 1 and 2 it does so
        by itself once, after the update of the first group, when later groups have no state yet."""
        from deepspeed.utils import lazy_init_hp_params_optimizer_state

        if self._stage == 3:
            return
        for parameters, piece in zip(self._inner.bit16_groups, self._pieces(), strict=True):
            lazy_init_hp_params_optimizer_state(parameters, piece, self._optimizer.state)


def _share(parameter: Any, value: Tensor) -> Tensor:
    """This rank's part of a whole tensor at stage 3: equal parts, the last ones padded with zeros."""
    size = parameter.ds_tensor.numel()
    rank = torch.distributed.get_rank()
    part = value.flatten()[rank * size : (rank + 1) * size]
    return torch.cat((part, part.new_zeros(size - part.numel())))
