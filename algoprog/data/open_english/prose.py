"""Clean paragraphs: normal Unicode, one line each, and a test that tells English prose from tables, code and menus."""

from __future__ import annotations

import gzip
import html
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

STOP_WORDS = frozenset(
    "the of and to a in is that it for as with be on by this are from or an at which not was you can will if have has "
    "were his he but they their its when all no we i one there been would may any so such only other into than then "
    "these those him her she had my your our us who what also where how do does must should each more".split()
)
SPACES = re.compile(r"[ \t\r\f\v\u00a0\u2007\u202f\u200b\ufeff]+")
CONTROLS = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028\u2029\ufeff\ue000-\uf8ff\ud800-\udfff]"
)
LIGATURES = str.maketrans({"\ufb00": "ff", "\ufb01": "fi", "\ufb02": "fl", "\ufb03": "ffi", "\ufb04": "ffl"})
BLANK_LINE = re.compile(r"\n[ \t]*\n")
SENTENCE_ENDS = ".?!:;)\"'\u201d\u2019"

COMMENT = re.compile(r"(?s)<!--.*?-->")
NOT_TEXT = re.compile(
    r"(?is)<(script|style|pre|nav|header|footer|svg|math|head|noscript|button|select|textarea|template)\b.*?</\1\s*>"
)
BLOCK = re.compile(
    r"(?i)</?(?:p|div|li|ul|ol|dl|dd|dt|table|tr|td|th|h[1-6]|blockquote|section|article|hr|body|tbody|thead|figure"
    r"|figcaption|main|aside|form|center|details|summary|note|item|title|steps|caption|media|list|listitem)\b[^>]*>"
    r"|<br\s*/?>\s*<br\s*/?>"
)
TAG = re.compile(r"<[^>]*>")


def normal(text: str) -> str:
    """NFC, line ends as ``\\n``, ligatures spelled out, control and invisible characters removed."""
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
    return CONTROLS.sub("", text.translate(LIGATURES))


def one_line(paragraph: str) -> str:
    """A paragraph without line breaks and repeated spaces."""
    return SPACES.sub(" ", paragraph.replace("\n", " ")).strip()


def paragraphs(text: str) -> list[str]:
    """The paragraphs of plain text, which blank lines separate, each on one line."""
    return [line for line in map(one_line, BLANK_LINE.split(normal(text))) if line]


@dataclass(frozen=True)
class Prose:
    """A test for prose: enough words, function words and letters; an end of sentence, or many words."""

    words: int = 8
    stop_words: float = 0.16
    letters: float = 0.80
    needs_end: bool = True

    def __call__(self, paragraph: str) -> bool:
        words = paragraph.split(" ")
        if len(words) < self.words:
            return False
        if sum(c.isalpha() or c == " " for c in paragraph) < self.letters * len(paragraph):
            return False
        foreign = sum(ord(c) > 0x24F and not 0x2010 <= ord(c) <= 0x2044 for c in paragraph)
        if foreign > 0.02 * len(paragraph):
            return False
        if sum(word.lower().strip(".,;:()\"'") in STOP_WORDS for word in words) < self.stop_words * len(words):
            return False
        return not self.needs_end or paragraph[-1] in SENTENCE_ENDS or len(words) >= 25


PROSE = Prose()
LONGER_PROSE = Prose(words=10)
DEFINITIONS = Prose(words=6, stop_words=0.1, letters=0.75, needs_end=False)


def html_paragraphs(page: str) -> Iterator[str]:
    """The paragraphs of an HTML page; scripts, navigation, code blocks and markup are dropped."""
    page = NOT_TEXT.sub(" ", COMMENT.sub("", page))
    page = BLOCK.sub("\n\n", page.replace("\n", " "))
    for paragraph in normal(html.unescape(TAG.sub("", page))).split("\n\n"):
        line = one_line(paragraph).replace("¶", "").replace(" [source]", "").strip()
        line = re.sub(r" +([.,;:)])", r"\1", line).replace("( ", "(")
        if line:
            yield line


def html_file(path: Path, keep: Prose = PROSE) -> list[str]:
    """The prose of one HTML file (.gz too); Latin-1 if it is clearly not UTF-8."""
    data = path.read_bytes()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    page = data.decode("utf-8", "replace")
    if page.count("\ufffd") > 20:
        page = data.decode("latin-1")
    return [paragraph for paragraph in html_paragraphs(page) if keep(paragraph)]


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """A text file (.gz too); undecodable bytes become U+FFFD."""
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).decode(encoding, "replace")


def read_dictzip(path: Path) -> str:
    """The text of a dictd database, which is gzip with an index."""
    return normal(gzip.decompress(path.read_bytes()).decode("utf-8", "replace"))
