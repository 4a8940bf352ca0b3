"""What every kind of corpus source offers; the kinds are in the files beside this one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from algoprog.data.progress import Report

Json = dict[str, Any]


class Source(Protocol):
    """A validated set of options from which documents can be read. Documents come in a fixed, sorted order."""

    def documents(self, cache_dir: Path, report: Report) -> Iterator[str]:
        """All texts. Sources that must be fetched or built do so here, into ``cache_dir``, once."""

    def identity(self) -> Json:
        """What decides the text, as far as it can be known without fetching or building anything."""

    def details(self, cache_dir: Path) -> Json:
        """Versions, file counts and sha256 of what was read, for the record; call it after the documents."""
