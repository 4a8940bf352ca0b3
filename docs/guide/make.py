"""Make the guide's example: ``python docs/guide/make.py FOLDER`` writes its tables of runs into FOLDER, for the commands.

With ``--page`` it also makes every figure and every table of measuring-progress.md anew, from the real functions.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the folder of pages.py
import figures
import pages
from blocks import BLOCKS
from example import write_tables

HERE = Path(__file__).resolve().parent
PAGE = HERE / "measuring-progress.md"
FIGURES = HERE / "figures"


def write_page(page: Path) -> None:
    """Replace every block of ``page``. Raises ValueError for a block without a place or with several."""
    pages.write_blocks(page, BLOCKS)


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
