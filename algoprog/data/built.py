"""Corpora that are built once, from packages, into one JSONL file in the cache: ``CACHE/corpora/LABEL-KEY/``.

``text.jsonl`` holds the documents; ``build.json`` says what they were made of (versions, sha256, counts).
"""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path

from algoprog.config import Frozen, InputError
from algoprog.data.cache import build_once, sha256_of
from algoprog.data.files import read_file
from algoprog.data.progress import Report
from algoprog.data.source import Json


class BuiltSource(Frozen):
    """A source that writes its text before it reads it. Subclasses say what decides the text, and how to build it."""

    @property
    @abstractmethod
    def label(self) -> str:
        """First part of the folder's name."""

    @abstractmethod
    def identity(self) -> Json:
        """The recipe; see :class:`algoprog.data.source.Source`."""

    @abstractmethod
    def build(self, stage: Path, cache_dir: Path, report: Report) -> Json:
        """Write ``stage / "text.jsonl"`` and return the record of what was used."""

    def folder(self, cache_dir: Path) -> Path:
        """Where the built corpus lies, or will lie."""
        key = hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()
        return cache_dir / "corpora" / f"{self.label}-{key[:16]}"

    def documents(self, cache_dir: Path, report: Report) -> Iterator[str]:
        """All texts, after building them if they are not there.

        Raises:
            InputError: a tool or package is missing, the disk is full, or the built file was changed.
        """
        folder = self.folder(cache_dir)

        def build(stage: Path) -> None:
            found = self.build(stage, cache_dir, report)
            text = stage / "text.jsonl"
            found |= {"bytes": text.stat().st_size, "sha256": sha256_of(text)}
            (stage / "build.json").write_text(json.dumps(found, indent=1), encoding="utf-8")

        build_once(folder, build)
        expected, actual = self.details(cache_dir)["sha256"], sha256_of(folder / "text.jsonl")
        if actual != expected:
            raise InputError(
                "the built corpus is damaged",
                where=folder / "text.jsonl",
                got=f"sha256 {actual}",
                expected=f"sha256 {expected}",
                remedy=f"delete the folder {folder} and try again",
            )
        yield from read_file(folder / "text.jsonl")

    def details(self, cache_dir: Path) -> Json:
        """Contents of ``build.json``."""
        path = self.folder(cache_dir) / "build.json"
        try:
            details: Json = json.loads(path.read_text(encoding="utf-8"))
            return details
        except (OSError, ValueError) as error:
            raise InputError(
                f"the built corpus is damaged: {error}",
                where=path,
                remedy=f"delete the folder {path.parent} and try again",
            ) from None
