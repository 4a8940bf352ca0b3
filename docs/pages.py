"""Pages whose tables are made by code: blocks between markers, written anew and compared with what a page says."""

from __future__ import annotations

import io
import math
import re
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from PIL import Image

COLOURS = 64  # enough for the edges of letters, and a third of the bytes
NUMBER = re.compile(r"[−-]?\d[\d,]*(?:\.\d+)?(?:e[−-]?\d+)?")


def block(name: str) -> re.Pattern[str]:
    """A block with its markers; its text is the group ``text``."""
    return re.compile(rf"(?P<begin><!-- made: {name} -->\n)(?P<text>.*?)\n?(?P<end><!-- end of {name} -->)", re.DOTALL)


def write_blocks(page: Path, blocks: Mapping[str, Callable[[], str]]) -> None:
    """Replace every block of ``page``. Raises ValueError for a block without a place or with several."""
    text = page.read_text(encoding="utf-8")
    for name in blocks:
        places = len(block(name).findall(text))
        if places != 1:
            raise ValueError(f"block {name} has {places} places in {page.name}, expected one")
    for name, make in blocks.items():
        made = make()
        text = block(name).sub(lambda found, made=made: f"{found['begin']}{made}\n{found['end']}", text)  # type: ignore[misc]
    page.write_text(text, encoding="utf-8")


def written(page: Path, name: str) -> str:
    """What ``page`` says between the markers of ``name``. Raises ValueError unless there is one such place."""
    found = block(name).findall(page.read_text(encoding="utf-8"))
    if len(found) != 1:
        raise ValueError(f"block {name} has {len(found)} places in {page.name}, expected one")
    text: str = found[0][1]
    return text


def numbers(text: str) -> list[str]:
    """The numbers in ``text``, as Python reads them."""
    return [found.replace(",", "").replace("−", "-") for found in NUMBER.findall(text)]


def assert_same(written: str, made: str) -> None:
    """Equal words, and numbers equal to one unit in the last digit or half a per cent. Raises AssertionError."""
    assert NUMBER.sub("#", written) == NUMBER.sub("#", made)
    for one, two in zip(numbers(written), numbers(made), strict=True):
        room = 1.001 * max(_last_digit(one), _last_digit(two))
        assert math.isclose(float(one), float(two), rel_tol=0.005, abs_tol=room), f"the page says {one}, the code {two}"


def _last_digit(text: str) -> float:
    """One unit in the last digit that is written."""
    mantissa, _, exponent = text.partition("e")
    return float(10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2])))


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def small_png(png: bytes) -> bytes:
    """The same picture with a palette."""
    sink = io.BytesIO()
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(sink, "PNG", optimize=True)
    return sink.getvalue()


def assert_small_and_wide(folder: Path, names: Iterable[str], most_bytes: int) -> None:
    """The folder's pictures are ``names``, PNG files that can be read and do not weigh much. Raises AssertionError."""
    assert sorted(names) == sorted(path.stem for path in folder.iterdir())
    for path in folder.iterdir():
        content = path.read_bytes()
        width, height = struct.unpack(">II", content[16:24])
        assert content.startswith(b"\x89PNG") and len(content) <= most_bytes and width >= 800 and height > 300
