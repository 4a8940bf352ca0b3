"""Corpora: named sources of documents, described by YAML files, and local paths.

``configs/corpus/NAME.yaml`` has the keys ``kind``, ``description``, ``licence``, ``provenance`` and ``options``
(those of the source class of that kind). A path to such a file works too, and so does a path to text, JSONL, or a
folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field

import algoprog
from algoprog.config import Frozen, InputError, parse, read_yaml, unknown_key
from algoprog.data.cache import default_cache_dir
from algoprog.data.files import FilesSource
from algoprog.data.hugging_face import HuggingFaceSource
from algoprog.data.installed import InstalledSource
from algoprog.data.linux_source import LinuxSource
from algoprog.data.open_english.build import OpenEnglishSource
from algoprog.data.progress import Report, reporting
from algoprog.data.source import Json, Source

Kind = Literal["installed", "files", "hugging-face", "open-english", "linux-source"]
KINDS: dict[str, type[Any]] = {
    "installed": InstalledSource,
    "files": FilesSource,
    "hugging-face": HuggingFaceSource,
    "open-english": OpenEnglishSource,
    "linux-source": LinuxSource,
}
assert set(KINDS) == set(get_args(Kind))


class CorpusSpec(Frozen):
    """A corpus YAML before its options are read."""

    kind: Kind
    description: str = Field(min_length=1)
    licence: str = Field(min_length=1)
    provenance: str = Field(min_length=1)
    options: dict[str, Any] = {}


@dataclass(frozen=True)
class Corpus:
    """Documents with a name, a licence and a provenance."""

    name: str
    kind: str
    description: str
    licence: str
    provenance: str
    source: Source = field(repr=False)
    cache_dir: Path = field(repr=False)

    def documents(self, report: Report | None = None) -> Iterator[str]:
        """All texts in a deterministic order; fetches or builds what is missing.

        Raises:
            InputError: the source is missing, unreadable or not text.
        """
        with reporting(report or False) as say:
            yield from self.source.documents(self.cache_dir, say)

    def identity(self) -> str:
        """sha256 of what decides the text, as far as it is known without fetching; names the prepared store."""
        content = {"name": self.name, "kind": self.kind, "source": self.source.identity()}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def describe(self) -> Json:
        """All of the above as JSON, with versions and sha256 of what was read. Call it after :meth:`documents`."""
        return {
            "name": self.name,
            "kind": self.kind,
            "description": self.description,
            "licence": self.licence,
            "provenance": self.provenance,
            "source": self.source.details(self.cache_dir),
        }


def corpus_dir() -> Path:
    """The folder of the corpora that come with the package."""
    return Path(algoprog.__file__).parent / "configs" / "corpus"


def corpus_names() -> list[str]:
    """Names of the corpora that come with the package."""
    return sorted(path.stem for path in corpus_dir().glob("*.yaml"))


def load_corpus(name_or_path: str | Path, cache_dir: Path | None = None) -> Corpus:
    """The corpus of this name, or at this path. Reads no documents yet.

    A name of :func:`corpus_names` goes before a file of the same name (write ``./sotu`` for that).

    Raises:
        InputError: no such name or path, or a bad corpus YAML.
    """
    cache = cache_dir or default_cache_dir()
    if str(name_or_path) in corpus_names():
        return _from_yaml(corpus_dir() / f"{name_or_path}.yaml", cache)
    path = Path(name_or_path).expanduser()
    if path.suffix in (".yaml", ".yml"):
        return _from_yaml(path, cache)
    if not path.exists():
        if path.suffix or len(path.parts) > 1:
            raise InputError("no such corpus file or folder", where=path)
        raise unknown_key(str(name_or_path), corpus_names(), where=None, kind="corpus")
    return Corpus(
        name=path.resolve().name,
        kind="files",
        description="local text",
        licence="the user's own text; its licence is not known to algoprog",
        provenance="a local path",
        source=FilesSource(path=str(path)),
        cache_dir=cache,
    )


def _from_yaml(path: Path, cache_dir: Path) -> Corpus:
    spec = parse(CorpusSpec, read_yaml(path), path)
    options = dict(spec.options)
    if spec.kind == "files" and isinstance(options.get("path"), str):
        options["path"] = str(path.parent / Path(options["path"]).expanduser())  # relative to the YAML file
    return Corpus(
        name=path.stem,
        kind=spec.kind,
        description=spec.description,
        licence=spec.licence,
        provenance=spec.provenance,
        source=parse(KINDS[spec.kind], options, f"{path}: options"),
        cache_dir=cache_dir,
    )
