"""Training tokens where the steps read them: whole on the device if they fit, else the rows of one interval at a time.

Ids are kept as they are stored (uint16 or uint32, seen as signed integers of the same width) and widened when they are read,
so that a billion ids of two bytes take 2 GB. On a CPU nothing is copied: the memory map itself is read.
"""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from algoprog.data.order import Ints, Tokens

DEVICE_SHARE = 0.25
"""Tokens move to a GPU as a whole if they take at most this share of its free memory."""

Residence = Literal["device", "interval"]
_TORCH = {2: torch.int16, 4: torch.int32, 8: torch.int64}


class DeviceTokens:
    """The training split on ``device``. ``residence`` says how: "device" (all of it) or "interval" (what the next steps read).

    Shapes: K steps at most per interval, b rows of this rank, T context. :meth:`locate` is called once per interval and
    answers where on the device its rows start; :meth:`rows` runs inside the step.
    """

    def __init__(self, tokens: Tokens, context: int, most_rows: int, device: torch.device) -> None:
        """``most_rows`` is K * b, the largest number of rows that an interval reads."""
        self._host, self._span = _signed(tokens), context + 1
        self._mask = (1 << 8 * tokens.itemsize) - 1 if tokens.itemsize < 8 else -1
        self.residence = residence(tokens.nbytes, device)
        if self.residence == "interval":
            self._tokens = torch.empty(most_rows * self._span, dtype=_TORCH[tokens.itemsize], device=device)
        else:
            self._tokens = _as_tensor(self._host).to(device)
        self._offsets = torch.arange(self._span, device=device)

    def locate(self, starts: Ints) -> Ints:
        """Where on the device the rows begin that start at ``starts`` [k, b] of the split; what is missing is sent there."""
        if self.residence == "device":
            return starts
        rows = self._host[starts.reshape(-1, 1) + np.arange(self._span)].reshape(-1)
        send(rows, self._tokens[: rows.size])
        return np.arange(starts.size, dtype=np.int64).reshape(starts.shape) * self._span

    def rows(self, starts: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs and targets, each [b, T] int64: the first and the last T of the T+1 tokens from each of ``starts`` [b]."""
        rows = self._tokens[starts[:, None] + self._offsets].long().bitwise_and_(self._mask)
        return rows[:, :-1].contiguous(), rows[:, 1:].contiguous()


def residence(size_bytes: int, device: torch.device) -> Residence:
    """ "device" if tokens of this size are read whole on ``device``, else "interval"."""
    if device.type == "cpu":
        return "device"
    free, _ = torch.cuda.mem_get_info(device)
    return "device" if size_bytes <= DEVICE_SHARE * free else "interval"


def send(values: npt.NDArray[np.generic], to: Tensor) -> None:
    """Copy ``values`` into the tensor ``to`` in the order of its stream; the host does not wait."""
    source = _as_tensor(values)
    to.copy_(source.pin_memory() if to.is_cuda else source, non_blocking=True)


def _signed(tokens: Tokens) -> npt.NDArray[np.signedinteger[Any]]:
    return tokens.view(f"i{tokens.itemsize}")


def _as_tensor(values: npt.NDArray[np.generic]) -> Tensor:
    if values.flags.writeable:
        return torch.from_numpy(values)
    with warnings.catch_warnings():  # slow, and of no use to tables that are written anew for every interval
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # it is only read
        return torch.from_numpy(values)
