"""Documents streamed from a Hugging Face dataset, through the optional ``datasets`` library."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from algoprog.config import Count, Frozen, InputError
from algoprog.data.progress import Report
from algoprog.data.source import Json


class HuggingFaceSource(Frozen):
    """Options of ``kind: hugging-face``. Reading stops after ``max_documents`` or ``max_characters``, if given.

    Documents come in the dataset's own order, which is fixed for a ``revision``; without one, the prepared store keeps
    what was read, and its fingerprint tells two readings apart.
    """

    path: str
    name: str | None = None
    split: str = "train"
    field: str = "text"
    revision: str | None = None
    max_documents: Count | None = None
    max_characters: Count | None = None

    def documents(self, cache_dir: Path, report: Report) -> Iterator[str]:
        characters = 0
        for number, row in enumerate(self._rows(), start=1):
            text = row.get(self.field)
            if not isinstance(text, str):
                raise InputError(
                    f"row {number} has no text under {self.field!r}",
                    where=self._label(),
                    got=f"columns {', '.join(sorted(row))}",
                    remedy="set options.field of the corpus YAML",
                )
            yield text
            characters += len(text)
            if number == self.max_documents or (self.max_characters and characters >= self.max_characters):
                return

    def identity(self) -> Json:
        return self.model_dump()

    def details(self, cache_dir: Path) -> Json:
        return self.model_dump() | {"datasets": importlib.metadata.version("datasets")}

    def _label(self) -> str:
        return "/".join(part for part in (self.path, self.name, self.split) if part)

    def _rows(self) -> Iterator[dict[str, Any]]:
        if importlib.util.find_spec("datasets") is None:
            raise InputError(
                "Hugging Face datasets need an optional library that is not installed",
                where=self._label(),
                remedy='pip install "algoprog[hf]"',
            )
        datasets: Any = importlib.import_module("datasets")  # optional, so not there for the type checker

        try:
            yield from datasets.load_dataset(
                self.path, self.name, split=self.split, revision=self.revision, streaming=True
            )
        except Exception as error:  # the library and the four below it raise dozens of unrelated types
            raise InputError(
                f"cannot be streamed ({type(error).__name__}: {str(error)[:200]})",
                where=self._label(),
                remedy="check the network, the dataset's name and its split; or use a local corpus such as sotu",
            ) from error
