"""Technical documentation: HTML manuals, Perl's POD, manual pages, and the descriptions inside API definitions."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from algoprog.data.open_english.document import Document, Reader
from algoprog.data.open_english.prose import (
    BLANK_LINE,
    LONGER_PROSE,
    PROSE,
    Prose,
    html_file,
    html_paragraphs,
    normal,
    one_line,
    paragraphs,
    read_text,
)

FOLDERS = "/(cs|de|es|fr|hu|it|ja|ko|pl|pt-br|ru|tr|_sources)/|/zh"
SUFFIXES = r"\.(ca|cs|de|es|fr|hu|it|ja|ko|nl|pl|pt|pt-br|ru|tr|zh|zh-cn)\.html"
TRANSLATIONS = f"{FOLDERS}|{SUFFIXES}|search|genindex"
TRANSLATIONS_AND_CODE = f"{TRANSLATIONS}|/_modules/|source"


def html_manual(
    folder: str = "usr/share", pattern: str = "**/*.htm*", exclude: str | None = TRANSLATIONS, keep: Prose = PROSE
) -> Reader:
    """A reader of all HTML pages under ``folder`` whose path does not match ``exclude``."""
    return partial(_html_manual, folder=folder, pattern=pattern, exclude=exclude, keep=keep)


def _html_manual(root: Path, folder: str, pattern: str, exclude: str | None, keep: Prose) -> Iterator[Document]:
    real_root = root.resolve()
    pages = {path.resolve() for path in (root / folder).glob(pattern) if path.is_file()}
    for page in sorted(page for page in pages if page.is_relative_to(real_root)):  # links may point to this machine
        name = page.relative_to(real_root).as_posix()
        if exclude is None or not re.search(exclude, f"/{name}"):
            yield name, html_file(page, keep)


def perl_pod(root: Path) -> Iterator[Document]:
    """Perl's documentation: the running text of .pod files, without headings, code and formatting codes."""
    for path in sorted((root / "usr/share/perl").rglob("*.pod")):
        found = []
        for block in BLANK_LINE.split(normal(read_text(path))):
            if block.startswith(("=", " ", "\t")):
                continue
            line = one_line(pod_text(block))
            if PROSE(line):
                found.append(line)
        yield path.name, found


def pod_text(block: str) -> str:
    """A block without formatting codes: ``B<I<this>>``, ``C<< a->b >>``, ``L<text|page>``."""
    block = re.sub(r"[A-Z]<<+\s+(.*?)\s+>>+", r"\1", block, flags=re.DOTALL)
    for _ in range(3):  # codes nest
        block = re.sub(r"\b[A-Z]<([^<>|]*)(?:\|[^<>]*)?>", r"\1", block)
    return block


ROFF_ESCAPES = {"\\-": "-", "\\(aq": "'", "\\e": "\\", "\\(lq": '"', "\\(rq": '"', "\\[aq]": "'", "\\(em": "\u2014"}


def manual_pages(root: Path) -> Iterator[Document]:
    """Manual pages, from their roff source."""
    for path in sorted((root / "usr/share/man").glob("man*/*.gz")):
        text = roff_text(gzip.decompress(path.read_bytes()).decode("utf-8", "replace"))
        yield path.name, [paragraph for paragraph in paragraphs(text) if PROSE(paragraph)]


def roff_text(source: str) -> str:
    """Plain text with blank lines between paragraphs; tables and examples are dropped."""
    source = re.sub(r"\.\\\".*", "", source)
    source = re.sub(r"(?ms)^\.(EX|nf|TS)\b.*?^\.(EE|fi|TE)\b", "\n\n", source)
    source = re.sub(r"(?m)^\.(B|I|BR|IR|RB|BI|IB|RI|SM)\s+(.*)$", _font, source)
    source = re.sub(r"(?m)^\.(SH|SS|TP|PP|P|LP|IP|RS|RE|TH|TQ|br|in|sp)\b.*$", "\n\n", source)
    source = re.sub(r"(?m)^[.'].*$", "", source)
    source = re.sub(r"\\f[A-Z]|\\f\(..|\\[&/|^,%:]", "", source)
    for escape, character in ROFF_ESCAPES.items():
        source = source.replace(escape, character)
    return source


def _font(match: re.Match[str]) -> str:
    """The words of a font request; two-letter ones join their arguments."""
    words = match[2].replace('"', "")
    return words.replace(" ", "") if len(match[1]) == 2 and match[1] != "SM" else words


def botocore(root: Path) -> Iterator[Document]:
    """The HTML descriptions in the newest definition of every AWS service."""
    newest = {}
    for path in sorted((root / "botocore/data").glob("*/*/service-2.json.gz")):
        newest[path.parts[-3]] = path
    for service, path in newest.items():
        descriptions = _strings_under(json.loads(gzip.decompress(path.read_bytes())), "documentation")
        lines = [line for text in descriptions for line in html_paragraphs(text)]
        yield service, [line for line in lines if LONGER_PROSE(line)]


def google_apis(root: Path) -> Iterator[Document]:
    """The descriptions in the newest definition of every Google API."""
    newest = {}
    for path in sorted((root / "googleapiclient/discovery_cache/documents").glob("*.json")):
        newest[path.name.split(".")[0]] = path
    for service, path in newest.items():
        descriptions = _strings_under(json.loads(path.read_text(encoding="utf-8")), "description", "enumDescriptions")
        lines = [re.sub(r"[`*]", "", one_line(p)) for text in descriptions for p in normal(text).split("\n\n")]
        yield service, [line for line in lines if LONGER_PROSE(line)]


def _strings_under(node: Any, *keys: str) -> Iterator[str]:
    """Every string, or string of a list, that stands under one of these keys, in document order."""
    if isinstance(node, list):
        for item in node:
            yield from _strings_under(item, *keys)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key in keys and isinstance(value, str):
                yield value
            elif key in keys and isinstance(value, list) and all(isinstance(item, str) for item in value):
                yield from value
            else:
                yield from _strings_under(value, *keys)
