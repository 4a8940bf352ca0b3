"""An independent count: watch the operations that really run, and add up their products by component and direction.

The models' own counts say what the mathematics needs; this counter reads the shapes of every operation that reaches a
backend, so it also sees what a fused kernel is called with. It works on real, meta and fake tensors alike. Products belong
to the innermost module that declares a ``component``; the backward pass is traced to the module whose forward pass made it.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from algoprog.config import InputError
from algoprog.flops.count import FlopCount
from algoprog.flops.formulas import BATCHED, FORMULAS, OWN, Formula

# Operators whose name says that they multiply matrices: one of these without a formula would be missed in silence.
PRODUCTS = re.compile(
    r"^_*(\w*mm|b?matmul|\w*linear(_backward)?|\w*convolution\w*|conv\d\w*|\w*attention\w*|\w*_rnn\w*|lstm\w*|gru\w*|"
    r"rnn\w*|mv|addmv|v?dot|einsum|\w*outer|ger|addr|tensordot|inner|kron|\w*trilinear|cdist\w*|fft\w*)$"
)
# Questions about a tensor's form that fake tensors pass on: not for us to answer.
FORM = re.compile(r"^aten::(sym_)?(is_contiguous|is_strides_like_format|is_non_overlapping_and_dense|size|stride|storage_offset"
                  r"|numel|dim)$|^prim::layout$")  # fmt: skip
BUILT_IN = ("aten", "prim", "prims", "c10d", "_c10d_functional", "profiler", "inductor", "debugprims")


class ProductCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Count what happens inside ``with ProductCounter(model) as counter:``, then read :meth:`count`.

    ``operations`` holds (operator, component, direction) -> (calls, FLOPs). Operations that a backward pass runs inside a
    module's forward pass are repetitions (checkpointing) and go to ``recompute``. A compiled model must be counted
    uncompiled.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._model = model
        self._hooks: list[Any] = []
        self._depth = 0  # the mode is entered again to take composite operations apart
        self._running: list[nn.Module] = []  # modules with a component whose forward pass is on, outermost first
        # The owner of every autograd node: (first sequence number, module), in order of time.
        self._starts: list[int] = []
        self._owners: list[nn.Module | None] = []
        self._totals: dict[str, dict[str, int]] = {"forward": {}, "backward": {}}
        self._unknown: set[str] = set()
        self.operations: dict[tuple[str, str, str], tuple[int, int]] = {}

    def __enter__(self) -> ProductCounter:
        self._depth += 1
        for module in self._model.modules() if self._depth == 1 else ():
            if hasattr(module, "component"):
                self._hooks.append(module.register_forward_pre_hook(self._begin))
                self._hooks.append(module.register_forward_hook(self._end, always_call=True))
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        self._depth -= 1
        while self._hooks and self._depth == 0:
            self._hooks.pop().remove()

    def count(self) -> FlopCount:
        """FLOPs by component, forward and backward.

        Raises:
            InputError: an operation multiplied matrices, or may have done so, and has no formula, or ran outside every
                module that declares a component.
        """
        if self._unknown:
            raise InputError(
                "operations without a FLOP formula ran",
                got=", ".join(sorted(self._unknown)),
                remedy="register one with torch.utils.flop_counter.register_flop_formula, forward and backward apart",
            )
        return FlopCount(self._totals["forward"], self._totals["backward"])

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name
        if FORM.match(name):
            return NotImplemented
        formula = FORMULAS.get(name)
        composite = formula is None and not name.startswith("prim::") and func._can_decompose()
        if composite and func._overloadpacket not in flop_registry:
            with self:  # composite operations, which inference mode does not take apart by itself
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        out = func(*args, **kwargs)
        if formula is not None:
            self._book(name, formula, {**_bind(func, args, kwargs), "out": out})
        elif name.split("::")[0] not in BUILT_IN:
            self._book_custom(name, func, args, kwargs, out)
        elif PRODUCTS.match(name.split("::")[1]):
            self._unknown.add(name)
        return out

    def _begin(self, module: nn.Module, _: Any) -> None:
        self._running.append(module)
        self._mark()

    def _end(self, module: nn.Module, *_: Any) -> None:
        self._running.remove(module)
        self._mark()

    def _mark(self) -> None:
        """From this sequence number on, new autograd nodes belong to the innermost running module."""
        self._starts.append(torch.autograd._get_sequence_nr())  # type: ignore[attr-defined]
        self._owners.append(self._running[-1] if self._running else None)

    def _book_custom(self, name: str, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        if func._overloadpacket not in flop_registry:
            self._unknown.add(name)
            return
        flops = int(flop_registry[func._overloadpacket](*args, **kwargs, out_val=out))
        self._book(name, lambda _: {OWN: flops}, {})

    def _book(self, name: str, formula: Formula, call: Mapping[str, Any]) -> None:
        node = torch._C._current_autograd_node()
        direction = "forward" if node is None else "backward"
        repeated = node is not None and bool(self._running)
        owner = self._running[-1] if self._running else None if node is None else self._owner(node._sequence_nr())
        for component, flops in formula(call).items():
            if flops == 0:
                continue
            booked = "recompute" if repeated else self._component(owner, component)
            if booked is None:
                self._unknown.add(f"{name} outside every module with a component")
                continue
            totals = self._totals[direction]
            totals[booked] = totals.get(booked, 0) + flops
            calls, before = self.operations.get((name, booked, direction), (0, 0))
            self.operations[name, booked, direction] = (calls + 1, before + flops)

    def _owner(self, sequence: int) -> nn.Module | None:
        """The module whose forward pass made the autograd node with this sequence number."""
        place = bisect.bisect_right(self._starts, sequence) - 1
        return self._owners[place] if place >= 0 else None

    @staticmethod
    def _component(owner: nn.Module | None, component: str) -> str | None:
        if component not in (OWN, BATCHED):
            return component
        if owner is None:
            return None
        own = owner.component
        return str(getattr(owner, "batched_component", own) if component == BATCHED else own)


def _bind(func: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    """The arguments of a call by the names of the operator's schema, defaults included."""
    schema = func._schema.arguments
    values = {argument.name: argument.default_value for argument in schema if argument.has_default_value()}
    values.update(zip((argument.name for argument in schema), args, strict=False))
    values.update(kwargs)
    return values
