"""What every reader yields, and how many short entries become a few documents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

Document = tuple[str, list[str]]
"""Name within its package, and clean paragraphs."""

Reader = Callable[[Path], Iterator[Document]]
"""Reads an unpacked package; the documents come in a fixed order."""


def in_groups(name: str, entries: Iterable[list[str]], size: int) -> Iterator[Document]:
    """Documents of ``size`` paragraphs or a few more, without cutting an entry apart."""
    held: list[str] = []
    number = 0
    for entry in entries:
        held += entry
        if len(held) >= size:
            number += 1
            yield f"{name}{number}", held
            held = []
    if held:
        yield f"{name}{number + 1}", held
