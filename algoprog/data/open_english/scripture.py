"""Bibles and commentaries in the SWORD format: a zlib stream per book or chapter, and an index of 12-byte records."""

from __future__ import annotations

import html
import re
import struct
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from algoprog.data.open_english.document import Document, Reader
from algoprog.data.open_english.prose import TAG, normal, one_line

NOTE = re.compile(r"(?s)<note\b.*?</note>")
BREAK = re.compile(
    r'(?i)<(?:/?(?:p|div|lg|l|title|chapter|list|item|head|q type="block"|lb|milestone type="x-extra-p")\b[^>]*)>'
)


def sword(folder: str, index: str, text: str) -> Reader:
    """A reader of one module under ``usr/share/sword/modules``; the suffixes name its index and text files."""
    return partial(_sword, folder=folder, index=index, text=text)


def _sword(root: Path, folder: str, index: str, text: str) -> Iterator[Document]:
    module = root / "usr/share/sword/modules" / folder
    for testament in ("ot", "nt"):
        index_file = module / f"{testament}.{index}"
        if not index_file.exists():  # a commentary on one testament
            continue
        records, data = index_file.read_bytes(), (module / f"{testament}.{text}").read_bytes()
        for number, (offset, size, _) in enumerate(struct.iter_unpack("<III", records[: len(records) // 12 * 12])):
            if size:
                block = zlib.decompress(data[offset : offset + size]).decode("utf-8", "replace")
                yield f"{testament}{number}", osis_paragraphs(block)


def osis_paragraphs(block: str) -> list[str]:
    """The paragraphs of OSIS or ThML markup, without notes."""
    block = BREAK.sub("\n\n", NOTE.sub("", block))
    return [line for line in map(one_line, normal(html.unescape(TAG.sub("", block))).split("\n\n")) if line]
