"""Local text: a file, a JSONL file, or a folder of them.

A plain-text file (.txt, .md, or any other name that was asked for) is one document, unless it is longer than
``2 * split_characters``: then it is cut at blank lines into documents of about ``split_characters`` (at line ends or
spaces where there is no blank line), so that a single big file can be divided into training and validation. Nothing is
lost or changed by the cuts. A JSONL file has one document per line, in the field ``text`` or the one given. Both may be
compressed (.gz). In a folder, files of these kinds are read recursively in sorted order; hidden ones are left out.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Annotated

from pydantic import Field

from algoprog.config import Frozen, InputError
from algoprog.data.cache import sha256_of
from algoprog.data.progress import Report
from algoprog.data.source import Json

TEXT_ENDINGS = (".txt", ".md", ".txt.gz", ".md.gz")
JSONL_ENDINGS = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")
SPLIT_CHARACTERS = 50_000


class FilesSource(Frozen):
    """Options of ``kind: files``. ``split_characters: 0`` never cuts a file."""

    path: str
    field: str = "text"
    split_characters: Annotated[int, Field(ge=0)] = SPLIT_CHARACTERS

    def documents(self, cache_dir: Path, report: Report) -> Iterator[str]:
        for path in list_files(Path(self.path)):
            yield from read_file(path, self.field, self.split_characters)

    def identity(self) -> Json:
        root = Path(self.path)
        files = [[path.relative_to(root).as_posix(), sha256_of(path)] for path in list_files(root)]
        return {"files": files, "field": self.field, "split_characters": self.split_characters}

    def details(self, cache_dir: Path) -> Json:
        files = list_files(Path(self.path))
        found: Json = {"files": len(files), "bytes": sum(path.stat().st_size for path in files)}
        return found | ({"sha256": sha256_of(files[0])} if len(files) == 1 else {})


def list_files(root: Path) -> list[Path]:
    """The file itself, or all readable kinds of files under a folder, sorted by path.

    Raises:
        InputError: nothing is there, or the folder holds no file of a known kind.
    """
    if root.is_file():
        return [root]
    if not root.is_dir():
        raise InputError("no such file or folder", where=root)
    endings = TEXT_ENDINGS + JSONL_ENDINGS
    found = [
        path
        for path in root.rglob("*")
        if path.name.lower().endswith(endings)
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
    ]
    if not found:
        raise InputError("the folder holds no text", where=root, expected=f"files ending in {', '.join(endings)}")
    return sorted(found, key=lambda path: path.relative_to(root).as_posix())


def read_file(path: Path, field: str = "text", split_characters: int = SPLIT_CHARACTERS) -> Iterator[str]:
    """The documents of one file.

    Raises:
        InputError: the file is empty, binary, not UTF-8, damaged (.gz), or has a bad JSONL line.
    """
    if path.stat().st_size == 0:
        raise InputError("the file is empty", where=path)
    try:
        with _open(path) as file:
            if path.name.lower().endswith(JSONL_ENDINGS):
                yield from _jsonl(file, path, field)
            else:
                yield from split_text(_text(file.read(), path), split_characters)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"cannot be read: {error}", where=path) from None


def _open(path: Path) -> IO[bytes] | gzip.GzipFile:
    if path.name.lower().endswith(".gz"):
        return gzip.open(path, "rb")
    return path.open("rb")


def _text(data: bytes, where: object) -> str:
    """Decode UTF-8, without a byte order mark."""
    nul = data.find(0)
    if nul >= 0:
        raise InputError(f"not a text file: NUL byte at offset {nul}", where=where, expected="UTF-8 text")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"not UTF-8: bad byte 0x{data[error.start]:02x} at offset {error.start}",
            where=where,
            expected="UTF-8 text",
            remedy="convert it, for example with iconv",
        ) from None


def _jsonl(file: Iterable[bytes], path: Path, field: str) -> Iterator[str]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            row = json.loads(_text(line, where))
        except json.JSONDecodeError as error:
            raise InputError(f"not a JSON line: {error.msg} at column {error.colno}", where=where) from None
        if not isinstance(row, dict) or not isinstance(row.get(field), str):
            got = f"keys {', '.join(sorted(row)) or 'none'}" if isinstance(row, dict) else type(row).__name__
            raise InputError(
                "a line without text",
                where=where,
                got=got,
                expected=f"an object with text under {field!r}",
                remedy="name the key in a corpus YAML (kind: files, options: {path, field})",
            )
        yield row[field]


def split_text(text: str, length: int = SPLIT_CHARACTERS) -> Iterator[str]:
    """Cut a text longer than ``2 * length`` characters into documents of about ``length``; joined, they are the text.

    The cut comes after the first blank line at or beyond ``length``, or else after a line end, a space, or nothing, if
    the next one is more than ``length`` away.
    """
    start = 0
    while length and len(text) - start > 2 * length:
        cut = _cut(text, start + length, start + 2 * length)
        yield text[start:cut]
        start = cut
    yield text[start:]


def _cut(text: str, low: int, high: int) -> int:
    for separator in ("\n\n", "\r\n\r\n", "\n", " "):
        at = text.find(separator, low, high)
        if at >= 0:
            return at + len(separator)
    return low
