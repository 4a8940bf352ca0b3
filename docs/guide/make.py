"""Make the guide's example: ``python docs/guide/make.py FOLDER`` writes its tables of runs into FOLDER, for the commands.

With ``--page`` it also makes every figure and every table of measuring-progress.md anew, from the real functions.
"""

from __future__ import annotations

import argparse
import re
import time
from pathlib import Path

import figures
from blocks import BLOCKS
from example import write_tables

HERE = Path(__file__).resolve().parent
PAGE = HERE / "measuring-progress.md"
FIGURES = HERE / "figures"


def block(name: str) -> re.Pattern[str]:
    """A block with its markers; its text is the group ``text``."""
    return re.compile(rf"(?P<begin><!-- made: {name} -->\n)(?P<text>.*?)\n?(?P<end><!-- end of {name} -->)", re.DOTALL)


def write_page(page: Path) -> None:
    """Replace every block of ``page``. Raises ValueError for a block without a place or with several."""
    text = page.read_text(encoding="utf-8")
    for name in BLOCKS:
        places = len(block(name).findall(text))
        if places != 1:
            raise ValueError(f"block {name} has {places} places in {page.name}, expected one")
    for name, make in BLOCKS.items():
        made = make()
        text = block(name).sub(lambda found, made=made: f"{found['begin']}{made}\n{found['end']}", text)  # type: ignore[misc]
    page.write_text(text, encoding="utf-8")


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="for runs.csv, rows-as-runs.csv and stalls.csv")
    parser.add_argument("--page", action="store_true", help="also make the page's figures and tables anew")
    chosen = parser.parse_args(arguments)
    started = time.perf_counter()
    for path in write_tables(chosen.folder):
        print(path)
    if chosen.page:
        for path in figures.write_figures(FIGURES):
            print(path)
        write_page(PAGE)
        print(f"{PAGE} after {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
