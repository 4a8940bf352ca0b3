"""When is a result right enough to have a speed.

Reference: the same mathematics in float64 on inputs already rounded to the type of the kernel. Error: ``|out - ref| / |ref|``
in the 2-norm. Rule: error <= 2 x error of plain PyTorch in the same type + floor, and plain PyTorch itself must stay below a
cap, because a broken reference would otherwise pass everything. NaN never passes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Check:
    """One comparison: it passes if ``error <= limit``. ``rule`` says where the limit comes from."""

    name: str
    error: float
    limit: float
    rule: str

    @property
    def passed(self) -> bool:
        return math.isfinite(self.error) and self.error <= self.limit

    def as_dict(self) -> dict[str, object]:
        error, limit = (value if math.isfinite(value) else None for value in (self.error, self.limit))
        return {"name": self.name, "error": error, "limit": limit, "rule": self.rule, "passed": self.passed}


@dataclass(frozen=True)
class Accuracy:
    """All comparisons behind one row. Without a comparison nothing is verified."""

    checks: tuple[Check, ...] = ()

    @property
    def verified(self) -> bool:
        return bool(self.checks) and all(check.passed for check in self.checks)

    def complaint(self) -> str:
        """Why there is no speed, in one line."""
        if not self.checks:
            return "accuracy was not verified"
        return "; ".join(
            f"{c.name}: error {c.error:.2e} above {c.limit:.2e} ({c.rule})" for c in self.checks if not c.passed
        )


def relative_error(got: Tensor, want: Tensor) -> float:
    """``|got - want| / |want|`` in float64; the absolute error where the reference is zero. Shapes must agree."""
    assert got.shape == want.shape, f"{tuple(got.shape)} against {tuple(want.shape)}"
    got, want = got.detach().double(), want.detach().double()
    norm = float(torch.linalg.vector_norm(want))
    return float(torch.linalg.vector_norm(got - want)) / (norm or 1.0)


def errors(got: Mapping[str, Tensor], want: Mapping[str, Tensor]) -> dict[str, float]:
    """Relative error of every named tensor."""
    assert got.keys() == want.keys(), f"{sorted(got)} against {sorted(want)}"
    return {name: relative_error(got[name], want[name]) for name in want}


def within(found: Mapping[str, float], cap: float, rule: str) -> Accuracy:
    """Every error at most ``cap``: the rule for plain PyTorch and for library calls."""
    return Accuracy(tuple(Check(name, error, cap, rule) for name, error in found.items()))


SCALAR_FLOOR = 1e-4  # one scalar of a bf16 model may be right by luck, so twice its error says nothing


def against_plain(found: Mapping[str, float], plain: Mapping[str, float], cap: float, floor: float) -> Accuracy:
    """Every error at most twice that of plain PyTorch plus ``floor``, and plain PyTorch at most ``cap``.

    The floor of ``loss``, a scalar, is at least :data:`SCALAR_FLOOR`.
    """
    checks = []
    for name, error in found.items():
        least = max(floor, SCALAR_FLOOR) if name == "loss" else floor
        checks.append(Check(name, error, 2 * plain[name] + least, f"2 x plain {plain[name]:.1e} + {least:.0e}"))
        checks.append(Check(f"plain {name}", plain[name], cap, "cap on the plain version"))
    return Accuracy(tuple(checks))


def exactly(name: str, wrong: float) -> Accuracy:
    """For results that are right or wrong: ``wrong`` counts what differs and must be 0."""
    return Accuracy((Check(name, float(wrong), 0.0, "must be exact"),))
