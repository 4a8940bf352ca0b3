"""One published number with where it was read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

ReadFrom = Literal["text", "table", "figure", "code", "curves"]
"""``text``, ``table`` or ``figure`` of the paper or of its public summaries; ``code``: the constants or the output of the
authors' published programs; ``curves``: the loss curves that they published."""

STUDY = "arXiv 2511.21622"


@dataclass(frozen=True)
class Number:
    """A published ``value`` in ``unit``. ``place``: where in the source; ``note``: what a reader must know to use it."""

    name: str
    value: float
    unit: str
    read_from: ReadFrom
    place: str
    source: str = STUDY
    note: str = ""


@dataclass(frozen=True)
class Point:
    """The final loss (nats per token) of one published run: ``width``, training ``flops``."""

    arch: str
    width: int
    flops: float
    loss: float


def by_name(numbers: tuple[Number, ...]) -> Mapping[str, Number]:
    """The numbers by their names, which are unique."""
    found = {number.name: number for number in numbers}
    assert len(found) == len(numbers), "a name occurs twice"
    return found
