"""Dictionaries: dictd databases and WordNet."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from algoprog.data.open_english.document import Document, in_groups
from algoprog.data.open_english.literature import one_liners
from algoprog.data.open_english.prose import BLANK_LINE, DEFINITIONS, Prose, normal, one_line, paragraphs, read_dictzip

DICTD = "usr/share/dictd"
WEBSTER = Prose(words=5, stop_words=0.08, letters=0.72, needs_end=False)

SPECIAL = {
    "[ae]": "æ", "[oe]": "œ", "[AE]": "Æ", "[deg]": "°", "[root]": "", "[pound]": "£", "[frac12]": "1/2",
    "[eacute]": "é",
}  # fmt: skip
ACCENTS = {
    "'": "\u0301", "`": "\u0300", "^": "\u0302", '"': "\u0308", "=": "", "~": "\u0303", ",": "\u0327",
}  # fmt: skip
SOURCE_MARK = re.compile(
    r"\[(?:1913 Webster|PJC|WordNet[^\]]*|Webster[^\]]*|Century Dict[^\]]*|RH|AS|RP|AHD|\+PJC|1913[^\]]*"
    r"|[^\]]*\+ ?PJC)\]"
)


def webster(root: Path) -> Iterator[Document]:
    """The Collaborative International Dictionary of English (Webster 1913 and additions)."""
    entries = re.split(r"\n(?=[A-Z0-9'-][^\n]*\\)", read_dictzip(root / DICTD / "gcide.dict.dz"))
    return in_groups("webster", map(_webster_entry, entries), 400)


def _webster_entry(entry: str) -> list[str]:
    head = re.match(r"([^\\]+?)\\[^\\]*\\[ ,]*(?:\(.*?\))?[ ,;]*", entry, re.DOTALL)
    if not head:
        return []
    body = re.sub(r"\{([^}]*)\}", r"\1", SOURCE_MARK.sub("", entry[head.end() :]))
    body = re.sub(r"\[['`^\"=~,a-zA-Z]{2,8}\]", _accented, body)
    lines = [line for line in map(one_line, re.split(r"\n[ \t]*\n|\n(?=   [0-9]+\. )", body)) if line]
    if lines:
        lines[0] = f"{one_line(head[1])}, {lines[0]}"
    return [line for line in lines if WEBSTER(line)]


def _accented(match: re.Match[str]) -> str:
    """``['e]`` and ``[e']`` are é; what is not known stays as it is."""
    mark = match[0]
    if mark in SPECIAL:
        return SPECIAL[mark]
    for accent, letter in ((mark[1:2], mark[2:-1]), (mark[-2:-1], mark[1:-2])):
        if accent in ACCENTS and len(letter) == 1 and letter.isalpha():
            return unicodedata.normalize("NFC", letter + ACCENTS[accent])
    return mark


def wordnet(root: Path) -> Iterator[Document]:
    """WordNet: one line per meaning, the words and then the gloss."""
    for part in ("noun", "verb", "adj", "adv"):
        lines = (root / f"usr/share/wordnet/data.{part}").read_text(encoding="latin-1").split("\n")
        yield from in_groups(part, ([_meaning(line)] for line in lines if line and not line.startswith("  ")), 400)


def _meaning(line: str) -> str:
    data, gloss = line.split(" | ", 1)
    fields = data.split()
    words = [re.sub(r"\(.*?\)", "", fields[4 + 2 * i].replace("_", " ")) for i in range(int(fields[3], 16))]
    return f"{', '.join(words)}: {one_line(normal(gloss))}."


def foldoc(root: Path) -> Iterator[Document]:
    """The Free On-line Dictionary of Computing."""
    entries = re.split(r"\n(?=\S)", read_dictzip(root / DICTD / "foldoc.dict.dz"))
    return in_groups("foldoc", map(_foldoc_entry, entries), 300)


def _foldoc_entry(entry: str) -> list[str]:
    head, _, body = entry.partition("\n")
    body = re.sub(r"\{([^}]*)\}", r"\1", re.sub(r"\(\d{4}-\d\d-\d\d\)", "", body))
    lines = [line for line in map(one_line, BLANK_LINE.split(body)) if DEFINITIONS(line)]
    return [f"{head.strip()}: {lines[0]}", *lines[1:]] if lines else []


def jargon(root: Path) -> Iterator[Document]:
    """The Jargon File."""
    text = re.sub(r"\{([^}]*)\}", r"\1", read_dictzip(root / DICTD / "jargon.dict.dz"))
    return in_groups("jargon", ([line] for line in paragraphs(text) if DEFINITIONS(line)), 300)


def devil(root: Path) -> Iterator[Document]:
    """The Devil's Dictionary, as one document."""
    yield "devil", one_liners(read_dictzip(root / DICTD / "devil.dict.dz"))
